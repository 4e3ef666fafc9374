"""A comparison while it runs: the same story under several settings, row by row, each with its scores."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from consistory_svd.library import keep_scores
from consistory_svd.limits import Limits
from consistory_svd.metadata import read_frame
from consistory_svd.metrics.report import as_json
from consistory_svd.metrics.result import MissingScore, Result
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.suite import Suite
from consistory_svd.presets import differences
from consistory_svd.settings import Settings, check
from consistory_svd.story import Story
from consistory_svd.studio.comparison_rows import Row, in_story
from consistory_svd.studio.components.scores_panel import load_frames, scorable
from consistory_svd.studio.generated_story import GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import Progress
from consistory_svd.studio.queue import job_cost

log = logging.getLogger(__name__)
HANDOVER_SECONDS = 10.0


@dataclass(frozen=True)
class Generation:
    """How far a row is. `progress` is None before its turn; `entries` are its scores, None until known."""

    row: Row
    differences: tuple[str, ...]
    progress: Progress | None = None
    entries: tuple[Result | MissingScore, ...] | None = None


@dataclass(frozen=True)
class Snapshot:
    """How far a comparison is, and what it is called. `at` is the row that is told or was told last;
    `share` of the work is done."""

    story: Story
    generations: tuple[Generation, ...]
    title: str = ""
    at: int = 0
    scoring: bool = False
    stopped: bool = False

    @property
    def over(self) -> bool:
        """True when nothing more will happen."""
        return (
            self.stopped
            or self.failed
            or all(generation.entries is not None for generation in self.generations)
        )

    @property
    def failed(self) -> bool:
        """True when the row that was told last could not be."""
        return self.current is not None and self.current.state == "failed"

    @property
    def current(self) -> Progress | None:
        """The progress of the row that is told or was told last."""
        return self.generations[self.at].progress

    @property
    def pictures(self) -> int:
        """How many pictures there are."""
        return sum(
            len(generation.progress.pictures) for generation in self.generations if generation.progress
        )

    @property
    def share(self) -> float:
        """How much of all rows' work is done, from 0 to 1."""
        works = [job_cost(len(self.story.scenes), generation.row.settings) for generation in self.generations]
        done = [generation.progress.share if generation.progress else 0.0 for generation in self.generations]
        return sum(work * share for work, share in zip(works, done, strict=True)) / sum(works)

    @property
    def seconds(self) -> float:
        """Seconds of telling so far."""
        return sum(generation.progress.seconds for generation in self.generations if generation.progress)

    @property
    def seconds_left(self) -> float | None:
        """About how many seconds of telling are left; None until a first step was timed."""
        return self.seconds * (1 - self.share) / self.share if self.share else None


def compared(story: Story, shared: Settings, rows: Sequence[Row], limits: Limits) -> tuple[Row, ...]:
    """The rows as they are told. ValueError, naming the field, where one does not fit story or limits."""
    generated = tuple(in_story(row, story, shared) for row in rows)
    for row in generated:
        check(story, row.settings)
        limits.check(story, row.settings)
    return generated


