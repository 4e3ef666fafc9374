"""What the Compare room says and shows: snapshots as pieces of HTML. Pure functions, everything escaped."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from consistory_svd.metrics.report import ARROWS
from consistory_svd.metrics.result import ALIGNMENT, CONSISTENCY, MissingScore, Result
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.comparison import Generation, Snapshot
from consistory_svd.studio.comparison_image import GridRow
from consistory_svd.studio.html import _plain, progress_bar
from consistory_svd.text_format import format_duration

# Where the page finds a file.
Address = Callable[[Path], str]


def summary(story: Story, settings: Settings, note: str = "") -> str:
    """What is compared: the Story room's story in a line, and a note on it."""
    scenes = "1 scene" if len(story.scenes) == 1 else f"{len(story.scenes)} scenes"
    said = f"{story.style} {story.subject}, {scenes}, seed {story.seed}, {settings.steps} steps".strip()
    said = f"{said}. {note}." if note else f"{said}."
    return f'<p class="compare-story"><strong>The story:</strong> {escape(said)}</p>'


def status(snapshot: Snapshot) -> str:
    """How far a comparison is, in words and as a bar."""
    progress, rows = snapshot.current, len(snapshot.generations)
    if snapshot.over:
        return _ended(snapshot)
    if progress is None or progress.state in ("loading", "waiting"):
        return view.status(progress) if progress else view.waiting(True, 0)
    name = f"Setting {snapshot.at + 1} of {rows}, {snapshot.generations[snapshot.at].row.name}"
    if snapshot.scoring:
        return progress_bar(f"{name}: its scores", "", snapshot.share)
    doing = f"{name}: picture {min(len(progress.pictures) + 1, progress.frames)} of {progress.frames}"
    left = snapshot.seconds_left
    detail = "" if left is None else f"About {format_duration(left)} left"
    return progress_bar(doing, detail, snapshot.share)


def _ended(snapshot: Snapshot) -> str:
    made, said = view.pictures_in_words(snapshot.pictures), (_filtered(snapshot), _notes(snapshot))
    if snapshot.stopped:
        words = (f"Stopped. {made} made and kept.", *said) if snapshot.pictures else ("Stopped.",)
        return _plain(" ".join(filter(None, words)))
    if snapshot.failed:
        words = (snapshot.current.error, f"{made} made and kept.", *said)
        return view.alert(" ".join(filter(None, words)))
    words = (f"{made} in {format_duration(snapshot.seconds)}.", *said)
    return _plain(" ".join(filter(None, words)), "note-done")


def _notes(snapshot: Snapshot) -> str:
    """What was noted while the rows were told, each once, with the rows it is about unless it is all."""
    generated = [generation for generation in snapshot.generations if generation.progress]
    names: dict[str, list[str]] = {}
    for generation in generated:
        for note in dict.fromkeys(generation.progress.notes):
            names.setdefault(note, []).append(generation.row.name)
    said = []
    for note, rows in names.items():
        about = "" if len(rows) == len(generated) else f" on {', '.join(rows)}"
        said.append(f"Note{about}: {note}.")
    return " ".join(said)


def _filtered(snapshot: Snapshot) -> str:
    """Which pictures are withheld, setting by setting, and that scores leave them out."""
    generated = [
        (generation.row.name, generation.progress)
        for generation in snapshot.generations
        if generation.progress
    ]
    words = [(name, view.filtered_text(progress.pictures)) for name, progress in generated]
    said = [f"{name}: {text}" for name, text in words if text]
    left_out = "Scores leave out what is withheld."
    if len(_left_out(snapshot)) > 1:
        left_out = "Scores leave out what is withheld, which is not the same everywhere: none is called best."
    return " ".join([*said, left_out]) if said else ""


def _left_out(snapshot: Snapshot) -> set[tuple[int, ...]]:
    """The frames that scores leave out, for each way of leaving out that there is among scored rows."""
    scored = [generation.progress.pictures for generation in snapshot.generations if generation.entries]
    return {tuple(picture.frame for picture in pictures if picture.filtered) for pictures in scored}


