"""Write a story's events into a folder, with a progress bar."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consistory_svd.errors import FieldError
from consistory_svd.events import Cancelled, Event, Finished, FrameDone, Note, Preview, Started
from consistory_svd.metadata import save_frame, write_story_json

if TYPE_CHECKING:
    from consistory_svd.attention import AnchorCache
    from consistory_svd.models.model import Model
    from consistory_svd.settings import Settings
    from consistory_svd.story import Story

INTERRUPTED, FAILED = 130, 1
# Files of a story in its folder; nothing else is ever removed.
OWN_FILES = re.compile(r"(frame|mask)-\d+\.png|story\.json")

# Images and files are the result; messages go to stderr.
CONSOLE = Console(stderr=True)


def check_folder(folder: Path, overwrite: bool, option: str = "out") -> None:
    """Raise ValueError unless `folder` is new or empty, or may be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise FieldError(option, str(folder), "a folder")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise FieldError(option, str(folder), "an empty folder unless --overwrite is given")


def clear_folder(folder: Path) -> None:
    """Make `folder` and remove an earlier story's files; OSError if that is not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if OWN_FILES.fullmatch(path.name):
            path.unlink()


def save_events(
    folder: Path,
    model: Model,
    story: Story,
    settings: Settings,
    preset_name: str,
    events: Iterator[Event],
    stop: threading.Event,
) -> tuple[int, AnchorCache | None]:
    """Write a story's events into `folder`, each image as soon as it is finished.

    Ctrl-C ends the story within a step: finished images are kept, and story.json names them.

    Returns:
        The exit code, and the anchor cache of a finished story.
    """
    from consistory_svd.content_filter import FILTER_REASONS

    done: list[FrameDone] = []
    masks: list[Path] = []
    seconds, code, anchor_cache = None, INTERRUPTED, None
    with _interrupts_set(stop), _progress_bar() as bar:
        task = bar.add_task("Generating", total=None)
        for event in events:
            match event:
                case Started():
                    bar.update(task, total=event.total_steps)
                    for note in event.notes:
                        CONSOLE.print(f"note: {note}", highlight=False)
                    CONSOLE.print(f"{event.memory.description()}.", highlight=False)
                case Note():
                    CONSOLE.print(f"note: {event.text}", highlight=False)
                case Preview():
                    bar.update(task, completed=event.done)
                case FrameDone():
                    done.append(event)
                    path = _path(folder, "frame", event)
                    made = event.image, event.prompt, event.seed, story, settings, model.name
                    save_frame(path, *made, filtered=event.filtered)
                    if event.mask is not None:
                        masks.append(_path(folder, "mask", event))
                        event.mask.save(masks[-1])
                    if event.filtered:
                        CONSOLE.print(f"note: {path.name}: {FILTER_REASONS[event.filtered]}", highlight=False)
                case Finished():
                    seconds, anchor_cache, code = event.timings.seconds, event.anchor_cache, 0
                case Cancelled(reason=reason) if reason:
                    CONSOLE.print(f"error: {reason}; finished images are kept", highlight=False)
                    code = FAILED
    write_story_json(
        folder,
        story,
        settings,
        model.name,
        [_path(folder, "frame", event) for event in done],
        masks,
        seconds,
        [event.frame for event in done],
        filtered=[event.filtered for event in done],
        preset=preset_name,
        is_embedded=model.is_embedded,
    )
    return code, anchor_cache


def _path(folder: Path, kind: str, event: FrameDone) -> Path:
    return folder / f"{kind}-{event.frame + 1:02d}.png"


def _progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=CONSOLE)


@contextmanager
def _interrupts_set(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C set `stop` inside; a second Ctrl-C interrupts at once."""

    def ask(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
