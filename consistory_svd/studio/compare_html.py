"""Comparisons as HTML: the table that Compare and Library share, and the status of a running comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from consistory_svd.metrics.report import ARROWS
from consistory_svd.metrics.result import ALIGNMENT, CONSISTENCY, MissingScore, Result
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.comparison import RowResult, Snapshot
from consistory_svd.studio.comparison_image import GridRow
from consistory_svd.text_format import format_duration


@dataclass(frozen=True)
class Cell:
    """A cell of the table: the address of an image, None if there is none, and its scene."""

    source: str | None
    caption: str


@dataclass(frozen=True)
class TableRow:
    """A row of the table.

    Attributes:
        detail: a line below the name.
        differences: how the row differs from the others.
        scores: its headline scores; `missing` says why there are none.
    """

    name: str
    cells: Sequence[Cell]
    differences: Sequence[str] = ()
    scores: Sequence[Result] = ()
    missing: str = ""
    detail: str = ""


def table(
    caption: str,
    first_column: str,
    columns: Sequence[str],
    rows: Sequence[TableRow],
    empty: str,
    mark_best: bool = True,
) -> str:
    """Return rows side by side. `empty` stands for a missing image."""
    best = best_values([row.scores for row in rows]) if mark_best else {}
    return view.render(
        "comparison.html",
        caption=caption,
        first_column=first_column,
        columns=columns,
        rows=rows,
        empty=empty,
        best={name: f"{value:.3f}" for name, value in best.items()},
        shown=shown,
        arrows=ARROWS,
    )


def shown(result: "Result") -> str:
    """Return a score as tables show it."""
    return f"{result.value:.3f}"


def address(path: Path) -> str:
    """Return where the page finds a file, relative to its own address."""
    return f"gradio_api/file={quote(path.as_posix())}"


def headlines(entries: Sequence[Result | MissingScore]) -> list[Result]:
    """Return the known headline scores: consistency, and alignment with the prompts."""
    known = {entry.name: entry for entry in entries if isinstance(entry, Result)}
    found = (
        next((known[name] for name in names if name in known), None) for names in (CONSISTENCY, ALIGNMENT)
    )
    return [result for result in found if result is not None]


def best_values(rows: Sequence[Sequence[Result]]) -> dict[str, float]:
    """Return the best value of each score by name, if rows differ in it as shown."""
    values: dict[str, list[Result]] = {}
    for results in rows:
        for result in results:
            values.setdefault(result.name, []).append(result)
    return {
        name: (max if results[0].better == "higher" else min)(result.value for result in results)
        for name, results in values.items()
        if len(set(map(shown, results))) > 1
    }


# -- the Compare tab -----------------------------------------------------------------------------------------


def summary(story: Story, settings: Settings, note: str = "") -> str:
    """Return what is compared: the story of the form in a line, and a note."""
    scenes = view.count(len(story.scenes), "scene")
    text = f"{story.style} {story.subject}, {scenes}, seed {story.seed}, {settings.steps} steps".strip()
    text = f"{text}. {note}." if note else f"{text}."
    return f'<p class="compare-story"><strong>Story:</strong> {escape(text)}</p>'


def status(snapshot: Snapshot) -> str:
    """Return the progress of a comparison as text and a bar."""
    progress, count = snapshot.current, len(snapshot.rows)
    if snapshot.over:
        return _ended(snapshot)
    if progress is None:
        return view.waiting(True, 0)
    if progress.state in ("loading", "waiting"):
        return view.status(progress)
    name = f"Row {snapshot.at + 1} of {count}, {snapshot.rows[snapshot.at].row.name}"
    if snapshot.scoring:
        return view.progress_bar(f"{name}: computing scores", "", snapshot.share)
    number = min(len(progress.pictures) + 1, progress.frames)
    left = snapshot.seconds_left
    detail = "" if left is None else f"About {format_duration(left)} left"
    return view.progress_bar(f"{name}: image {number} of {progress.frames}", detail, snapshot.share)


def _ended(snapshot: Snapshot) -> str:
    made, notes = view.count_images(snapshot.pictures), [_filtered(snapshot), _notes(snapshot)]
    kept = f"{made} kept." if snapshot.pictures else ""
    if snapshot.stopped:
        return view.note(view.join("Stopped.", kept, *notes))
    if snapshot.failed:
        return view.alert(view.join(snapshot.current.error, kept, *notes))
    return view.note(view.join(f"{made} in {format_duration(snapshot.seconds)}.", *notes), "note-done")


def _notes(snapshot: Snapshot) -> str:
    """Return the notes of all rows, each once, with the rows it is about unless it is about all."""
    names: dict[str, list[str]] = {}
    for result in snapshot.started:
        for note in dict.fromkeys(result.progress.notes):
            names.setdefault(note, []).append(result.row.name)
    texts = []
    for note, rows in names.items():
        about = "" if len(rows) == len(snapshot.started) else f" on {', '.join(rows)}"
        texts.append(f"Note{about}: {note}.")
    return " ".join(texts)


def _filtered(snapshot: Snapshot) -> str:
    """Return which images were filtered in each row, and that scores leave them out."""
    texts = [
        f"{result.row.name}: {text}"
        for result in snapshot.started
        if (text := view.filtered_text(result.progress.pictures))
    ]
    if not texts:
        return ""
    left_out = "Scores leave out filtered images."
    if not _is_comparable(snapshot):
        left_out = (
            "Scores leave out filtered images. Rows lack different images, so no row is marked as best."
        )
    return view.join(*texts, left_out)


def _is_comparable(snapshot: Snapshot) -> bool:
    """Return whether the scores of all rows leave out the same images."""
    scored = [result.progress.pictures for result in snapshot.rows if result.entries]
    filtered = {tuple(picture.frame for picture in pictures if picture.filtered) for pictures in scored}
    return len(filtered) <= 1


def grid(snapshot: Snapshot) -> str:
    """Return the images so far: a row for each setting, a column for each scene."""
    scenes = snapshot.story.scene_texts
    return table(
        f"{snapshot.story.subject}: one row per setting, one column per scene",
        "Setting",
        scenes,
        [_table_row(result, scenes) for result in snapshot.rows],
        "not generated" if snapshot.over else "pending",
        _is_comparable(snapshot),
    )


def _table_row(result: RowResult, scenes: Sequence[str]) -> TableRow:
    pictures = result.progress.pictures if result.progress else ()
    made = {one.frame: Cell(address(one.path), view.caption(one.scene, one.filtered)) for one in pictures}
    cells = [made.get(frame) or Cell(None, scene) for frame, scene in enumerate(scenes)]
    entries = result.entries or ()
    missing = next((str(entry) for entry in entries if isinstance(entry, MissingScore)), "")
    return TableRow(result.row.name, cells, result.differences, headlines(entries), missing)


def grid_rows(snapshot: Snapshot) -> tuple[GridRow, ...]:
    """Return the rows as the image for download shows them."""
    return tuple(_grid_row(result, len(snapshot.story.scenes)) for result in snapshot.rows)


def _grid_row(result: RowResult, count: int) -> GridRow:
    pictures: list[Image.Image | None] = [None] * count
    for picture in result.progress.pictures if result.progress else ():
        with Image.open(picture.path) as image:
            pictures[picture.frame] = image.convert("RGB")
    scores = [f"{score.name} {shown(score)}" for score in headlines(result.entries or ())]
    differences = (", ".join(result.differences),) if result.differences else ()
    return GridRow(result.row.name, (*differences, *scores), tuple(pictures))
