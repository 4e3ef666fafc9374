"""The library: stories on disk, a folder each: pictures, `story.json`, masks, scores and thumbnails.

A folder says everything about its story, and is read anew each time: whoever changes it, here or elsewhere,
changes the library. What is not ours, half written or broken is listed with what is wrong with it.
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
ORDERS = ("Newest first", "Oldest first", "Subject, A to Z", "Most alike first")
# How the library names its folders: when the story was told and whom it is about.
NAME = re.compile(r"(\d{4}-\d\d-\d\d-\d{6})-[\w-]+")
TIME = "%Y-%m-%d-%H%M%S"


@dataclass(frozen=True)
class Headline:
    """The number that says how alike a story's pictures are, by the name of its score."""

    name: str
    value: float
    better: Better

    @property
    def rank(self) -> tuple[int, float]:
        """Smaller is more alike. Numbers of different scores do not compare: scores follow each other."""
        return CONSISTENCY.index(self.name), self.value if self.better == "lower" else -self.value


@dataclass(frozen=True)
class KeptStory:
    """A story in the library, as its folder was when it was looked at.

    `record` is None where the folder cannot be read; `problem` then says why. Where only some pictures are
    missing, it says that.
    """

    folder: Path
    generated: datetime
    record: StoryRecord | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """The folder's name, by which the library knows the story."""
        return self.folder.name

    @property
    def title(self) -> str:
        """The subject, or the folder's name where the story cannot be read."""
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
        """The pictures that are there, in the order of the scenes."""
        return tuple(path for path, *_ in self._frames())

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of `pictures`."""
        return tuple(prompt for _, prompt, _ in self._frames())

    @cached_property
    def filtered(self) -> tuple[str, ...]:
        """Of each of `pictures` why it is a plain one, as in `StoryRecord`."""
        return tuple(why for *_, why in self._frames())

    @property
    def scenes(self) -> tuple[str, ...]:
        """The scenes of `pictures`; where a prompt is not the story's, the prompt itself."""
        known = dict(zip(self.record.story.prompts, self.record.story.scene_texts, strict=True))
        return tuple(known.get(prompt, prompt) for prompt in self.prompts)

    @property
    def masks(self) -> tuple[Path | None, ...]:
        """Where the subject is in each of `pictures`; None where no mask was kept."""
        beside = (path.with_name(path.name.replace("frame-", "mask-", 1)) for path in self.pictures)
        return tuple(mask if mask.name != path.name and is_own_file(mask) else None
                     for path, mask in zip(self.pictures, beside, strict=True))  # fmt: skip

    @cached_property
    def scores(self) -> Mapping[str, Any] | None:
        """What `keep_scores` wrote for the pictures as they are now; None where there is nothing such."""
        return read_scores(self.folder, self.pictures)

    @property
    def headline(self) -> Headline | None:
        """How alike the pictures are, by the best score that is known."""
        return headline_of(self.scores)

    def _frames(self) -> list[tuple[Path, str, str]]:
        if self.record is None:
            return []
        known = self.record
        named = zip(known.pictures, known.prompts, known.reasons, strict=True)
        return [(path, text, why) for name, text, why in named if is_own_file(path := self.folder / name)]


