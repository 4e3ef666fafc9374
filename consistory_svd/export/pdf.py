"""Storybooks and comics as PDF, and PDF pages as images.

Drawn on reportlab's canvas: Platypus flows text over pages, while here every panel of a book has the same
size, the font size that fits all captions is searched for, and a comic's images lie exactly on the pixels of
its PNG.
"""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
from PIL import Image
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from consistory_svd.export.book import Book, image_aspect, open_image
from consistory_svd.export.fonts import Typeface
from consistory_svd.export.layout import LEADING, Box, Caption, PageLayout, Panel, Spacing
from consistory_svd.export.settings import PAPERS, ExportSettings

INK = HexColor("#1c1917")
GREY = HexColor("#57534e")
CREAM = HexColor("#fffbeb")
VEIL = Color(1, 1, 1, alpha=0.86)
PRINT_DPI = 200
RENDERER = threading.Lock()  # pdfium must not be entered by two threads at once

# Font sizes of captions by panels per page; the first that fits is used.
STORYBOOK_SIZES = {1: range(26, 8, -1), 2: range(18, 8, -1), 4: range(15, 7, -1), 6: range(14, 7, -1)}
COMIC_SIZES = {1: range(18, 8, -1), 2: range(15, 7, -1), 4: range(14, 7, -1), 6: range(12, 6, -1)}
STORYBOOK_MARGIN = 54.0
COMIC_MARGIN = 32.0
COMIC_HEADER = 52.0
FOOTER = 26.0
FRAME_LINE = 1.6
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
COLOPHON = "How this story was generated"
NO_GLYPHS = "uses letters that these fonts lack; see story.json"


class Surface:
    """A PDF that is drawn page by page. Lengths are points; y grows downwards.

    Args:
        size: width and height of a page.
        dpi: images are aligned to pixels of this resolution.
        lossless: images have exactly the pixels of `dpi`, for pages that become images. Otherwise they are
            JPEG at their own resolution, enlarged if that is too low to look smooth.
    """

    def __init__(self, size: tuple[float, float], title: str, dpi: float, lossless: bool = False) -> None:
        self.width, self.height = size
        self._dpi, self._lossless = dpi, lossless
        self._file = io.BytesIO()
        # invariant: the same story gives the same bytes
        self._canvas = Canvas(self._file, pagesize=size, invariant=1, pageCompression=1)
        self._canvas.setTitle(title)
        self._canvas.setCreator("consistory-svd")

    def image(self, file: Path, place: Box) -> Box:
        """Draw an image as large as fits into `place`, centred; return its box."""
        image = open_image(file)
        scale = self._dpi / 72
        box = place.fitted(image.width / image.height)
        left, top, width, height = (
            round(length * scale) for length in (box.left, box.top, box.width, box.height)
        )
        if self._lossless or image.width < width:
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        box = Box(left / scale, top / scale, width / scale, height / scale)
        source = image if self._lossless else io.BytesIO(_encode(image, "JPEG", quality=93, subsampling=0))
        bottom = self._up(box.top + box.height)
        self._canvas.drawImage(ImageReader(source), box.left, bottom, box.width, box.height)
        return box

    def rectangle(self, box: Box, fill: Color | None = None, line: float = 0.0, radius: float = 0.0) -> None:
        """Draw a rectangle: filled, with an ink outline of that width, or both."""
        canvas = self._canvas
        if fill is not None:
            canvas.setFillColor(fill)
        canvas.setStrokeColor(INK)
        canvas.setLineWidth(line)
        bottom = self._up(box.top + box.height)
        paint = {"stroke": int(line > 0), "fill": int(fill is not None)}
        canvas.roundRect(box.left, bottom, box.width, box.height, radius, **paint)

    def rule(self, middle: float, y: float, width: float) -> None:
        """Draw a thin horizontal line centred at `middle`."""
        self._canvas.setStrokeColor(GREY)
        self._canvas.setLineWidth(0.7)
        self._canvas.line(middle - width / 2, self._up(y), middle + width / 2, self._up(y))

    def text(
        self, face: Typeface, text: str, x: float, y: float, size: float, align: float, color: Color = INK
    ) -> None:
        """Draw a line of text, its baseline at `y`, the share `align` of its width left of `x`."""
        x -= align * face.width(text, size)
        self._canvas.setFillColor(color)
        for font, piece in face.runs(text):
            self._canvas.setFont(font.fontName, size)
            self._canvas.drawString(x, self._up(y), piece)
            x += font.stringWidth(piece, size)

    def caption(self, face: Typeface, caption: Caption, align: float, fill: Color, **outline: float) -> None:
        """Draw a caption: from the top of its box below an image, centred in a filled box on an image."""
        spare = 0.0
        if caption.covers:
            self.rectangle(caption.box, fill, **outline)
            spare = (caption.box.height - caption.height) / 2
        x = caption.box.left + caption.padding + align * (caption.box.width - 2 * caption.padding)
        for number, text in enumerate(caption.lines):
            # Half a capital's height below the middle of the line.
            baseline = caption.box.top + spare + ((number + 0.5) * LEADING + 0.3) * caption.size
            self.text(face, text, x, baseline, caption.size, align)

    def bookmark(self, name: str) -> None:
        """Add the current page to the PDF's outline."""
        key = f"page-{self._canvas.getPageNumber()}"
        self._canvas.bookmarkPage(key)
        self._canvas.addOutlineEntry(name, key)

    def next_page(self) -> None:
        """Finish the current page."""
        self._canvas.showPage()

    def finish(self) -> bytes:
        """The PDF, after its last page is finished."""
        self._canvas.save()
        return self._file.getvalue()

    def _up(self, y: float) -> float:
        """PDF's y grows upwards."""
        return self.height - y


