"""A story as its readers see it: a title, pictures with captions, and how it was told."""

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
    """A picture and what is written to it; the caption may be empty."""

    picture: Path
    caption: str


@dataclass(frozen=True)
class Book:
    """A story to be taken along. `name` is what its files are called; `told` says how it was told."""

    title: str
    name: str
    leaves: tuple[Leaf, ...]
    generated: Mapping[str, str]


def read_story(folder: Path) -> KeptStory:
    """The story in a folder. ValueError, naming `story`, where there is none that can be read."""
    if not folder.is_dir():
        raise ValueError(f"story: {str(folder)!r} is no folder; give one that a story was told into")
    story = look_at(folder.resolve())
    if story.record is None:
        raise ValueError(f"story: {folder} cannot be taken along. {story.problem}")
    if not story.pictures:
        raise ValueError(f"story: {folder} has no pictures")
    return story


def book_of(story: KeptStory, settings: ExportSettings) -> Book:
    """The story as a book, captioned as the settings say."""
    written = {
        "scene": [_upper_first(plain(scene)) for scene in story.scenes],
        "prompt": [plain(prompt) for prompt in story.prompts],
        "none": [""] * len(story.pictures),
    }[settings.captions]
    leaves = tuple(Leaf(*pair) for pair in zip(story.pictures, written, strict=True))
    title = plain(settings.title) or _upper_first(plain(story.record.story.subject))
    return Book(title, slug(title), leaves, _generated(story))


def opened(picture: Path) -> Image.Image:
    """A story's picture as RGB. ValueError, naming `story`, where it cannot be read."""
    try:
        with Image.open(picture) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:  # SyntaxError: Pillow's word for a broken PNG
        raise ValueError(f"story: the picture {picture.name} cannot be read: {error}") from error


def aspect_of(book: Book) -> float:
    """Width to height of the book's first picture."""
    first = opened(book.leaves[0].picture)
    return first.width / first.height


def _generated(story: KeptStory) -> dict[str, str]:
    record = story.record
    first = opened(story.pictures[0])
    said = {
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
    return {label: plain(text) for label, text in said.items() if text.strip()}


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]
