"""Pages painted as PDF, and PDF pages made into pictures."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
from PIL import Image
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from consistory_svd.export.book import opened
from consistory_svd.export.fonts import Typeface
from consistory_svd.export.layout import LEADING, Box, Caption

INK = HexColor("#1c1917")
GREY = HexColor("#57534e")
CREAM = HexColor("#fffbeb")
VEIL = Color(1, 1, 1, alpha=0.86)
PRINT_DPI = 200
# The renderer must not be entered by two threads at once.
RENDERER = threading.Lock()


class Surface:
    """A PDF that grows page by page; lengths are points, y grows downwards.

    Pictures come to lie on the pixels of `dpi`. Where `lossless` they have exactly those pixels, for pages
    that become pictures; else they are JPEG with their own, and more where they have too few to look smooth.
    """

    def __init__(self, size: tuple[float, float], title: str, dpi: float, lossless: bool = False) -> None:
        self.width, self.height = size
        self._dpi, self._lossless = dpi, lossless
        self._file = io.BytesIO()
        # Invariant: the same story gives the same bytes.
        self._canvas = Canvas(self._file, pagesize=size, invariant=1, pageCompression=1)
        self._canvas.setTitle(title)
        self._canvas.setCreator("consistory-svd")

    def picture(self, file: Path, place: Box) -> Box:
        """Draw a picture as large as `place` lets it, in its middle; where it came to stand."""
        image = opened(file)
        scale = self._dpi / 72
        box = place.fitted(image.width / image.height)
        left, top, width, height = (
            round(length * scale) for length in (box.left, box.top, box.width, box.height)
        )
        if self._lossless or image.width < width:
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        box = Box(left / scale, top / scale, width / scale, height / scale)
        reader = ImageReader(image if self._lossless else _as_jpeg(image))
        self._canvas.drawImage(reader, box.left, self._up(box.top + box.height), box.width, box.height)
        return box

    def rectangle(self, box: Box, fill: Color | None = None, line: float = 0.0, radius: float = 0.0) -> None:
        """Draw a rectangle, filled, or with an ink line of that width, or both."""
        canvas = self._canvas
        if fill is not None:
            canvas.setFillColor(fill)
        canvas.setStrokeColor(INK)
        canvas.setLineWidth(line)
        bottom = self._up(box.top + box.height)
        looks = {"stroke": int(line > 0), "fill": int(fill is not None)}
        canvas.roundRect(box.left, bottom, box.width, box.height, radius, **looks)

    def rule(self, middle: float, y: float, width: float) -> None:
        """Draw a thin line of that width across `middle`."""
        self._canvas.setStrokeColor(GREY)
        self._canvas.setLineWidth(0.7)
        self._canvas.line(middle - width / 2, self._up(y), middle + width / 2, self._up(y))

    def text(
        self,
        face: Typeface,
        text: str,
        x: float,
        baseline: float,
        size: float,
        align: float,
        color: Color = INK,
    ) -> None:
        """Write a line; `align` of its width is left of `x`: 0.5 centres it."""
        x -= align * face.width(text, size)
        self._canvas.setFillColor(color)
        for font, piece in face.runs(text):
            self._canvas.setFont(font.fontName, size)
            self._canvas.drawString(x, self._up(baseline), piece)
            x += font.stringWidth(piece, size)

    def caption(self, face: Typeface, caption: Caption, align: float) -> None:
        """Write a caption's lines, from the top of its box where it stands below, in its middle else."""
        spare = (caption.box.height - caption.height) / 2 if caption.covers else 0.0
        x = caption.box.left + caption.rim + align * (caption.box.width - 2 * caption.rim)
        for number, line in enumerate(caption.lines):
            # Half of a capital's height below the middle of the line.
            baseline = caption.box.top + spare + ((number + 0.5) * LEADING + 0.3) * caption.size
            self.text(face, line, x, baseline, caption.size, align)

    def bookmark(self, name: str) -> None:
        """List the page that is being painted under that name in the PDF's outline."""
        key = f"page-{self._canvas.getPageNumber()}"
        self._canvas.bookmarkPage(key)
        self._canvas.addOutlineEntry(name, key)

    def next_page(self) -> None:
        """The page is finished."""
        self._canvas.showPage()

    def finished(self) -> bytes:
        """The PDF, whose last page is finished."""
        self._canvas.save()
        return self._file.getvalue()

    def _up(self, y: float) -> float:
        """PDF counts from below."""
        return self.height - y


def as_pictures(pdf: bytes, dpi: float) -> Iterator[Image.Image]:
    """The pages of a PDF as RGB pictures, each made when it is asked for."""
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
    """A page as the bytes of a PNG that knows its size on paper."""
    file = io.BytesIO()
    image.save(file, format="PNG", dpi=(dpi, dpi))
    return file.getvalue()


def _as_jpeg(image: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=93, subsampling=0)
    file.seek(0)
    return file