class Library:
    """Stories in the folders of `root`, which is made when it is not there. OSError when that cannot be.

    `note` is what a person has to be told of this library, if anything.
    """

    def __init__(self, root: Path, note: str = "") -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.note = note

    def new(self, subject: str) -> Path:
        """A new empty folder for a story about `subject`. No other story gets it."""
        base = f"{datetime.now().strftime(TIME)}-{slug(subject)}"
        for number in range(1, 10_000):
            folder = self.root / (base if number == 1 else f"{base}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
        raise OSError(f"{self.root} has too many stories of one second")

    def stories(self) -> list[KeptStory]:
        """All stories, the newest first. A story without a picture yet is left out."""
        with os.scandir(self.root) as entries:
            found = [Path(entry.path) for entry in entries if _may_be_story(entry)]
        return ordered([look_at(folder) for folder in found], ORDERS[0])

    def get(self, name: str) -> KeptStory:
        """The story of that name as it is now. ValueError when there is none."""
        if name in os.listdir(self.root):  # so no name leads out of it
            folder = self.root / name
            if folder.is_dir() and not folder.is_symlink():
                return look_at(folder)
        raise ValueError(f"{name!r} is not in the library; it may have been deleted")

    def delete(self, name: str) -> None:
        """Remove a story's folder for good.

        Raises:
            ValueError: there is no such story, or the library did not make its folder.
            OSError: the folder cannot be removed.
        """
        folder = self.get(name).folder
        if not NAME.fullmatch(folder.name):
            raise ValueError(f"{folder} was not made by the library; remove it by hand")
        remove_folder(folder, self.root)


def open_library(folder: Path | None = None) -> Library:
    """The library in `folder`, or where CONSISTORY_SVD_LIBRARY says, or among the user's data.

    Where that cannot be written, a library in a temporary folder, whose note says so; it ends with it.
    """
    wanted = folder or default_folder()
    try:
        library = Library(wanted)
        with tempfile.TemporaryFile(dir=library.root):
            return library
    except OSError as error:
        return _Temporary(
            f"The library's folder {wanted} cannot be written ({error.strerror or error}). Stories are kept "
            f"until the studio ends; to keep them longer, start it with --library and a folder of yours."
        )


def default_folder() -> Path:
    """Where the library is unless someone says otherwise: CONSISTORY_SVD_LIBRARY, or the user's data."""
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
    """A story's folder as it is now; where it cannot be read, what is wrong with it."""
    generated = _generated(folder)
    if folder.is_symlink():
        return KeptStory(folder, generated, problem="It is a link; links are not followed.")
    try:
        record = read_story_json(folder)
    except FileNotFoundError:
        return KeptStory(
            folder, generated, problem=f"It has no {FILE_NAME}; it was not finished, or is no story."
        )
    except (ValueError, TypeError, OSError) as error:  # TypeError: a list where a text should be, and such
        return KeptStory(
            folder, generated, problem=f"Its {FILE_NAME} cannot be read: {_without(folder, error)}"
        )
    story = KeptStory(folder, generated, record)
    missing = len(record.pictures) - len(story.pictures)
    if not missing:
        return story
    words = f"{missing} of {len(record.pictures)} pictures are not in its folder."
    return replace(story, record=record if story.pictures else None, problem=words)


def found(stories: Sequence[KeptStory], words: str) -> list[KeptStory]:
    """The stories in whose subject, scenes, style, preset, model or date each of the words occurs."""
    wanted = words.casefold().split()
    return [story for story in stories if all(word in _searched(story) for word in wanted)]


def ordered(stories: Sequence[KeptStory], order: str) -> list[KeptStory]:
    """The stories in one of ORDERS; those without a score, or that cannot be read, come last."""
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
    """Write the scores of a story into its folder: `report` is JSON as `scores.report.as_json` gives it.

    The files' sizes go with it, by which later readers know whether the pictures are still those.
    """
    content = {**json.loads(report), "pictures": _sizes(pictures)}
    replace_file(folder / SCORES_NAME, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_scores(folder: Path, pictures: Sequence[Path]) -> Mapping[str, Any] | None:
    """What `keep_scores` wrote; None where nothing was, or for other pictures than these."""
    path = folder / SCORES_NAME
    if not is_own_file(path):
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    mine = isinstance(content, dict) and content.get("pictures") == _sizes(pictures)
    return content if mine and isinstance(content.get("scores"), list) else None


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
    """A library that is gone with the program."""

    def __init__(self, note: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="story-library-")
        super().__init__(Path(self._folder.name), note)


def remove_folder(folder: Path, owner: Path) -> None:
    """Remove a folder that lies directly in `owner`, with everything in it. Links are never followed.

    Raises:
        PermissionError: it lies elsewhere, or is a link.
        OSError: it cannot be removed.
    """
    if folder.is_symlink() or folder.resolve().parent != owner.resolve():
        raise PermissionError(f"{folder.name} is not a folder directly in {owner.name} and is not removed")
    shutil.rmtree(folder)


def slug(text: str) -> str:
    """A text as a part of a file's name: plain lower-case letters and digits, at most 40."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].rstrip("-") or "story"


def is_own_file(path: Path) -> bool:
    """Whether there is a file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def _may_be_story(entry: os.DirEntry) -> bool:
    if entry.name.startswith(".") or not entry.is_dir():
        return False
    # A folder of ours without any file belongs to a story that is about to be told.
    return entry.is_symlink() or not NAME.fullmatch(entry.name) or any(os.scandir(entry.path))


def _generated(folder: Path) -> datetime:
    """When the story was told, by its folder's name; for one that others named, when it was changed."""
    if ours := NAME.fullmatch(folder.name):
        with suppress(ValueError):  # the 31st of February
            return datetime.strptime(ours[1], TIME)
    return datetime.fromtimestamp(folder.lstat().st_mtime)


def _searched(story: KeptStory) -> str:
    words = [story.name, story.generated.strftime("%d %B %Y")]
    if story.record:
        generated = story.record.story
        words += [
            generated.subject,
            *generated.scene_texts,
            generated.style,
            *generated.concepts,
            story.record.model,
        ]
        words += [story.preset, story.description]
    return "\n".join(words).casefold()


def _without(folder: Path, error: Exception) -> str:
    """What an error says, files by their names alone: the folder stands beside it."""
    return str(error).replace(f"{folder}{os.sep}", "")


def _sizes(pictures: Sequence[Path]) -> list[list[Any]]:
    return [[picture.name, picture.stat().st_size] for picture in pictures]
