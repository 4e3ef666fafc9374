"""A comparison: one story generated with several settings, row by row, each with its scores."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistory_svd.errors import FieldError
from consistory_svd.library import keep_scores
from consistory_svd.limits import Limits
from consistory_svd.presets import PRESETS, differences, preset, preset_label
from consistory_svd.settings import Settings, check
from consistory_svd.story import Story
from consistory_svd.studio.components.scores_panel import load_frames, scorable
from consistory_svd.studio.form import METHOD_FIELDS
from consistory_svd.studio.generated_story import GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import Progress
from consistory_svd.studio.queue import job_cost

if TYPE_CHECKING:
    from consistory_svd.metrics.result import MissingScore, Result
    from consistory_svd.metrics.settings import ScoreSettings
    from consistory_svd.metrics.suite import Suite

log = logging.getLogger(__name__)
HANDOVER_SECONDS = 10.0
# The settings that a row sets; its other settings, from steps to size, are those of the form.
COMPARED = (*METHOD_FIELDS, "k_filter", "v_filter")
MIN_ROWS, MAX_ROWS = 2, 4


@dataclass(frozen=True)
class Row:
    """Settings to compare, their name, and the preset that they come from, if known."""

    name: str
    settings: Settings
    preset: str = ""


@dataclass(frozen=True)
class Figure:
    """Rows that one click compares; `question` says what to look for. The rows set COMPARED alone."""

    key: str
    title: str
    question: str
    rows: tuple[Row, ...]


UNMASKED = Settings(masking=False, mask_dropout=0.0, query_blending=True)
FIGURES = (
    Figure(
        "leakage",
        "Leakage without a mask",
        "The subject is consistent, but does the background leak from image to image, too?",
        (
            Row("No sharing", PRESETS["plain"]),
            Row("SDSA without mask", replace(UNMASKED, query_blending=False)),
        ),
    ),
    Figure(
        "mask",
        "Effect of the mask",
        "Does the mask keep the subject consistent and give each scene its own background back?",
        (
            Row("No sharing", PRESETS["plain"]),
            Row("SDSA without mask", replace(UNMASKED, query_blending=False)),
            Row("SDSA with mask", Settings(masking=True, mask_dropout=0.0)),
        ),
    ),
    Figure(
        "filters",
        "SVD filters",
        "No row uses a mask. How consistent is the subject with each filter, and how much background leaks?",
        (
            Row("No filter", UNMASKED),
            Row("Quantile", PRESETS["svd-quantile"]),
            Row("Energy", PRESETS["svd-energy"]),
            Row("Log", PRESETS["svd-log"]),
            Row("Log2", PRESETS["svd-log2"]),
        ),
    ),
)


def figure_of(key: str) -> Figure:
    """Return the figure of that key. ValueError, naming the known ones, if there is none."""
    known = {item.key: item for item in FIGURES}
    if key not in known:
        raise FieldError("recipe", key, f"one of {', '.join(known)}")
    return known[key]


def chosen_rows(names: Sequence[str], current: Settings, name_of_current: str) -> tuple[Row, ...]:
    """Return rows by the names of presets, or `name_of_current` for the current settings.

    Raises:
        ValueError: there are too few or too many, one is not known, or one is named twice.
    """
    if not MIN_ROWS <= len(names) <= MAX_ROWS:
        raise FieldError("settings", len(names), f"{MIN_ROWS} to {MAX_ROWS}")
    check_different(names)
    rows = []
    for name in names:
        if name != name_of_current and name not in PRESETS:
            raise FieldError("settings", name, f"one of {', '.join(PRESETS)}")
        known = name != name_of_current
        rows.append(Row(preset_label(name), preset(name) if known else current, name if known else ""))
    return tuple(rows)


def check_different(names: Sequence[str]) -> None:
    """Raise ValueError if two rows have the same name."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"settings: {name!r} is chosen more than once; choose different ones")


