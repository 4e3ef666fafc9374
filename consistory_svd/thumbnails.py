"""Small pictures of kept stories, made once and made anew where a story has changed."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from consistory_svd.library import KeptStory, is_own_file
from consistory_svd.metadata import FILE_NAME, replace_file

FOLDER = "thumbnails"
THUMBNAIL_SIDE = 256
COVER_SIZE = (480, 320)
# Where up to four pictures stand on a cover: one large, the others beside it.
COVER_BOXES = {
    1: [(0, 0, 480, 320)],
    2: [(0, 0, 239, 320), (241, 0, 480, 320)],
    3: [(0, 0, 319, 320), (321, 0, 480, 159), (321, 161, 480, 320)],
    4: [(0, 0, 372, 320), (374, 0, 480, 105), (374, 107, 480, 212), (374, 214, 480, 320)],
}


# What goes wrong with a broken picture; SyntaxError is Pillow's word for a broken PNG.
UNREADABLE = (OSError, SyntaxError)


def thumbnail(picture: Path) -> Path:
    """The picture at most THUMBNAIL_SIDE pixels a side, as WebP in its story's folder; made when it is new.

    Raises one of UNREADABLE when the picture cannot be read or the folder not be written.
    """
    small = picture.parent / FOLDER / f"{picture.stem}.webp"
    if not _newer(small, [picture]):
        image = _opened(picture)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        _save_webp(image, small)
    return small


def cover(story: KeptStory) -> Path | None:
    """A picture of the story's first pictures for its card, as WebP; None where there are no pictures.

    Raises as `thumbnail`.
    """
    first = story.pictures[:4]
    if not first:
        return None
    sources = [story.folder / FILE_NAME, *first]
    # Another name for another cover: the page and the browser know it by its address.
    path = story.folder / FOLDER / f"cover-{max(one.stat().st_mtime_ns for one in sources):x}.webp"
    if not _newer(path, sources):
        for replaced in path.parent.glob("cover*.webp"):
            replaced.unlink(missing_ok=True)
        sheet = Image.new("RGB", COVER_SIZE, "white")
        for picture, box in zip(first, COVER_BOXES[len(first)], strict=True):
            left, top, right, bottom = box
            sheet.paste(ImageOps.fit(_opened(picture), (right - left, bottom - top)), (left, top))
        _save_webp(sheet, path)
    return path


def blank() -> Image.Image:
    """A cover for a story without pictures: a page, crossed out."""
    sheet = Image.new("RGB", COVER_SIZE, "#e7e5e4")
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((180, 80, 300, 240), fill="white", outline="#78716c", width=3)
    draw.line((180, 80, 300, 240), fill="#78716c", width=3)
    draw.line((300, 80, 180, 240), fill="#78716c", width=3)
    return sheet


def _newer(made: Path, sources: Sequence[Path]) -> bool:
    if not is_own_file(made):
        return False
    return made.stat().st_mtime_ns >= max(source.stat().st_mtime_ns for source in sources)


def _opened(picture: Path) -> Image.Image:
    with Image.open(picture) as image:
        return image.convert("RGB")


def _save_webp(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    content = io.BytesIO()
    image.save(content, format="WEBP", quality=82, method=4)
    replace_file(path, content.getvalue())