class Comparison:
    """The rows of one comparison, told one after another; between two rows other visitors have their turn.

    Each row is a story in a folder of its own, which `new_folder` makes by the row's name; it is scored as
    `how` says, on the model's device, and its scores are kept with it. `stop` ends it within a step; what is
    made stays.
    """

    def __init__(
        self,
        manager: ModelManager,
        story: Story,
        rows: Sequence[Row],
        new_folder: Callable[[str], Path],
        how: ScoreSettings,
        title: str = "",
    ) -> None:
        said = differences([row.settings for row in rows])
        self._manager, self._story, self._new_folder, self._how = manager, story, new_folder, how
        self._suite: Suite | None = None  # made for the model's device, once there is one
        generations = tuple(Generation(row, words) for row, words in zip(rows, said, strict=True))
        self.snapshot = Snapshot(story, generations, title)
        self._changing = threading.Lock()  # what cancels a comparison changes it beside what watches it
        self._stop = threading.Event()
        self._run: GenerationJob | None = None

    def stop(self) -> None:
        """Ask for an end after the step that is running; returns at once."""
        self._stop.set()
        if self._run is not None:
            self._run.stop()

    @property
    def generated_into(self) -> Path | None:
        """The folder of the row that is being told; None between two, and at the end."""
        run = self._run
        return None if run is None or run.progress.over else run.request.folder

    def remove_files(self, library: Path) -> None:
        """Remove the folder of the row that is being told from `library`, once it has ended."""
        if self.generated_into is not None:
            self._run.remove_files(library)

    def join(self, seconds: float) -> None:
        """Wait at most `seconds` for the row that is told to end, and take what it leaves."""
        if (run := self._run) is not None:
            run.join(seconds)
            self._follow(run)
        self._change(stopped=True, scoring=False)

    def watch(self) -> Iterator[Snapshot]:
        """Do the work, and yield snapshots until it is over: row by row, picture by picture, score by score.

        Raises:
            ValueError: too many stories wait for the model.
        """
        try:
            for at, generation in enumerate(self.snapshot.generations):
                if self._stop.is_set():
                    break
                yield from self._generated(at, generation.row)
                if self.snapshot.current.state != "done":
                    break
                yield from self._scored()
        finally:
            if self._suite is not None:
                self._suite.free()  # the next story needs the memory
        before = self.snapshot
        self._change(stopped=self._stop.is_set(), scoring=False)
        if self.snapshot != before or self.snapshot.stopped:  # who cancels may have said so first
            yield self.snapshot

    def _generated(self, at: int, row: Row) -> Iterator[Snapshot]:
        folder = self._new_folder(row.name)
        # Between rows others have their turn, and one of them may be another model's.
        on = None if self._run is None else self._run.model
        request = GenerationRequest(self._story, row.settings, folder, model=on)
        run = GenerationJob(self._manager, request)
        with self._changing:
            self._run, self.snapshot = run, replace(self.snapshot, at=at)
        if self._stop.is_set():  # since this row began: `stop` knew the former row's run alone
            run.stop()
        run.start()
        try:
            for _ in run.watch():
                self._follow(run)
                yield self.snapshot
            run.join(HANDOVER_SECONDS)  # or the next row would stand behind this one's end
        finally:
            run.stop()  # an abandoned generator ends here, and the work with it

    def _scored(self) -> Iterator[Snapshot]:
        pictures = self.snapshot.current.pictures
        if not scorable(pictures):
            self._generate(entries=(MissingScore("The score", "all of these pictures were withheld"),))
            yield self.snapshot
            return
        if self._suite is None:
            self._suite = Suite(replace(self._how, device=self._manager.scores_on))
        # Not the engine's: it may have another model by now.
        frames = load_frames(pictures, read_frame(pictures[0].path).model)
        self._change(scoring=not self._stop.is_set())
        yield self.snapshot
        entries: list[Result | MissingScore] = []
        for entry in self._suite.measure(frames):
            if self._stop.is_set():
                return
            entries.append(entry)
            yield self.snapshot  # a place to be cancelled at
        self._generate(entries=tuple(entries))
        try:
            keep_scores(self._run.request.folder, [picture.path for picture in pictures], as_json(entries))
        except OSError:  # the story was deleted meanwhile, or the disk is full: the page has the scores
            log.warning("the scores of %s could not be kept", self._run.request.folder.name, exc_info=True)
        self._change(scoring=False)
        yield self.snapshot

    def _follow(self, run: GenerationJob) -> None:
        """Take over how far the row is that is being told: never less far than was known before."""
        with self._changing:
            if run is self._run:
                self._set(progress=run.progress)

    def _generate(self, entries: tuple[Result | MissingScore, ...]) -> None:
        with self._changing:
            self._set(entries=entries)

    def _set(self, **changes: Progress | tuple[Result | MissingScore, ...]) -> None:
        generations = list(self.snapshot.generations)
        generations[self.snapshot.at] = replace(generations[self.snapshot.at], **changes)
        self.snapshot = replace(self.snapshot, generations=tuple(generations))

    def _change(self, **changes: int | bool) -> None:
        with self._changing:
            self.snapshot = replace(self.snapshot, **changes)
