"""A story as a book: a title, images with captions, and how they were generated."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from consistory_svd.export.fonts import plain
from consistory_svd.export.settings import ExportSettings
from consistory_svd.fields import field_of
from consistory_svd.library import KeptStory, look_at, slug
from consistory_svd.settings import Settings
from consistory_svd.story import Story


@dataclass(frozen=True)
class Leaf:
    """An image and its caption, which may be empty."""

    image: Path
    caption: str


@dataclass(frozen=True)
class Book:
    """A story to export.

    Attributes:
        name: the file name of the export, without its suffix.
        details: how the story was generated, label -> text.
    """

    title: str
    name: str
    leaves: tuple[Leaf, ...]
    details: Mapping[str, str]


def read_story(folder: Path) -> KeptStory:
    """The story in a folder. ValueError, naming `story`, if there is none that can be read."""
    if not folder.is_dir():
        raise ValueError(f"story: {str(folder)!r} is not a folder; give the folder of a saved story")
    story = look_at(folder.resolve())
    if story.record is None:
        raise ValueError(f"story: {folder} cannot be exported. {story.problem}")
    if not story.pictures:
        raise ValueError(f"story: {folder} has no images")
    return story


def book_of(story: KeptStory, settings: ExportSettings) -> Book:
    """The story as a book with the captions and title of the settings."""
    captions = {
        "scene": [_upper_first(plain(scene)) for scene in story.scenes],
        "prompt": [plain(prompt) for prompt in story.prompts],
        "none": [""] * len(story.pictures),
    }[settings.captions]
    leaves = tuple(Leaf(*pair) for pair in zip(story.pictures, captions, strict=True))
    title = plain(settings.title) or _upper_first(plain(story.record.story.subject))
    return Book(title, slug(title), leaves, _details(story))


def open_image(path: Path) -> Image.Image:
    """An image of a story as RGB. ValueError, naming `story`, if it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a corrupted PNG
        raise ValueError(f"story: the image {path.name} cannot be read: {error}") from error


def image_aspect(book: Book) -> float:
    """Width / height of the book's first image."""
    first = open_image(book.leaves[0].image)
    return first.width / first.height


def _details(story: KeptStory) -> dict[str, str]:
    record = story.record
    first = open_image(story.pictures[0])
    details = {
        field_of(Story, "subject").label: record.story.subject,
        field_of(Story, "style").label: record.story.style,
        field_of(Story, "negative").label: record.story.negative,
        field_of(Story, "seed").label: str(record.story.seed),
        "Preset": story.description,
        field_of(Settings, "steps").label: str(record.settings.steps),
        field_of(Settings, "guidance").label: f"{record.settings.guidance:g}",
        "Size": f"{first.width} × {first.height} pixels",
        "Model": record.model,
    }
    return {label: plain(text) for label, text in details.items() if text.strip()}


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]