def storybook(book: Book, settings: ExportSettings, face: Typeface, italic: Typeface) -> bytes:
    """A PDF with a title page, the images with captions, and how they were generated."""
    surface = Surface(PAPERS[settings.paper], book.title, PRINT_DPI)
    _title_page(surface, book, face, italic)
    margin, sizes = STORYBOOK_MARGIN, tuple(STORYBOOK_SIZES[settings.panels])
    space = Box(margin, margin, surface.width - 2 * margin, surface.height - 2 * margin - FOOTER)
    spacing = Spacing(sizes, gutter=26.0, gap=16.0 if settings.panels == 1 else 8.0, inset=10.0)
    leaves = iter(book.leaves)
    for number, page in enumerate(_pages(book, space, settings, face, spacing), start=1):
        for place, (panel, leaf) in enumerate(zip(page, leaves, strict=False)):
            if place == 0:
                surface.bookmark(leaf.caption or f"Image {number}")
            surface.image(leaf.image, panel.image)
            if panel.caption:
                surface.caption(face, panel.caption, align=0.5, fill=VEIL, radius=6)
        bottom = surface.height - margin + 12
        surface.text(face, str(number), surface.width / 2, bottom, 11, 0.5, GREY)
        surface.next_page()
    _colophon(surface, book, face, italic)
    return surface.finish()


def comic(
    book: Book, settings: ExportSettings, face: Typeface, italic: Typeface, lossless: bool = False
) -> bytes:
    """A PDF of comic pages; `lossless` as in `Surface`."""
    surface = Surface(PAPERS[settings.paper], book.title, PRINT_DPI, lossless)
    margin, top = COMIC_MARGIN, COMIC_MARGIN + COMIC_HEADER
    space = Box(margin, top, surface.width - 2 * margin, surface.height - top - margin - 10)
    sizes = tuple(COMIC_SIZES[settings.panels])
    spacing = Spacing(sizes, gutter=15.0, gap=5.0, inset=7.0, above=0.15)
    pages = _pages(book, space, settings, face, spacing)
    leaves = iter(book.leaves)
    for number, page in enumerate(pages, start=1):
        _comic_header(surface, book.title, face if number == 1 else italic, number, len(pages))
        for panel, leaf in zip(page, leaves, strict=False):
            surface.rectangle(surface.image(leaf.image, panel.image), line=FRAME_LINE)
            if panel.caption:
                surface.caption(face, panel.caption, align=0.0, fill=CREAM, line=1.0)
        surface.next_page()
    return surface.finish()


