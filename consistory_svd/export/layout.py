"""Where pictures and captions stand on a page. Lengths are points, 72 an inch; y grows downwards."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from consistory_svd.export.fonts import Typeface

LEADING = 1.22  # of the letters' size, from line to line
# Columns and rows that a layout may have; the one that shows pictures larger is taken.
GRIDS = {1: [(1, 1)], 2: [(1, 2), (2, 1)], 4: [(2, 2)], 6: [(2, 3), (3, 2)]}
MOST_LINES = 4
MOST_COVERED = 0.4  # of a picture's height, by the caption in it


@dataclass(frozen=True)
class Box:
    """A rectangle, by its upper left corner."""

    left: float
    top: float
    width: float
    height: float

    def inset(self, by: float) -> "Box":
        """The rectangle without a rim."""
        return Box(self.left + by, self.top + by, self.width - 2 * by, self.height - 2 * by)

    def moved(self, right: float, down: float) -> "Box":
        """The rectangle elsewhere."""
        return replace(self, left=self.left + right, top=self.top + down)

    def fitted(self, aspect: float) -> "Box":
        """The largest rectangle of width to height `aspect` in the middle of this one."""
        width = min(self.width, self.height * aspect)
        height = width / aspect
        return Box(self.left + (self.width - width) / 2, self.top + (self.height - height) / 2, width, height)


@dataclass(frozen=True)
class Caption:
    """Lines of one size, the box that they stand in, and the rim that they leave free in it at both sides;
    `covers` says that the box lies on the picture."""

    lines: tuple[str, ...]
    size: float
    box: Box
    rim: float
    covers: bool

    @property
    def height(self) -> float:
        """What the lines take."""
        return len(self.lines) * self.size * LEADING


@dataclass(frozen=True)
class Panel:
    """A cell of a page: its picture's place, and its caption, if it has one."""

    picture: Box
    caption: Caption | None = None

    def moved(self, right: float, down: float) -> "Panel":
        """The panel elsewhere."""
        caption = self.caption and replace(self.caption, box=self.caption.box.moved(right, down))
        return Panel(self.picture.moved(right, down), caption)


@dataclass(frozen=True)
class Look:
    """What differs between a storybook, a comic and an animation: letters' sizes from large to small, the
    space between pictures, between a picture and its caption, of a caption in a picture to the picture's rim,
    and beside a caption below it. `above` is the share of a page's spare height that stays free above."""

    sizes: tuple[float, ...]
    gutter: float
    gap: float
    inset: float
    rim: float = 0.0
    above: float = 0.5


def arrange(
    captions: Sequence[str],
    aspect: float,
    space: Box,
    panels: int,
    covers: bool,
    face: Typeface,
    look: Look,
) -> list[list[Panel]]:
    """Pages of at most `panels` panels in `space`, a panel a caption, all of one size.

    Captions are set in the largest letters in which each takes few lines, and cut where even the smallest
    do not suffice; `covers` puts them into the pictures. `aspect` is the pictures' width to height.
    """
    under = not covers and any(captions)
    size, lines = _letters(captions, aspect, space, panels, covers, face, look) if any(captions) else (0, 0)
    band = lines * size * LEADING + look.gap if under else 0.0
    columns, rows, picture = _grid(aspect, space, panels, look.gutter, band)
    cell_width, cell_height = picture.width + look.gutter, picture.height + band + look.gutter
    left = space.left + (space.width - columns * cell_width + look.gutter) / 2
    top = space.top + (space.height - rows * cell_height + look.gutter) * look.above
    pages = []
    for start in range(0, len(captions), panels):
        page = []
        for place, text in enumerate(captions[start : start + panels]):
            row, column = divmod(place, columns)
            box = replace(picture, left=left + column * cell_width, top=top + row * cell_height)
            page.append(Panel(box, _caption(text, box, size, lines, covers, face, look) if text else None))
        pages.append(page)
    return pages


def _letters(
    captions: Sequence[str],
    aspect: float,
    space: Box,
    panels: int,
    covers: bool,
    face: Typeface,
    look: Look,
) -> tuple[float, int]:
    """Size and number of lines that all captions fit."""
    for size in look.sizes:
        for lines in range(1, MOST_LINES + 1):
            width, most = _room(aspect, space, panels, covers, size, lines, look)
            if lines <= most and all(face.fits(text, size, width, lines) for text in captions):
                return size, lines
    size = look.sizes[-1]
    for lines in range(MOST_LINES + 1, 30):
        width, most = _room(aspect, space, panels, covers, size, lines, look)
        if lines > most:
            break
        if all(face.fits(text, size, width, lines) for text in captions):
            return size, lines
    return size, lines - 1


def _room(
    aspect: float, space: Box, panels: int, covers: bool, size: float, lines: int, look: Look
) -> tuple[float, int]:
    """How wide a caption of so many lines may be, and how many lines it may have at most."""
    band = 0.0 if covers else lines * size * LEADING + look.gap
    *_, picture = _grid(aspect, space, panels, look.gutter, band)
    if covers:
        return picture.width - 4 * look.inset, max(1, int(MOST_COVERED * picture.height / (size * LEADING)))
    # Below half its height the picture gives no more room to words.
    most = lines if picture.height >= band else lines - 1
    return picture.width - 2 * look.rim, max(1, most)


def _grid(aspect: float, space: Box, panels: int, gutter: float, band: float) -> tuple[int, int, Box]:
    """Columns, rows, and a picture of the size that they leave."""

    def cell(columns: int, rows: int) -> Box:
        width = (space.width - (columns - 1) * gutter) / columns
        height = (space.height - (rows - 1) * gutter) / rows - band
        return Box(0.0, 0.0, width, max(height, 1.0)).fitted(aspect)

    columns, rows = max(GRIDS[panels], key=lambda grid: cell(*grid).width)
    return columns, rows, cell(columns, rows)


def _caption(
    text: str, picture: Box, size: float, lines: int, covers: bool, face: Typeface, look: Look
) -> Caption:
    rim = 2 * look.inset if covers else look.rim
    width = picture.width - 2 * rim
    written = face.wrapped(text, size, width)
    written = written if len(written) <= lines else face.cut(text, size, width, lines)
    bottom = picture.top + picture.height
    if covers:
        height = len(written) * size * LEADING + look.inset
        box = Box(picture.left + look.inset, bottom - look.inset - height, width + rim, height)
    else:
        box = Box(picture.left + look.rim, bottom + look.gap, width, lines * size * LEADING)
    return Caption(tuple(written), size, box, look.inset if covers else 0.0, covers)
