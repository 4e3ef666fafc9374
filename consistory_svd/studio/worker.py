"""One story being told: a thread that does the work, and a snapshot of how far it is.

A Gradio generator that is cancelled keeps running until its next yield, and a step of a large model can take
long. So the work happens in a thread of its own with a stop event, and handlers only look at snapshots.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from consistory_svd.models import Model
from consistory_svd.record import mark_subject, save_frame, write_story_json
from consistory_svd.settings import Settings, Story
from consistory_svd.sharing import SpectraSketch
from consistory_svd.story import Cancelled, Event, Finished, FrameDone, Note, Preview, Started, tell
from consistory_svd.studio.engine import Engine

log = logging.getLogger(__name__)
# loading: the model is not there yet; waiting: another story has it.
Stage = Literal["loading", "waiting", "telling", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Picture:
    """A finished frame: its file (PNG with metadata), its prompt, the same with its subject marked, and the
    subject's mask."""

    path: Path
    prompt: str
    marked: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Progress:
    """How far a story is.

    Frames are told in waves: `last_frame`, counted from 1, is the last of the wave that is being told, and
    its first is the one after the finished pictures. `share` of all the work is done; `seconds_left` is None
    until a first step was timed. `first_pass` says that the step only looks for what matches; `notes` say
    what is switched on without effect or had to be done otherwise; `plans` how memory is used and how long it
    will take.
    """

    stage: Stage
    frames: int
    last_frame: int = 1
    step: int = 0
    steps: int = 0
    share: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    pictures: tuple[Picture, ...] = ()
    error: str = ""
    first_pass: bool = False
    notes: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """True when nothing more will happen."""
        return self.stage in ("done", "stopped", "failed")


class StoryRun:
    """One story in a thread of its own. Saves each frame once into `folder`, as PNG with its metadata.

    `spectra` is what the spectral filter did, where that is recorded; read it when the story is over.
    """

    def __init__(
        self, engine: Engine, story: Story, settings: Settings, folder: Path, record_spectra: bool = False
    ) -> None:
        self._engine = engine
        self._story = story
        self._settings = settings
        self._folder = folder
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._progress = Progress("loading", frames=len(story.scenes))
        self._thread = threading.Thread(target=self._work, name="tell-story", daemon=True)
        self.spectra = SpectraSketch(settings.steps) if record_spectra else None
        self.show_masks = False  # the visitor's wish, which may change at any time
        self._discarded = False
        self._began = 0.0  # on the monotonic clock; 0.0 until the model is ours
        self._total_steps = 0

    @property
    def progress(self) -> Progress:
        """The latest snapshot."""
        with self._changed:
            return self._progress

    def start(self) -> None:
        """Begin; returns at once."""
        self._engine.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask the story to end after the step that is running; returns at once."""
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Wait at most `seconds` for the story to end; True when it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def remove_files(self) -> None:
        """Remove the story's folder: now, or when a running step has ended."""
        with self._changed:
            self._discarded = True
            if self._progress.over:
                shutil.rmtree(self._folder)

    def watch(self, tick: float = 0.2) -> Iterator[Progress]:
        """Snapshots until the story is over: each new one at once, the same one again after `tick` seconds.

        The repetition lets whoever consumes this be cancelled while a long step runs.
        """
        seen: Progress | None = None
        while seen is None or not seen.over:
            with self._changed:
                if self._progress is seen:
                    self._changed.wait(tick)
                seen = self._progress
            yield seen

    def _work(self) -> None:
        try:
            model = self._loaded_model()
            if model is not None:
                self._update(stage="waiting")
                for event in tell(model, self._story, self._settings, self._stop, spectra=self.spectra):
                    self._take(event, model)
        except Exception as error:  # the thread's top: whatever went wrong, the page has to tell it
            log.exception("telling a story failed")
            self._update(stage="failed", error=f"The story could not be told: {error}")

    def _loaded_model(self) -> Model | None:
        """The model once it is loaded; None when the story was stopped before."""
        while not self._engine.wait(0.2):
            if self._stop.is_set():
                self._update(stage="stopped")
                return None
        return self._engine.model

    def _take(self, event: Event, model: Model) -> None:
        match event:
            case Started():
                self._began = time.monotonic()
                self._total_steps = event.total_steps
                # Memory and time are said before the first step.
                plans = tuple(f"{known.words()}." for known in (event.memory, event.estimate) if known)
                self._update(stage="telling", steps=event.steps, notes=event.notes, plans=plans)
            case Preview():
                self._count_step(event)
            case FrameDone():
                self._keep(event, model)
            case Finished():
                self._close(model)
                self._update(stage="done", share=1.0)
            case Note():
                self._update(notes=(*self._progress.notes, event.text))
            case Cancelled(reason=reason):
                self._close(model)
                self._update(stage="failed" if reason else "stopped", error=_sentence(reason))

    def _count_step(self, event: Preview) -> None:
        share = event.done / self._total_steps
        seconds = time.monotonic() - self._began
        self._update(
            last_frame=max(event.frame + 1, self._progress.last_frame),
            step=event.step + 1,
            first_pass=event.first_pass,
            share=share,
            seconds_left=seconds * (1 - share) / share,
        )

    def _keep(self, event: FrameDone, model: Model) -> None:
        path = self._folder / f"frame-{event.frame + 1:02d}.png"
        save_frame(path, event.image, event.prompt, event.seed, self._story, self._settings, model.name)
        marked = mask = None
        if event.mask is not None:
            mask = path.with_name(f"mask-{event.frame + 1:02d}.png")
            event.mask.save(mask)
            marked = path.with_name(f"marked-{event.frame + 1:02d}.png")
            mark_subject(event.image, event.mask).save(marked)
        self._update(pictures=(*self._progress.pictures, Picture(path, event.prompt, marked, mask)))

    def _close(self, model: Model) -> None:
        pictures = [picture.path for picture in self._progress.pictures]
        seconds = time.monotonic() - self._began if self._began else None
        write_story_json(self._folder, self._story, self._settings, model.name, pictures, seconds=seconds)

    def _update(self, **changes: Any) -> None:
        with self._changed:
            seconds = time.monotonic() - self._began if self._began else 0.0
            self._progress = replace(self._progress, seconds=seconds, **changes)
            if self._progress.over and self._discarded:
                shutil.rmtree(self._folder)
            self._changed.notify_all()


def _sentence(reason: str) -> str:
    return f"The story could not be finished: {reason}." if reason else ""