def _pages(
    book: Book, space: Box, settings: ExportSettings, face: Typeface, spacing: Spacing
) -> list[list[Panel]]:
    covers = settings.place == "in"
    layout = PageLayout(space, settings.panels, image_aspect(book), covers, face, spacing)
    return layout.arrange([leaf.caption for leaf in book.leaves])


def _title_page(surface: Surface, book: Book, face: Typeface, italic: Typeface) -> None:
    middle, width = surface.width / 2, surface.width - 2 * STORYBOOK_MARGIN
    size, lines = _heading(book.title, face, width, range(46, 17, -2), max_lines=3)
    side = min(0.62 * surface.width, 0.48 * surface.height)
    top = (surface.height - side) / 2 + 0.06 * surface.height
    for number, line in enumerate(reversed(lines)):
        surface.text(face, line, middle, top - 64 - number * 1.15 * size, size, 0.5)
    surface.rule(middle, top - 36, 60)
    surface.image(book.leaves[0].image, Box(middle - side / 2, top, side, side))
    count = len(book.leaves)
    number = NUMBERS[count] if count < len(NUMBERS) else count
    subtitle = f"A story in {number} {'picture' if count == 1 else 'pictures'}"
    surface.text(italic, subtitle, middle, top + side + 40, 17, 0.5, GREY)
    surface.bookmark(book.title)
    surface.next_page()


def _colophon(surface: Surface, book: Book, face: Typeface, italic: Typeface) -> None:
    middle, size = surface.width / 2, 12.0
    rows = []
    for label, text in book.details.items():
        drawn = NO_GLYPHS if face.missing(text) else text
        rows.append((label, face.truncate(drawn, size, surface.width / 2 - STORYBOOK_MARGIN, 3)))
    y = (surface.height - sum(len(lines) for _, lines in rows) * 1.5 * size) / 2
    surface.text(face, COLOPHON, middle, y - 50, 22, 0.5)
    surface.rule(middle, y - 30, 60)
    for label, lines in rows:
        surface.text(italic, label, middle - 8, y, size, 1.0, GREY)
        for line in lines:
            surface.text(face, line, middle + 8, y, size, 0.0)
            y += 1.5 * size
    surface.bookmark(COLOPHON)
    surface.next_page()


def _comic_header(surface: Surface, title: str, face: Typeface, number: int, pages: int) -> None:
    sizes = range(30, 11, -1) if number == 1 else range(15, 9, -1)
    size, lines = _heading(title, face, surface.width - 2 * COMIC_MARGIN, sizes, max_lines=1)
    surface.text(face, lines[0], surface.width / 2, COMIC_MARGIN + 28, size, 0.5)
    if pages > 1:
        y = surface.height - COMIC_MARGIN + 8
        surface.text(face, f"{number} of {pages}", surface.width / 2, y, 10, 0.5, GREY)


def _heading(text: str, face: Typeface, width: float, sizes: range, max_lines: int) -> tuple[int, list[str]]:
    """The largest size at which a heading fits, and its lines; truncated at the smallest size."""
    for size in sizes:
        if len(lines := face.wrap(text, size, width)) <= max_lines:
            return size, lines
    return size, face.truncate(text, size, width, max_lines)


def as_images(pdf: bytes, dpi: float) -> Iterator[Image.Image]:
    """The pages of a PDF as RGB images, rendered one at a time."""
    with RENDERER:
        document = pypdfium2.PdfDocument(pdf)
        count = len(document)
    for number in range(count):
        with RENDERER:
            page = document[number]
            image = page.render(scale=dpi / 72).to_pil().convert("RGB")
            page.close()
        yield image
    with RENDERER:
        document.close()


def as_png(image: Image.Image, dpi: float) -> bytes:
    """A page as PNG that knows its size on paper."""
    return _encode(image, "PNG", dpi=(dpi, dpi))


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
