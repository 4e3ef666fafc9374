"""The library: saved stories on disk, one folder each: images, `story.json`, masks, scores and thumbnails.

Folders are read at every access, so changes made elsewhere appear too. Foreign, unfinished and broken folders
are listed with their problem.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from consistory_svd.errors import FieldError, one_of
from consistory_svd.metadata import FILE_NAME, StoryRecord, read_story_json, replace_file
from consistory_svd.metrics.result import CONSISTENCY, Better
from consistory_svd.presets import describe

VARIABLE = "CONSISTORY_SVD_LIBRARY"
SCORES_NAME = "scores.json"
ORDERS = ("Newest first", "Oldest first", "Subject, A to Z", "Most consistent first")
# Names of the library's folders: when the story was generated, and its subject.
NAME = re.compile(r"(\d{4}-\d\d-\d\d-\d{6})-[\w-]+")
TIME = "%Y-%m-%d-%H%M%S"


@dataclass(frozen=True)
class Headline:
    """The score that summarises how consistent a story's images are."""

    name: str
    value: float
    better: Better

    @property
    def rank(self) -> tuple[int, float]:
        """Sort key, the most consistent first; different scores are not comparable and follow one another."""
        return CONSISTENCY.index(self.name), self.value if self.better == "lower" else -self.value


@dataclass(frozen=True)
class KeptStory:
    """A saved story, as its folder was when it was read.

    `record` is None if the folder cannot be read. `problem` says why, or that some images are missing.
    """

    folder: Path
    generated: datetime
    record: StoryRecord | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """The folder's name, which identifies the story in the library."""
        return self.folder.name

    @property
    def title(self) -> str:
        """The subject, or the folder's name if the story cannot be read."""
        return self.record.story.subject if self.record else self.name

    @property
    def preset(self) -> str:
        """The preset's name."""
        return self.record.preset if self.record else ""

    @property
    def description(self) -> str:
        """The preset and what the settings change in it."""
        return describe(self.record.settings, self.record.preset) if self.record else ""

    @cached_property
    def pictures(self) -> tuple[Path, ...]:
        """The existing images, in the order of the scenes."""
        return tuple(path for path, *_ in self._frames())

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of `pictures`."""
        return tuple(prompt for _, prompt, _ in self._frames())

    @cached_property
    def filtered(self) -> tuple[str, ...]:
        """For each of `pictures` why it is filtered, or ""."""
        return tuple(why for *_, why in self._frames())

    @property
    def scenes(self) -> tuple[str, ...]:
        """The scenes of `pictures`; the prompt itself if it is not one of the story's."""
        known = dict(zip(self.record.story.prompts, self.record.story.scene_texts, strict=True))
        return tuple(known.get(prompt, prompt) for prompt in self.prompts)

    @property
    def masks(self) -> tuple[Path | None, ...]:
        """The mask of each of `pictures`; None if none was saved."""
        beside = (path.with_name(path.name.replace("frame-", "mask-", 1)) for path in self.pictures)
        return tuple(mask if mask.name != path.name and is_own_file(mask) else None
                     for path, mask in zip(self.pictures, beside, strict=True))  # fmt: skip

    @cached_property
    def scores(self) -> Mapping[str, Any] | None:
        """The scores that `keep_scores` saved for the present images, if any."""
        return read_scores(self.folder, self.pictures)

    @property
    def headline(self) -> Headline | None:
        """The summary score of the images, if any."""
        return headline_of(self.scores)

    def _frames(self) -> list[tuple[Path, str, str]]:
        if self.record is None:
            return []
        known = self.record
        named = zip(known.pictures, known.prompts, known.reasons, strict=True)
        return [(path, text, why) for name, text, why in named if is_own_file(path := self.folder / name)]


