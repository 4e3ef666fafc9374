"""Export a saved story as a ZIP, a storybook, comic pages or an animation.

The same folder and settings give the same bytes.
"""

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from consistory_svd.export.animation import as_gif, as_webp, render_frames
from consistory_svd.export.book import Book, book_of, read_story
from consistory_svd.export.fonts import Typeface, typeface
from consistory_svd.export.pdf import PRINT_DPI, as_images, as_png, comic, storybook
from consistory_svd.export.settings import FORMATS, MOVING, ExportSettings
from consistory_svd.library import SCORES_NAME, KeptStory, is_own_file
from consistory_svd.metadata import FILE_NAME

FONT_VARIABLE = "CONSISTORY_SVD_FONT"
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first date that a ZIP can hold
__all__ = ["FORMATS", "ExportSettings", "ExportedFile", "as_one", "export"]


@dataclass(frozen=True)
class ExportedFile:
    """The name and content of an exported file."""

    name: str
    content: bytes


def export(folder: Path, settings: ExportSettings, font: Path | None = None) -> list[ExportedFile]:
    """Export the story in a folder: one file, or one for each page if the format is PNG.

    Args:
        font: a TrueType file for letters that the fonts of the package lack; by default the one that
            CONSISTORY_SVD_FONT names, if any.

    Raises:
        ValueError: the story cannot be read, or no font has its letters; the message says what to change.
    """
    story = read_story(folder)
    if settings.format == "zip":
        return [_as_zip(story, book_of(story, settings).name)]
    extra = font or (Path(os.environ[FONT_VARIABLE]) if os.environ.get(FONT_VARIABLE) else None)
    face, italic = typeface("Regular", extra), typeface("Italic", extra)
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
            pages = [as_png(page, PRINT_DPI) for page in as_images(pdf, PRINT_DPI)]
            names = [f"{name}-comic-{k}.png" for k in range(1, len(pages) + 1)]
            names = [f"{name}-comic.png"] if len(pages) == 1 else names
            return [ExportedFile(*page) for page in zip(names, pages, strict=True)]
        case "gif":
            return [ExportedFile(f"{name}.gif", as_gif(render_frames(book, settings, face), settings))]
        case "webp":
            return [ExportedFile(f"{name}.webp", as_webp(render_frames(book, settings, face), settings))]


def as_one(files: list[ExportedFile]) -> ExportedFile:
    """The only file, or a ZIP of all."""
    if len(files) == 1:
        return files[0]
    name = files[0].name.rsplit("-", 1)[0]
    return ExportedFile(f"{name}.zip", _zipped({file.name: file.content for file in files}))


def _as_zip(story: KeptStory, name: str) -> ExportedFile:
    """All files of a story, in a folder that the library can read again."""
    masks = [mask for mask in story.masks if mask]
    files = [story.folder / FILE_NAME, *story.pictures, *masks, story.folder / SCORES_NAME]
    content = {f"{name}/{file.name}": file.read_bytes() for file in files if is_own_file(file)}
    return ExportedFile(f"{name}.zip", _zipped(content))


def _zipped(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.external_attr = 0o644 << 16
            compressed = name.endswith((".png", ".pdf"))
            entry.compress_type = zipfile.ZIP_STORED if compressed else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return file.getvalue()


def _check_letters(book: Book, settings: ExportSettings, face: Typeface) -> None:
    texts = {"captions": "".join(leaf.caption for leaf in book.leaves)}
    if settings.format not in MOVING:
        texts["title"] = book.title
    for field, text in texts.items():
        if missing := face.missing(text):
            other = "others, or none" if field == "captions" else "another"
            raise ValueError(
                f"{field}: no font has {missing[:20]!r}; give {other}, or a font with these letters (--font "
                f"FILE, or {FONT_VARIABLE}=FILE for the studio); right-to-left scripts are not supported"
            )
