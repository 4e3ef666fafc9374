"""Stories as animated GIF or WebP."""

import io
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from consistory_svd.errors import FieldError
from consistory_svd.export.book import Book, image_aspect
from consistory_svd.export.fonts import Typeface
from consistory_svd.export.layout import Box, PageLayout, Spacing
from consistory_svd.export.pdf import VEIL, Surface, as_images
from consistory_svd.export.settings import ExportSettings

DPI = 72.0  # a point is a pixel
MAX_PIXELS = 150_000_000  # of all frames together: they are in memory at once
SAMPLE_SIDE = 160
TEXT_GREYS = (27, 90, 150, 205, 255)  # reserved in a palette, so that captions keep their colours


def render_frames(book: Book, settings: ExportSettings, face: Typeface) -> list[Image.Image]:
    """The frames of an animation, all of one size; `settings.side` limits the longer side.

    They are drawn as PDF pages and rendered, for the same fonts, lines and captions as a book's.

    Raises:
        ValueError: this many images of that size need too much memory; the message names `side`.
    """
    side, covers = settings.side, settings.place == "in"
    limit = math.isqrt(MAX_PIXELS // len(book.leaves))
    if side > limit:
        raise FieldError("side", side, f"at most {limit} pixels for {len(book.leaves)} images")
    sizes = tuple(sorted({max(7, side // part) for part in (20, 22, 24, 27, 30, 34)}, reverse=True))
    spacing = Spacing(sizes, gutter=0.0, gap=side / 50, inset=side / 48, margin=side / 40)
    captions = [leaf.caption for leaf in book.leaves]
    below = any(captions) and not covers
    space = Box(0, 0, side, side - spacing.gap if below else side)
    layout = PageLayout(space, 1, image_aspect(book), covers, face, spacing)
    first = layout.arrange(captions)[0][0].image
    layout = replace(layout, space=replace(space, left=-first.left, top=-first.top))  # no empty border
    panels = [page[0] for page in layout.arrange(captions)]
    band = max((panel.caption.box.height for panel in panels if panel.caption), default=0.0)
    height = first.height + (band + 2 * spacing.gap if below else 0.0)
    surface = Surface((round(first.width), round(height)), book.title, DPI, lossless=True)
    for panel, leaf in zip(panels, book.leaves, strict=True):
        surface.image(leaf.image, panel.image)
        if panel.caption:
            surface.caption(face, panel.caption, align=0.5, fill=VEIL, radius=side / 100)
        surface.next_page()
    return list(as_images(surface.finish(), DPI))


def as_gif(frames: Sequence[Image.Image], settings: ExportSettings) -> bytes:
    """A GIF whose frames share a palette of 256 colours, so that nothing flickers."""
    palette = _contact_sheet(frames).quantize(256 - len(TEXT_GREYS), Image.Quantize.MEDIANCUT)
    colours = palette.getpalette()[: 3 * (256 - len(TEXT_GREYS))]
    palette.putpalette([*colours, *(channel for grey in TEXT_GREYS for channel in (grey, grey, grey))])
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    # GIF counts in hundredths of a second.
    options = {"duration": round(settings.seconds * 100) * 10, "disposal": 1, "optimize": False}
    return _save(drawn, "GIF", **options, **({"loop": 0} if settings.repeat else {}))


def as_webp(frames: Sequence[Image.Image], settings: ExportSettings) -> bytes:
    """An animated WebP, in full colour."""
    loop = 0 if settings.repeat else 1
    return _save(frames, "WEBP", duration=round(settings.seconds * 1000), loop=loop, quality=88, method=4)


def _contact_sheet(frames: Sequence[Image.Image]) -> Image.Image:
    """All frames, small, side by side."""
    sheet = Image.new("RGB", (SAMPLE_SIDE * len(frames), SAMPLE_SIDE))
    for number, frame in enumerate(frames):
        sheet.paste(frame.resize((SAMPLE_SIDE, SAMPLE_SIDE)), (number * SAMPLE_SIDE, 0))
    return sheet


def _save(frames: Sequence[Image.Image], kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=list(frames[1:]), **options)
    return file.getvalue()