def rows_for(story: Story, shared: Settings, rows: Sequence[Row], limits: Limits) -> tuple[Row, ...]:
    """Return rows as they are generated: COMPARED from the row, everything else from `shared`.

    A row's number of anchors is a maximum: a story of one scene has one.

    Raises:
        ValueError: naming the field, if a row does not fit the story or the limits.
    """
    complete = []
    for row in rows:
        changes = {name: getattr(row.settings, name) for name in COMPARED}
        changes["anchors"] = min(row.settings.anchors, len(story.scenes))
        settings = replace(shared, **changes)
        check(story, settings)
        limits.check(story, settings)
        complete.append(replace(row, settings=settings))
    return tuple(complete)


@dataclass(frozen=True)
class RowResult:
    """A row and what there is of it. `progress` is None before its turn, `entries` until it is scored."""

    row: Row
    differences: tuple[str, ...]
    progress: Progress | None = None
    entries: "tuple[Result | MissingScore, ...] | None" = None


@dataclass(frozen=True)
class Snapshot:
    """How far a comparison is.

    Attributes:
        title: of the figure; empty for rows of one's own.
        at: the row that is being generated, or was generated last.
        scoring: whether that row is being scored.
    """

    story: Story
    rows: tuple[RowResult, ...]
    title: str = ""
    at: int = 0
    scoring: bool = False
    stopped: bool = False

    @property
    def over(self) -> bool:
        """Whether the comparison has ended."""
        return self.stopped or self.failed or all(result.entries is not None for result in self.rows)

    @property
    def failed(self) -> bool:
        """Whether generating a row failed."""
        return self.current is not None and self.current.state == "failed"

    @property
    def current(self) -> Progress | None:
        """The progress of the row that is being generated, or was generated last."""
        return self.rows[self.at].progress

    @property
    def started(self) -> list[RowResult]:
        """The rows whose turn has come."""
        return [result for result in self.rows if result.progress]

    @property
    def pictures(self) -> int:
        """The number of images so far."""
        return sum(len(result.progress.pictures) for result in self.started)

    @property
    def share(self) -> float:
        """The share of all steps that is done."""
        costs = [job_cost(len(self.story.scenes), result.row.settings) for result in self.rows]
        done = [result.progress.share if result.progress else 0.0 for result in self.rows]
        return sum(cost * share for cost, share in zip(costs, done, strict=True)) / sum(costs)

    @property
    def seconds(self) -> float:
        """Seconds of generation so far."""
        return sum(result.progress.seconds for result in self.started)

    @property
    def seconds_left(self) -> float | None:
        """About how many seconds of generation are left; None until the first step."""
        return self.seconds * (1 - self.share) / self.share if self.share else None


