"""A story's events written into a folder while a person watches a terminal."""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consistory_svd.attention import AnchorCache
from consistory_svd.content_filter import WORDS
from consistory_svd.metadata import save_frame, write_story_json
from consistory_svd.pipeline import Cancelled, Event, Finished, FrameDone, Note, Preview, Started
from consistory_svd.settings import Settings
from consistory_svd.story import Story

INTERRUPTED, FAILED = 130, 1
# What a story leaves in its folder; nothing else is ever removed from it.
OWN_FILES = re.compile(r"(frame|mask)-\d+\.png|story\.json")

# Pictures and files are the result; what the program says while it works goes to stderr.
CONSOLE = Console(stderr=True)


def check_folder(folder: Path, overwrite: bool, flag: str = "out") -> None:
    """ValueError unless `folder` can be written to: it is new or empty, or `overwrite` is on."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{flag}: {folder} is a file; give a folder")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f"{flag}: {folder} is not empty; give another folder or --overwrite")


def clear_folder(folder: Path) -> None:
    """Make `folder` and remove an earlier story's own files; others stay.

    ValueError where the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out: {folder} cannot be made: {error.strerror}") from error
    for path in folder.iterdir():
        if OWN_FILES.fullmatch(path.name):
            path.unlink()


def save_events(
    folder: Path,
    model_name: str,
    story: Story,
    settings: Settings,
    events: Iterator[Event],
    stop: threading.Event,
    kept: list[AnchorCache],
) -> int:
    """Write a story's events into `folder`, each picture as soon as it is done; returns the exit code.

    A bank that the story ends with is put into `kept`. Ctrl-C ends the story within a step: pictures that are
    done stay, and story.json names them.
    """
    pictures: list[Path] = []
    masks: list[Path] = []
    frames: list[int] = []
    filtered: list[str] = []
    seconds, code = None, INTERRUPTED
    with _interrupts_set(stop), _progress_bar() as bar:
        task = bar.add_task("Telling", total=None)
        for event in events:
            match event:
                case Started():
                    bar.update(task, total=event.total_steps)
                    for note in event.notes:
                        CONSOLE.print(f"note: {note}", highlight=False)
                    for plan in (event.memory, event.estimate):
                        CONSOLE.print(f"{plan.words()}.", highlight=False)
                case Note():
                    CONSOLE.print(f"note: {event.text}", highlight=False)
                case Preview():
                    bar.update(task, completed=event.done)
                case FrameDone():
                    frames.append(event.frame)
                    filtered.append(event.filtered)
                    pictures.append(_file(folder, "frame", event))
                    made = event.image, event.prompt, event.seed
                    save_frame(pictures[-1], *made, story, settings, model_name, filtered=event.filtered)
                    masks += _saved_mask(folder, event)
                    if event.filtered:
                        CONSOLE.print(f"note: {pictures[-1].name}: {WORDS[event.filtered]}", highlight=False)
                case Finished():
                    seconds = event.timings.seconds
                    kept += [event.anchor_cache] if event.anchor_cache else []
                case Cancelled(reason=reason) if reason:
                    CONSOLE.print(f"error: {reason}; finished pictures are kept", highlight=False)
                    code = FAILED
    write_story_json(folder, story, settings, model_name, pictures, masks, seconds, frames, filtered=filtered)
    return code if seconds is None else 0


def _file(folder: Path, kind: str, event: FrameDone) -> Path:
    return folder / f"{kind}-{event.frame + 1:02d}.png"


def _saved_mask(folder: Path, event: FrameDone) -> list[Path]:
    """The frame's mask as a file beside its picture; none where nothing is shared."""
    if event.mask is None:
        return []
    path = _file(folder, "mask", event)
    event.mask.save(path)
    return [path]


def _progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=CONSOLE)


@contextmanager
def _interrupts_set(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `stop` while this is entered; a second Ctrl-C interrupts at once."""

    def ask(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
