"""Where images and captions stand on a page. Lengths are points, 72 per inch; y grows downwards."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from consistory_svd.export.fonts import Typeface

LEADING = 1.22  # line height, as a multiple of the font size
# (columns, rows) by panels per page; the grid with the larger images is used.
GRIDS = {1: [(1, 1)], 2: [(1, 2), (2, 1)], 4: [(2, 2)], 6: [(2, 3), (3, 2)]}
MAX_LINES = 4  # in any font size but the smallest
MAX_COVERED = 0.4  # of an image's height, by the caption on it


@dataclass(frozen=True)
class Box:
    """A rectangle, by its upper left corner."""

    left: float
    top: float
    width: float
    height: float

    def fitted(self, aspect: float) -> "Box":
        """The largest rectangle of width / height `aspect`, centred in this one."""
        width = min(self.width, self.height * aspect)
        height = width / aspect
        return Box(self.left + (self.width - width) / 2, self.top + (self.height - height) / 2, width, height)


@dataclass(frozen=True)
class Caption:
    """Lines of text in a box.

    Attributes:
        padding: free space at the left and right in the box.
        covers: whether the box lies on the image.
    """

    lines: tuple[str, ...]
    size: float
    box: Box
    padding: float
    covers: bool

    @property
    def height(self) -> float:
        """The height of the lines."""
        return len(self.lines) * self.size * LEADING


@dataclass(frozen=True)
class Panel:
    """A cell of a page: the box of its image, and its caption, if any."""

    image: Box
    caption: Caption | None = None


@dataclass(frozen=True)
class Spacing:
    """What differs between a storybook, a comic and an animation.

    Attributes:
        sizes: font sizes of captions, from large to small.
        gutter: space between panels.
        gap: space between an image and the caption below it.
        inset: space between a caption on an image and the image's edge.
        margin: space beside a caption below an image.
        above: the share of a page's spare height that is left above the panels.
    """

    sizes: tuple[float, ...]
    gutter: float
    gap: float
    inset: float
    margin: float = 0.0
    above: float = 0.5


@dataclass(frozen=True)
class PageLayout:
    """Pages of equal panels in a rectangle.

    Attributes:
        space: the part of the page that panels may use.
        panels: panels per page, a key of GRIDS.
        aspect: width / height of the images.
        covers: whether captions lie on the images.
    """

    space: Box
    panels: int
    aspect: float
    covers: bool
    face: Typeface
    spacing: Spacing

    def arrange(self, captions: Sequence[str]) -> list[list[Panel]]:
        """The panels of each page, one for each caption.

        All captions have the largest font size at which each takes few lines. If even the smallest is too
        large, they are truncated.
        """
        size, lines = self._font_size(captions) if any(captions) else (0, 0)
        band = 0.0 if self.covers or not any(captions) else lines * size * LEADING + self.spacing.gap
        columns, rows, image = self._grid(band)
        gutter, space = self.spacing.gutter, self.space
        width, height = image.width + gutter, image.height + band + gutter
        left = space.left + (space.width - columns * width + gutter) / 2
        top = space.top + (space.height - rows * height + gutter) * self.spacing.above
        pages = []
        for start in range(0, len(captions), self.panels):
            page = []
            for number, text in enumerate(captions[start : start + self.panels]):
                row, column = divmod(number, columns)
                box = replace(image, left=left + column * width, top=top + row * height)
                page.append(Panel(box, self._caption(text, box, size, lines) if text else None))
            pages.append(page)
        return pages

    def _font_size(self, captions: Sequence[str]) -> tuple[float, int]:
        """The font size and number of lines that fit all captions."""
        tries = [(size, lines) for size in self.spacing.sizes for lines in range(1, MAX_LINES + 1)]
        smallest = self.spacing.sizes[-1]
        tries += [(smallest, lines) for lines in range(MAX_LINES + 1, 30)]
        best = (smallest, 1)
        for size, lines in tries:
            width, limit = self._caption_space(size, lines)
            if lines > limit:
                continue
            if all(self.face.fits(text, size, width, lines) for text in captions):
                return size, lines
            if size == smallest:
                best = (size, lines)
        return best

    def _caption_space(self, size: float, lines: int) -> tuple[float, int]:
        """The width of a caption with this many lines, and how many lines it may have."""
        band = 0.0 if self.covers else lines * size * LEADING + self.spacing.gap
        *_, image = self._grid(band)
        if self.covers:
            limit = int(MAX_COVERED * image.height / (size * LEADING))
            return image.width - 4 * self.spacing.inset, max(1, limit)
        # A caption takes at most as much height as its image.
        limit = lines if image.height >= band else lines - 1
        return image.width - 2 * self.spacing.margin, max(1, limit)

    def _grid(self, band: float) -> tuple[int, int, Box]:
        """Columns, rows and the size of an image if captions take a band of this height."""

        def cell(columns: int, rows: int) -> Box:
            width = (self.space.width - (columns - 1) * self.spacing.gutter) / columns
            height = (self.space.height - (rows - 1) * self.spacing.gutter) / rows - band
            return Box(0.0, 0.0, width, max(height, 1.0)).fitted(self.aspect)

        columns, rows = max(GRIDS[self.panels], key=lambda grid: cell(*grid).width)
        return columns, rows, cell(columns, rows)

    def _caption(self, text: str, image: Box, size: float, lines: int) -> Caption:
        spacing = self.spacing
        edge = 2 * spacing.inset if self.covers else spacing.margin
        width = image.width - 2 * edge
        wrapped = self.face.wrap(text, size, width)
        if len(wrapped) > lines:
            wrapped = self.face.truncate(text, size, width, lines)
        bottom = image.top + image.height
        if self.covers:
            height = len(wrapped) * size * LEADING + spacing.inset
            box = Box(image.left + spacing.inset, bottom - spacing.inset - height, width + edge, height)
        else:
            box = Box(image.left + spacing.margin, bottom + spacing.gap, width, lines * size * LEADING)
        return Caption(tuple(wrapped), size, box, spacing.inset if self.covers else 0.0, self.covers)