class Comparison:
    """The rows of a comparison, generated one after another; others have their turn between two rows.

    Each row is a story in a folder of its own. Its scores are kept with it.

    Args:
        new_folder: makes a row's folder, given its name.
        scoring: how rows are scored; the device is the manager's.
        title: of the figure, if it is one.
    """

    def __init__(
        self,
        manager: ModelManager,
        story: Story,
        rows: Sequence[Row],
        new_folder: Callable[[str], Path],
        scoring: "ScoreSettings",
        title: str = "",
    ) -> None:
        described = differences([row.settings for row in rows])
        results = tuple(RowResult(row, texts) for row, texts in zip(rows, described, strict=True))
        self.snapshot = Snapshot(story, results, title)
        self._manager, self._story, self._new_folder, self._scoring = manager, story, new_folder, scoring
        self._suite: Suite | None = None  # made when the model's device is known
        self._changing = threading.RLock()  # cancelling changes the snapshot beside `watch`
        self._stop = threading.Event()
        self._job: GenerationJob | None = None

    def stop(self) -> None:
        """Ask for an end after the current step; returns at once."""
        self._stop.set()
        if self._job is not None:
            self._job.stop()

    @property
    def current_folder(self) -> Path | None:
        """The folder of the row that is being generated; None between two rows and at the end."""
        job = self._job
        return None if job is None or job.progress.over else job.request.folder

    def remove_files(self, library: Path) -> None:
        """Remove the folder of the row that is being generated from `library`, once the row has ended."""
        if self.current_folder is not None:
            self._job.remove_files(library)

    def join(self, seconds: float) -> None:
        """Wait at most `seconds` for the current row to end, and take over what it has."""
        if (job := self._job) is not None:
            job.join(seconds)
            self._follow(job)
        self._change(stopped=True, scoring=False)

    def watch(self) -> Iterator[Snapshot]:
        """Do the work and yield snapshots until it is over.

        Raises:
            ValueError: the queue is full.
        """
        try:
            for at, result in enumerate(self.snapshot.rows):
                if self._stop.is_set():
                    break
                yield from self._generate(at, result.row)
                if self.snapshot.current.state != "done":
                    break
                yield from self._score()
        finally:
            if self._suite is not None:
                self._suite.free()  # the next job needs the memory
        before = self.snapshot
        self._change(stopped=self._stop.is_set(), scoring=False)
        if self.snapshot != before or self.snapshot.stopped:  # cancelling may have said so first
            yield self.snapshot

    def _generate(self, at: int, row: Row) -> Iterator[Snapshot]:
        # Others have their turn between rows, and one of them may load another model.
        model = None if self._job is None else self._job.model
        request = GenerationRequest(
            self._story, row.settings, self._new_folder(row.name), model=model, preset=row.preset
        )
        job = GenerationJob(self._manager, request)
        with self._changing:
            self._job, self.snapshot = job, replace(self.snapshot, at=at)
        if self._stop.is_set():  # meanwhile: `stop` knew only the job before
            job.stop()
        job.start()
        try:
            for _ in job.watch():
                self._follow(job)
                yield self.snapshot
            job.join(HANDOVER_SECONDS)  # or the next row would be behind this one in the queue
        finally:
            job.stop()  # an abandoned generator ends here, and the work with it

    def _score(self) -> Iterator[Snapshot]:
        from consistory_svd.metrics.report import as_json
        from consistory_svd.metrics.result import MissingScore
        from consistory_svd.metrics.suite import Suite

        pictures, folder = self.snapshot.current.pictures, self._job.request.folder
        if not scorable(pictures):
            self._set(entries=(MissingScore("The score", "all of these images were filtered"),))
            yield self.snapshot
            return
        if self._suite is None:
            self._suite = Suite(replace(self._scoring, device=self._manager.scores_on))
        # Not the manager's model: it may have another one by now.
        frames = load_frames(pictures, self._job.generated.is_embedded)
        self._change(scoring=not self._stop.is_set())
        yield self.snapshot
        entries: list[Result | MissingScore] = []
        for entry in self._suite.measure(frames):
            if self._stop.is_set():
                return
            entries.append(entry)
            yield self.snapshot  # so that the consumer can be cancelled here
        self._set(entries=tuple(entries))
        try:
            keep_scores(folder, [picture.path for picture in pictures], as_json(entries))
        except OSError:  # the story was deleted meanwhile, or the disk is full: the page has the scores
            log.warning("the scores of %s could not be kept", folder.name, exc_info=True)
        self._change(scoring=False)
        yield self.snapshot

    def _follow(self, job: GenerationJob) -> None:
        """Take over a job's progress, which only grows."""
        with self._changing:
            if job is self._job:
                self._set(progress=job.progress)

    def _set(self, **changes: Any) -> None:
        """Change the current row of the snapshot."""
        with self._changing:
            at, rows = self.snapshot.at, self.snapshot.rows
            rows = (*rows[:at], replace(rows[at], **changes), *rows[at + 1 :])
            self.snapshot = replace(self.snapshot, rows=rows)

    def _change(self, **changes: Any) -> None:
        with self._changing:
            self.snapshot = replace(self.snapshot, **changes)