class Library:
    """The stories in the folders of `root`, which is created if necessary; OSError if that is not possible.

    `note` is a message for the user, if any.
    """

    def __init__(self, root: Path, note: str = "") -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.note = note

    def new(self, subject: str) -> Path:
        """Create and return an empty folder for a story about `subject`."""
        base = f"{datetime.now().strftime(TIME)}-{slug(subject)}"
        for number in range(1, 10_000):
            folder = self.root / (base if number == 1 else f"{base}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
        raise OSError(f"{self.root} has too many stories of one second")

    def stories(self) -> list[KeptStory]:
        """Return all stories, the newest first, without those that have no image yet."""
        with os.scandir(self.root) as entries:
            found = [Path(entry.path) for entry in entries if _may_be_story(entry)]
        return ordered([look_at(folder) for folder in found], ORDERS[0])

    def get(self, name: str) -> KeptStory:
        """Return the story of that name; ValueError if there is none."""
        if name in os.listdir(self.root):  # so no name leads out of it
            folder = self.root / name
            if folder.is_dir() and not folder.is_symlink():
                return look_at(folder)
        raise ValueError(f"{name!r} is not in the library; it may have been deleted")

    def delete(self, name: str) -> None:
        """Delete a story's folder.

        Raises:
            ValueError: there is no such story, or its folder was not created by the library.
            OSError: the folder cannot be deleted.
        """
        folder = self.get(name).folder
        if not NAME.fullmatch(folder.name):
            raise ValueError(f"{folder} was not made by the library; remove it by hand")
        remove_folder(folder, self.root)


def open_library(folder: Path | None = None) -> Library:
    """Return the library in `folder`, or in `default_folder()`.

    If it is not writable, return one in a temporary folder, with a note that says so.
    """
    wanted = folder or default_folder()
    try:
        library = Library(wanted)
        with tempfile.TemporaryFile(dir=library.root):
            return library
    except OSError as error:
        return _Temporary(
            f"The library folder {wanted} is not writable ({error.strerror or error}). Stories are deleted "
            "when the studio stops. Use --library to save them in another folder."
        )


def default_folder() -> Path:
    """Return the library's default folder: CONSISTORY_SVD_LIBRARY, or a folder in the user's data.

    platformdirs would be one more dependency for the same folders.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "consistory-svd" / "library"


def look_at(folder: Path) -> KeptStory:
    """Read a story's folder; if that fails, `problem` says why."""
    generated = _generated(folder)
    if folder.is_symlink():
        return KeptStory(folder, generated, problem="It is a symbolic link; links are not followed.")
    try:
        record = read_story_json(folder)
    except FileNotFoundError:
        return KeptStory(folder, generated, problem=f"It has no {FILE_NAME}: unfinished, or not a story.")
    except (ValueError, TypeError, OSError) as error:  # TypeError: values of a wrong type
        return KeptStory(
            folder, generated, problem=f"Its {FILE_NAME} cannot be read: {_without(folder, error)}"
        )
    story = KeptStory(folder, generated, record)
    missing = len(record.pictures) - len(story.pictures)
    if not missing:
        return story
    problem = f"{missing} of {len(record.pictures)} images are missing."
    return replace(story, record=record if story.pictures else None, problem=problem)


def found(stories: Sequence[KeptStory], query: str) -> list[KeptStory]:
    """Return the stories whose subject, scenes, style, preset, model or date contain each word."""
    words = query.casefold().split()
    return [story for story in stories if all(word in _searched_text(story) for word in words)]


def ordered(stories: Sequence[KeptStory], order: str) -> list[KeptStory]:
    """Return the stories in one of ORDERS; those without a score, or that cannot be read, come last."""
    newest = sorted(stories, key=lambda story: (story.generated, story.name), reverse=True)
    keys = {
        ORDERS[0]: lambda story: 0,
        ORDERS[1]: lambda story: 0,
        ORDERS[2]: lambda story: (story.record is None, story.title.casefold()),
        ORDERS[3]: lambda story: story.headline.rank if story.headline else (len(CONSISTENCY), 0.0),
    }
    if order not in keys:
        raise FieldError("sort", order, one_of(ORDERS))
    return sorted(newest[::-1] if order == ORDERS[1] else newest, key=keys[order])


def keep_scores(folder: Path, pictures: Sequence[Path], report: str) -> None:
    """Save a story's scores in its folder, with the sizes of the images they belong to.

    `report` is JSON as `metrics.report.as_json` returns it.
    """
    content = {**json.loads(report), "pictures": _sizes(pictures)}
    replace_file(folder / SCORES_NAME, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_scores(folder: Path, pictures: Sequence[Path]) -> Mapping[str, Any] | None:
    """Return the scores that `keep_scores` saved for these images; None if there are none."""
    path = folder / SCORES_NAME
    if not is_own_file(path):
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    valid = isinstance(content, dict) and content.get("pictures") == _sizes(pictures)
    return content if valid and isinstance(content.get("scores"), list) else None


def headline_of(scores: Mapping[str, Any] | None) -> Headline | None:
    """The first of CONSISTENCY that is among kept scores."""
    for name in CONSISTENCY if scores else ():
        for score in scores["scores"]:
            if not isinstance(score, dict) or score.get("name") != name:
                continue
            value, better = score.get("value"), score.get("better")
            if isinstance(value, int | float) and better in get_args(Better):
                return Headline(name, float(value), better)
    return None


class _Temporary(Library):
    """A library that is deleted when the program ends."""

    def __init__(self, note: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="story-library-")
        super().__init__(Path(self._folder.name), note)


def remove_folder(folder: Path, owner: Path) -> None:
    """Delete a folder directly inside `owner`, with its content. Links are never followed.

    Raises:
        PermissionError: it is elsewhere, or a link.
        OSError: it cannot be deleted.
    """
    if folder.is_symlink() or folder.resolve().parent != owner.resolve():
        raise PermissionError(f"{folder.name} is not a folder directly in {owner.name} and is not removed")
    shutil.rmtree(folder)


def slug(text: str) -> str:
    """Return a text as part of a file name: at most 40 lower-case ASCII letters, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].rstrip("-") or "story"


def is_own_file(path: Path) -> bool:
    """Return whether this is a file, and not a symbolic link."""
    return path.is_file() and not path.is_symlink()


def _may_be_story(entry: os.DirEntry) -> bool:
    if entry.name.startswith(".") or not entry.is_dir():
        return False
    # An empty folder of the library belongs to a story that is about to be generated.
    return entry.is_symlink() or not NAME.fullmatch(entry.name) or any(os.scandir(entry.path))


def _generated(folder: Path) -> datetime:
    """Return the time in the folder's name, or else when the folder was last changed."""
    if match := NAME.fullmatch(folder.name):
        with suppress(ValueError):  # the 31st of February
            return datetime.strptime(match[1], TIME)
    return datetime.fromtimestamp(folder.lstat().st_mtime)


def _searched_text(story: KeptStory) -> str:
    texts = [story.name, story.generated.strftime("%d %B %Y")]
    if story.record:
        content = story.record.story
        texts += [content.subject, *content.scene_texts, content.style, *content.concepts]
        texts += [story.record.model, story.preset, story.description]
    return "\n".join(texts).casefold()


def _without(folder: Path, error: Exception) -> str:
    """Return an error's message with file names relative to `folder`."""
    return str(error).replace(f"{folder}{os.sep}", "")


def _sizes(pictures: Sequence[Path]) -> list[list[Any]]:
    return [[picture.name, picture.stat().st_size] for picture in pictures]