def grid(snapshot: Snapshot, address: Address) -> str:
    """The pictures, a row a setting and a column a scene; what differs and the scores beside each row."""
    scenes = snapshot.story.scene_texts
    entries = [generation.entries or () for generation in snapshot.generations]
    best = best_values(entries) if len(_left_out(snapshot)) <= 1 else {}
    head = "".join(f'<th scope="col">{escape(scene)}</th>' for scene in scenes)
    lacking = "not drawn" if snapshot.over else "not yet"
    body = "".join(_row(generation, scenes, best, address, lacking) for generation in snapshot.generations)
    return (
        f'<div class="compare-wide"><table class="compare" style="--scenes:{len(scenes)}">'
        f"<caption>{escape(snapshot.story.subject)}: "
        "a row a setting, a column a scene</caption>"
        f'<thead><tr><th scope="col">Setting</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def grid_rows(snapshot: Snapshot) -> tuple[GridRow, ...]:
    """The rows as the picture for download shows them."""
    return tuple(_drawn(generation, len(snapshot.story.scenes)) for generation in snapshot.generations)


def headlines(entries: Sequence[Result | MissingScore]) -> list[Result]:
    """The headline numbers that are known: how alike the pictures are, how well they follow their prompts."""
    known = {entry.name: entry for entry in entries if isinstance(entry, Result)}
    found = (
        next((known[name] for name in names if name in known), None) for names in (CONSISTENCY, ALIGNMENT)
    )
    return [result for result in found if result is not None]


def best_values(rows: Sequence[Sequence[Result | MissingScore]]) -> dict[str, float]:
    """The best value of each headline number, by name, where rows differ in it."""
    values: dict[str, list[Result]] = {}
    for entries in rows:
        for result in headlines(entries):
            values.setdefault(result.name, []).append(result)
    return {
        name: (max if results[0].better == "higher" else min)(result.value for result in results)
        for name, results in values.items()
        if len({_shown(result) for result in results}) > 1
    }


def _shown(result: Result) -> str:
    return f"{result.value:.3f}"


def _row(
    generation: Generation, scenes: Sequence[str], best: dict[str, float], address: Address, lacking: str
) -> str:
    marks = "".join(f"<li>{escape(words)}</li>" for words in generation.differences)
    pictures = generation.progress.pictures if generation.progress else ()
    cells = "".join(
        _cell(address(pictures[k].path), generation.row.name, view.caption(scene, pictures[k].filtered))
        if k < len(pictures)
        else _empty(scene, lacking)
        for k, scene in enumerate(scenes)
    )
    marked = f'<ul class="differences" aria-label="What differs">{marks}</ul>' if marks else ""
    return (
        f'<tr><th scope="row"><span class="name">{escape(generation.row.name)}</span>{marked}'
        f"{_scores(generation, best)}</th>{cells}</tr>"
    )


def _cell(source: str, name: str, scene: str) -> str:
    said = escape(f"{name}: {scene}", quote=True)
    return (
        f'<td><button type="button" class="large" data-caption="{said}" aria-label="Enlarge {said}">'
        f'<img src="{escape(source, quote=True)}" alt="{said}"></button>'
        f'<span class="scene" aria-hidden="true">{escape(scene)}</span></td>'
    )


def _empty(scene: str, lacking: str) -> str:
    return (
        f'<td><div class="empty"><span>{lacking}</span></div>'
        f'<span class="scene" aria-hidden="true">{escape(scene)}</span></td>'
    )


def _scores(generation: Generation, best: dict[str, float]) -> str:
    if generation.entries is None:
        return ""
    results = headlines(generation.entries)
    if not results:
        why = next((str(entry) for entry in generation.entries if isinstance(entry, MissingScore)), "")
        return f'<p class="no-scores">{escape(why)}</p>'
    items = "".join(
        f"<div{_best_class(result, best)}><dt>{escape(result.name)}, {ARROWS[result.better]}</dt>"
        f"<dd>{_shown(result)}{_best_word(result, best)}</dd></div>"
        for result in results
    )
    return f'<dl class="row-scores">{items}</dl>'


def _is_best(result: Result, best: dict[str, float]) -> bool:
    return result.name in best and f"{best[result.name]:.3f}" == _shown(result)


def _best_class(result: Result, best: dict[str, float]) -> str:
    return ' class="best"' if _is_best(result, best) else ""


def _best_word(result: Result, best: dict[str, float]) -> str:
    return " <span>best</span>" if _is_best(result, best) else ""


def _drawn(generation: Generation, count: int) -> GridRow:
    pictures: list[Image.Image | None] = [None] * count
    for k, picture in enumerate(generation.progress.pictures if generation.progress else ()):
        with Image.open(picture.path) as image:
            pictures[k] = image.convert("RGB")
    scores = [f"{result.name} {_shown(result)}" for result in headlines(generation.entries or ())]
    said = (", ".join(generation.differences),) if generation.differences else ()
    return GridRow(generation.row.name, (*said, *scores), tuple(pictures))
