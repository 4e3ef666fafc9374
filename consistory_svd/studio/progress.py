"""How far a job is: the snapshot that the page shows, the time left, and files of previews."""

import shutil
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from consistory_svd.studio.generated_story import Picture

# loading: there is no model yet; waiting: another job has it.
JobState = Literal["loading", "waiting", "generating", "done", "stopped", "failed"]
_PREVIEWS = tempfile.TemporaryDirectory(prefix="previews-")  # removed when the process ends
PREVIEWS = Path(_PREVIEWS.name)


@dataclass(frozen=True)
class Progress:
    """A snapshot of a job.

    Attributes:
        frames: how many frames the story has.
        scenes: their scenes.
        subject: what every prompt begins with, the style and the subject.
        pictures: all finished frames of the story.
        previews: the latest preview of each frame that is being generated.
        finished: how many frames this job has finished.
        continues: whether the job changes a story that exists.
        first_frame, last_frame: the batch that is being generated, from 1; first_frame is 0 for the frame
            after `pictures`.
        step, steps: the denoising step, from 1.
        first_pass: the step belongs to the first pass of feature injection.
        anchors_only: anchors that have their images are regenerated for the anchor cache.
        share: the share of all steps that is done.
        seconds, seconds_left: None until steps were timed.
        jobs_ahead, seconds_to_wait: the position in the queue, and about how long it takes if known.
        notes: what has no effect, or was done differently than asked for.
        memory, details: a summary and a description of the memory plan.
        error: why it failed.
    """

    state: JobState
    frames: int
    scenes: tuple[str, ...] = ()
    subject: str = ""
    pictures: tuple[Picture, ...] = ()
    previews: tuple[tuple[int, Path], ...] = ()
    finished: int = 0
    continues: bool = False
    first_frame: int = 0
    last_frame: int = 1
    step: int = 0
    steps: int = 0
    first_pass: bool = False
    anchors_only: bool = False
    share: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    jobs_ahead: int = 0
    seconds_to_wait: float | None = None
    notes: tuple[str, ...] = ()
    memory: str = ""
    details: str = ""
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in ("done", "stopped", "failed")


class StepTimer:
    """The share of steps that is done and the time left, from how long steps took.

    Frames of a batch do a step together, so their events come in groups. A group is counted when the next one
    begins; the first one is not counted, because it includes reading the prompts.

    Attributes:
        started: when the first step began, on the monotonic clock; None before.
        total: the number of steps.
        offset: the steps of an earlier part, of which `record` does not know.
    """

    def __init__(self, total: int = 0) -> None:
        self.started: float | None = None
        self.total = total
        self.offset = 0
        self._done = 0
        self._group: object = None
        self._first: tuple[int, float] | None = None  # steps done, and when
        self._latest: tuple[int, float] | None = None
        self._pending: float | None = None  # when the group began

    def start(self, total: int) -> None:
        """Start the clock with this number of steps; does nothing the second time."""
        self.started = self.started or time.monotonic()
        self.total = self.total or total

    def record(self, group: object, done: int, at: float) -> None:
        """Take an event: its group, the steps done with it, and the time in seconds."""
        self._done = self.offset + done
        if (group := (self.offset, group)) == self._group:
            return
        if self._pending is not None:
            self._latest = (self._done - 1, self._pending)
            self._first = self._first or self._latest
        self._group, self._pending = group, at

    @property
    def share(self) -> float:
        """The share of all steps that is done."""
        return self._done / self.total

    def seconds_left(self, at: float) -> float | None:
        """Return the seconds until all steps are done; None while unknown."""
        if self._first is None or self._latest[0] == self._first[0]:
            return None
        (first, began), (done, then) = self._first, self._latest
        return max(0.0, (self.total - done) * (then - began) / (done - first) - (at - then))


def preview_folder(owner: object) -> Path:
    """Return a new folder that is removed with its owner."""
    folder = Path(tempfile.mkdtemp(dir=PREVIEWS))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
