"""A comparison as one picture: a row a setting with its label, a column a scene with its caption."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from consistory_svd.paths import ASSETS

FONT = ASSETS / "fonts" / "DejaVuSans.ttf"
MARGIN = 24
GAP = 12
LABEL_WIDTH = 260
LARGEST_CELL = 512
TEXT, TITLE, PALE = 16, 24, 14
INK, GREY, PAPER, EMPTY = "#1c1917", "#57534e", "#ffffff", "#e7e5e4"


@dataclass(frozen=True)
class GridRow:
    """A row: what it is called, lines below that, and its pictures; None where there is none yet."""

    label: str
    lines: tuple[str, ...]
    pictures: tuple[Image.Image | None, ...]


def cell_size(rows: Sequence[GridRow]) -> tuple[int, int]:
    """Width and height of a picture in the grid: its own, or smaller where it exceeds LARGEST_CELL."""
    sizes = [picture.size for row in rows for picture in row.pictures if picture is not None]
    width, height = sizes[0] if sizes else (256, 256)
    scale = min(1.0, LARGEST_CELL / max(width, height))
    return round(width * scale), round(height * scale)


def cell_box(row: int, column: int, cell: tuple[int, int], top: int) -> tuple[int, int, int, int]:
    """Where a picture stands: left, top, right, bottom in pixels. `top` is where the first row begins."""
    left = MARGIN + LABEL_WIDTH + GAP + column * (cell[0] + GAP)
    upper = top + row * (cell[1] + GAP)
    return left, upper, left + cell[0], upper + cell[1]


def draw_grid(title: str, captions: Sequence[str], rows: Sequence[GridRow]) -> Image.Image:
    """The grid as RGB. Pictures no larger than LARGEST_CELL a side are there pixel by pixel.

    Raises:
        ValueError: there are no rows or captions, or a row has another number of pictures than there are
            captions.
    """
    if not rows or not captions:
        raise ValueError(f"rows: {len(rows)} with {len(captions)} captions; give at least one of each")
    for row in rows:
        if len(row.pictures) != len(captions):
            raise ValueError(
                f"rows: {row.label!r} has {len(row.pictures)} pictures; give {len(captions)}, one a caption"
            )
    cell = cell_size(rows)
    heads = [_wrapped(caption, _font(TEXT), cell[0]) for caption in captions]
    top = first_row(title, heads)
    width = cell_box(0, len(captions) - 1, cell, top)[2] + MARGIN
    height = cell_box(len(rows) - 1, 0, cell, top)[3] + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((MARGIN, MARGIN), title, INK, _font(TITLE))
    for column, lines in enumerate(heads):
        left = cell_box(0, column, cell, top)[0]
        _write(draw, (left, top - GAP - len(lines) * _line(TEXT)), lines, INK, TEXT)
    for number, row in enumerate(rows):
        _draw_row(sheet, draw, row, [cell_box(number, k, cell, top) for k in range(len(captions))])
    return sheet


def first_row(title: str, heads: Sequence[Sequence[str]]) -> int:
    """Where the first row of pictures begins, below the title and the captions' lines."""
    above = MARGIN + (TITLE + GAP if title else 0)
    return above + max(len(lines) for lines in heads) * _line(TEXT) + GAP


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, row: GridRow, boxes: Sequence[tuple[int, int, int, int]]
) -> None:
    label = _wrapped(row.label, _font(TITLE - 4), LABEL_WIDTH)
    upper = boxes[0][1]
    _write(draw, (MARGIN, upper), label, INK, TITLE - 4)
    below = [line for text in row.lines for line in _wrapped(text, _font(PALE), LABEL_WIDTH)]
    _write(draw, (MARGIN, upper + len(label) * _line(TITLE - 4) + GAP // 2), below, GREY, PALE)
    for picture, box in zip(row.pictures, boxes, strict=True):
        if picture is None:
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), EMPTY)
            continue
        size = box[2] - box[0], box[3] - box[1]
        shown = picture.convert("RGB")
        sheet.paste(shown if shown.size == size else shown.resize(size, Image.Resampling.LANCZOS), box[:2])


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], ink: str, size: int) -> None:
    for number, line in enumerate(lines):
        draw.text((at[0], at[1] + number * _line(size)), line, ink, _font(size))


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Text in lines no wider than `width` pixels; a single longer word stands on its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _line(size: int) -> int:
    return round(size * 1.35)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """A font with Latin, Greek and Cyrillic letters; Pillow's own has hardly more than ASCII."""
    return ImageFont.truetype(FONT, size)
