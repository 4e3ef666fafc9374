"""Stories as animations: GIF and WebP."""

import io
import math
from collections.abc import Sequence

from PIL import Image

from consistory_svd.export.book import Book, aspect_of
from consistory_svd.export.fonts import Typeface
from consistory_svd.export.layout import Box, Look, Panel, arrange
from consistory_svd.export.pdf import VEIL, Surface, as_pictures
from consistory_svd.export.settings import ExportSettings

PIXELS = 72.0  # dots per inch at which a point is a pixel
MOST_PIXELS = 150_000_000  # of all pictures together: they are in memory at once
SAMPLE_SIDE = 160
LETTERS = (27, 90, 150, 205, 255)  # greys that captions and what is below them take, whatever the pictures


def frames(book: Book, settings: ExportSettings, face: Typeface) -> list[Image.Image]:
    """The animation's pictures, all of one size, whose longer side is `settings.side` at most.

    ValueError, naming `side`, where so many pictures of that size need too much memory.
    """
    side, covers = settings.side, settings.place == "in"
    most = math.isqrt(MOST_PIXELS // len(book.leaves))
    if side > most:
        raise ValueError(
            f"side: {side} is not allowed for {len(book.leaves)} pictures; give at most {most} pixels"
        )
    sizes = tuple(sorted({max(7, side // part) for part in (20, 22, 24, 27, 30, 34)}, reverse=True))
    look = Look(sizes, gutter=0.0, gap=side / 50, inset=side / 48, rim=side / 40)
    captions = [leaf.caption for leaf in book.leaves]
    space = Box(0, 0, side, side if covers or not any(captions) else side - look.gap)
    pages = arrange(captions, aspect_of(book), space, 1, covers, face, look)
    panels = [page[0] for page in pages]
    surface = Surface(_sheet(panels, look), book.title, PIXELS, lossless=True)
    for panel, leaf in zip(panels, book.leaves, strict=True):
        left, top = panels[0].picture.left, panels[0].picture.top
        panel = panel.moved(-left, -top)
        surface.picture(leaf.picture, panel.picture)
        if panel.caption:
            if covers:
                surface.rectangle(panel.caption.box, VEIL, radius=side / 100)
            surface.caption(face, panel.caption, align=0.5)
        surface.next_page()
    return list(as_pictures(surface.finished(), PIXELS))


def as_gif(pictures: Sequence[Image.Image], settings: ExportSettings) -> bytes:
    """The pictures as GIF, in 256 colours that they share, so that nothing flickers from one to the next."""
    colours = _sample(pictures).quantize(256 - len(LETTERS), Image.Quantize.MEDIANCUT)
    own = colours.getpalette()[: 3 * (256 - len(LETTERS))]
    colours.putpalette([*own, *(channel for grey in LETTERS for channel in (grey, grey, grey))])
    drawn = [picture.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    # GIF counts in hundredths of a second.
    options = {"duration": round(settings.seconds * 100) * 10, "disposal": 1, "optimize": False}
    return _saved(drawn, "GIF", **options, **({"loop": 0} if settings.repeat else {}))


def as_webp(pictures: Sequence[Image.Image], settings: ExportSettings) -> bytes:
    """The pictures as animated WebP, in all colours."""
    loop = 0 if settings.repeat else 1
    return _saved(pictures, "WEBP", duration=round(settings.seconds * 1000), loop=loop, quality=88, method=4)


def _sheet(panels: Sequence[Panel], look: Look) -> tuple[int, int]:
    """Width and height that a picture and the caption below it take."""
    picture = panels[0].picture
    below = [panel.caption for panel in panels if panel.caption and not panel.caption.covers]
    band = max((caption.box.height for caption in below), default=0.0)
    return round(picture.width), round(picture.height + (band + 2 * look.gap if below else 0.0))


def _sample(pictures: Sequence[Image.Image]) -> Image.Image:
    """All pictures, small, side by side."""
    sheet = Image.new("RGB", (SAMPLE_SIDE * len(pictures), SAMPLE_SIDE))
    for number, picture in enumerate(pictures):
        sheet.paste(picture.resize((SAMPLE_SIDE, SAMPLE_SIDE)), (number * SAMPLE_SIDE, 0))
    return sheet


def _saved(pictures: Sequence[Image.Image], kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    pictures[0].save(file, kind, save_all=True, append_images=list(pictures[1:]), **options)
    return file.getvalue()
