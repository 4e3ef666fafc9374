"""Stories on paper: the storybook and the comic."""

from consistory_svd.export.book import Book, aspect_of
from consistory_svd.export.fonts import Typeface
from consistory_svd.export.layout import Box, Look, Panel, arrange
from consistory_svd.export.pdf import CREAM, GREY, PRINT_DPI, VEIL, Surface
from consistory_svd.export.settings import PAPERS, ExportSettings

# Letters' sizes of captions, by how many pictures a page has: the first in which they fit is taken.
STORYBOOK_SIZES = {1: range(26, 8, -1), 2: range(18, 8, -1), 4: range(15, 7, -1), 6: range(14, 7, -1)}
COMIC_SIZES = {1: range(18, 8, -1), 2: range(15, 7, -1), 4: range(14, 7, -1), 6: range(12, 6, -1)}
STORYBOOK_MARGIN = 54.0
COMIC_MARGIN = 32.0
COMIC_HEADER = 52.0
FOOTER = 26.0
FRAME_LINE = 1.6
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
COLOPHON = "How this story was told"
UNDRAWN = "in letters that are not drawn here; story.json has them"


def storybook(book: Book, settings: ExportSettings, face: Typeface, italic: Typeface) -> bytes:
    """A PDF: a title page, the pictures with their captions, and how they were made."""
    surface = Surface(PAPERS[settings.paper], book.title, PRINT_DPI)
    _title_page(surface, book, face, italic)
    margin = STORYBOOK_MARGIN
    space = Box(margin, margin, surface.width - 2 * margin, surface.height - 2 * margin - FOOTER)
    look = Look(
        tuple(STORYBOOK_SIZES[settings.panels]),
        gutter=26.0,
        gap=16.0 if settings.panels == 1 else 8.0,
        inset=10.0,
    )
    leaves = iter(book.leaves)
    for number, page in enumerate(_arranged(book, space, settings, face, look), start=1):
        for place, (panel, leaf) in enumerate(zip(page, leaves, strict=False)):
            if place == 0:
                surface.bookmark(leaf.caption or f"Picture {number}")
            surface.picture(leaf.picture, panel.picture)
            if panel.caption:
                if panel.caption.covers:
                    surface.rectangle(panel.caption.box, VEIL, radius=6)
                surface.caption(face, panel.caption, align=0.5)
        bottom = surface.height - margin + 12
        surface.text(face, str(number), surface.width / 2, bottom, 11, 0.5, GREY)
        surface.next_page()
    _colophon(surface, book, face, italic)
    return surface.finished()


def comic(
    book: Book, settings: ExportSettings, face: Typeface, italic: Typeface, lossless: bool = False
) -> bytes:
    """A PDF of comic pages; `lossless` as for `Surface`."""
    surface = Surface(PAPERS[settings.paper], book.title, PRINT_DPI, lossless)
    margin = COMIC_MARGIN
    top = margin + COMIC_HEADER
    space = Box(margin, top, surface.width - 2 * margin, surface.height - top - margin - 10)
    look = Look(tuple(COMIC_SIZES[settings.panels]), gutter=15.0, gap=5.0, inset=7.0, above=0.15)
    pages = _arranged(book, space, settings, face, look)
    leaves = iter(book.leaves)
    for number, page in enumerate(pages, start=1):
        _comic_header(surface, book.title, face if number == 1 else italic, number, len(pages))
        for panel, leaf in zip(page, leaves, strict=False):
            surface.rectangle(surface.picture(leaf.picture, panel.picture), line=FRAME_LINE)
            if panel.caption:
                if panel.caption.covers:
                    surface.rectangle(panel.caption.box, CREAM, line=1.0)
                surface.caption(face, panel.caption, align=0.0)
        surface.next_page()
    return surface.finished()


def _arranged(
    book: Book, space: Box, settings: ExportSettings, face: Typeface, look: Look
) -> list[list[Panel]]:
    captions = [leaf.caption for leaf in book.leaves]
    return arrange(captions, aspect_of(book), space, settings.panels, settings.place == "in", face, look)


def _title_page(surface: Surface, book: Book, face: Typeface, italic: Typeface) -> None:
    middle, width = surface.width / 2, surface.width - 2 * STORYBOOK_MARGIN
    size, lines = _heading(book.title, face, width, range(46, 17, -2), most=3)
    side = min(0.62 * surface.width, 0.48 * surface.height)
    top = (surface.height - side) / 2 + 0.06 * surface.height
    for number, line in enumerate(reversed(lines)):
        surface.text(face, line, middle, top - 64 - number * 1.15 * size, size, 0.5)
    surface.rule(middle, top - 36, 60)
    surface.picture(book.leaves[0].picture, Box(middle - side / 2, top, side, side))
    count = len(book.leaves)
    pictures = "picture" if count == 1 else "pictures"
    words = f"A story in {NUMBERS[count] if count < len(NUMBERS) else count} {pictures}"
    surface.text(italic, words, middle, top + side + 40, 17, 0.5, GREY)
    surface.bookmark(book.title)
    surface.next_page()


def _colophon(surface: Surface, book: Book, face: Typeface, italic: Typeface) -> None:
    middle, size = surface.width / 2, 12.0
    rows = []
    for label, text in book.generated.items():
        drawn = UNDRAWN if face.missing(text) else text
        rows.append((label, face.cut(drawn, size, surface.width / 2 - STORYBOOK_MARGIN, 3)))
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
    size, lines = _heading(title, face, surface.width - 2 * COMIC_MARGIN, sizes, most=1)
    surface.text(face, lines[0], surface.width / 2, COMIC_MARGIN + 28, size, 0.5)
    if pages > 1:
        y = surface.height - COMIC_MARGIN + 8
        surface.text(face, f"{number} of {pages}", surface.width / 2, y, 10, 0.5, GREY)


def _heading(text: str, face: Typeface, width: float, sizes: range, most: int) -> tuple[int, list[str]]:
    """The largest size in which a heading takes at most so many lines, and these; cut in the smallest."""
    for size in sizes:
        lines = face.wrapped(text, size, width)
        if len(lines) <= most:
            return size, lines
    return size, face.cut(text, size, width, most)
