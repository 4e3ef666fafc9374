"""Stories taken along: as ZIP, storybook, comic pages and animations, made from a story's folder.

The same folder and settings give the same bytes.
"""

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from consistory_svd.export.animation import as_gif, as_webp, frames
from consistory_svd.export.book import Book, book_of, read_story
from consistory_svd.export.fonts import Typeface, typeface
from consistory_svd.export.pdf import PRINT_DPI, as_pictures, as_png
from consistory_svd.export.pdf_pages import comic, storybook
from consistory_svd.export.settings import FORMATS, MOVING, ExportSettings
from consistory_svd.library import SCORES_NAME, KeptStory, is_own_file
from consistory_svd.metadata import FILE_NAME

FONT_VARIABLE = "CONSISTORY_SVD_FONT"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time that a ZIP knows
__all__ = ["FORMATS", "ExportSettings", "ExportedFile", "as_one", "export"]


@dataclass(frozen=True)
class ExportedFile:
    """A file to take along."""

    name: str
    content: bytes


def export(folder: Path, settings: ExportSettings, font: Path | None = None) -> list[ExportedFile]:
    """The story in a folder as the files that the settings ask for: one, but for comic pages as PNG.

    Args:
        font: a TrueType file for letters that the storybook's own fonts lack; by default the one that
            CONSISTORY_SVD_FONT names, if any.

    Raises:
        ValueError: the story cannot be read, or has letters that cannot be drawn; the message names what to
            change.
    """
    story = read_story(folder)
    if settings.format == "zip":
        return [_as_zip(story, book_of(story, settings).name)]
    own = font or (Path(os.environ[FONT_VARIABLE]) if os.environ.get(FONT_VARIABLE) else None)
    face, italic = typeface("Regular", own), typeface("Italic", own)
    book = book_of(story, settings)
    _check_letters(book, settings, face)
    name = book.name
    match settings.format:
        case "pdf":
            return [ExportedFile(f"{name}.pdf", storybook(book, settings, face, italic))]
        case "comic-pdf":
            return [ExportedFile(f"{name}-comic.pdf", comic(book, settings, face, italic))]
        case "comic":
            pdf = comic(book, settings, face, italic, lossless=True)
            pages = [as_png(page, PRINT_DPI) for page in as_pictures(pdf, PRINT_DPI)]
            names = [f"{name}-comic-{k}.png" for k in range(1, len(pages) + 1)]
            names = [f"{name}-comic.png"] if len(pages) == 1 else names
            return [ExportedFile(*page) for page in zip(names, pages, strict=True)]
        case "gif":
            return [ExportedFile(f"{name}.gif", as_gif(frames(book, settings, face), settings))]
        case "webp":
            return [ExportedFile(f"{name}.webp", as_webp(frames(book, settings, face), settings))]


def as_one(files: list[ExportedFile]) -> ExportedFile:
    """The file, or a ZIP of several."""
    if len(files) == 1:
        return files[0]
    name = files[0].name.rsplit("-", 1)[0]
    return ExportedFile(f"{name}.zip", _zipped({file.name: file.content for file in files}))


def _as_zip(story: KeptStory, name: str) -> ExportedFile:
    """Everything that was kept, in a folder that the library and `import` can read again."""
    masks = [mask for mask in story.masks if mask]
    kept = [story.folder / FILE_NAME, *story.pictures, *masks, story.folder / SCORES_NAME]
    content = {f"{name}/{file.name}": file.read_bytes() for file in kept if is_own_file(file)}
    return ExportedFile(f"{name}.zip", _zipped(content))


def _zipped(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.external_attr = 0o644 << 16
            small = name.endswith((".png", ".pdf"))  # are compressed in themselves
            entry.compress_type = zipfile.ZIP_STORED if small else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return file.getvalue()


def _check_letters(book: Book, settings: ExportSettings, face: Typeface) -> None:
    written = {"captions": "".join(leaf.caption for leaf in book.leaves)}
    if settings.format not in MOVING:
        written["title"] = book.title
    for field, text in written.items():
        if missing := face.missing(text):
            other = "others, or none" if field == "captions" else "another"
            raise ValueError(
                f"{field}: {missing[:20]!r} cannot be drawn with the letters at hand; give {other}, or a "
                f"font that has them (--font FILE, or {FONT_VARIABLE}=FILE for the studio; letters that are "
                f"written from right to left cannot be drawn at all)"
            )
