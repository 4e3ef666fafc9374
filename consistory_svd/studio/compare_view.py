"""What the Compare room says and shows: snapshots as pieces of HTML. Pure functions, everything escaped."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from consistory_svd.scores import Absent, Result
from consistory_svd.scores.report import ARROWS
from consistory_svd.settings import Settings, Story
from consistory_svd.studio import view
from consistory_svd.studio.comparing import Snapshot, Telling
from consistory_svd.studio.grid import GridRow
from consistory_svd.studio.scorecard import ALIGNED, ALIKE
from consistory_svd.studio.view import _bar, _plain

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
    progress, rows = snapshot.current, len(snapshot.tellings)
    if snapshot.over:
        return _ended(snapshot)
    if progress is None or progress.stage in ("loading", "waiting"):
        return view.status(progress) if progress else view.waiting(True, 0)
    name = f"Setting {snapshot.at + 1} of {rows}, {snapshot.tellings[snapshot.at].row.name}"
    if snapshot.scoring:
        return _bar(f"{name}: its scores", "", snapshot.share)
    doing = f"{name}: picture {min(len(progress.pictures) + 1, progress.frames)} of {progress.frames}"
    left = snapshot.seconds_left
    detail = "" if left is None else f"About {view.seconds_in_words(left)} left"
    return _bar(doing, detail, snapshot.share)


def _ended(snapshot: Snapshot) -> str:
    made, said = view.pictures_in_words(snapshot.pictures), (_withheld(snapshot), _notes(snapshot))
    if snapshot.stopped:
        words = (f"Stopped. {made} made and kept.", *said) if snapshot.pictures else ("Stopped.",)
        return _plain(" ".join(filter(None, words)))
    if snapshot.failed:
        words = (snapshot.current.error, f"{made} made and kept.", *said)
        return view.alert(" ".join(filter(None, words)))
    words = (f"{made} in {view.seconds_in_words(snapshot.seconds)}.", *said)
    return _plain(" ".join(filter(None, words)), "note-done")


def _notes(snapshot: Snapshot) -> str:
    """What was noted while the rows were told, each once, with the rows it is about unless it is all."""
    told = [telling for telling in snapshot.tellings if telling.progress]
    names: dict[str, list[str]] = {}
    for telling in told:
        for note in dict.fromkeys(telling.progress.notes):
            names.setdefault(note, []).append(telling.row.name)
    said = []
    for note, rows in names.items():
        about = "" if len(rows) == len(told) else f" on {', '.join(rows)}"
        said.append(f"Note{about}: {note}.")
    return " ".join(said)


def _withheld(snapshot: Snapshot) -> str:
    """Which pictures are withheld, setting by setting, and that scores leave them out."""
    told = [(telling.row.name, telling.progress) for telling in snapshot.tellings if telling.progress]
    words = [(name, view.withheld_words(progress.pictures)) for name, progress in told]
    said = [f"{name}: {text}" for name, text in words if text]
    left_out = "Scores leave out what is withheld."
    if len(_left_out(snapshot)) > 1:
        left_out = "Scores leave out what is withheld, which is not the same everywhere: none is called best."
    return " ".join([*said, left_out]) if said else ""


def _left_out(snapshot: Snapshot) -> set[tuple[int, ...]]:
    """The frames that scores leave out, for each way of leaving out that there is among scored rows."""
    scored = [telling.progress.pictures for telling in snapshot.tellings if telling.entries]
    return {tuple(picture.frame for picture in pictures if picture.withheld) for pictures in scored}


def grid(snapshot: Snapshot, address: Address) -> str:
    """The pictures, a row a setting and a column a scene; what differs and the scores beside each row."""
    scenes = snapshot.story.scenes
    entries = [telling.entries or () for telling in snapshot.tellings]
    best = best_values(entries) if len(_left_out(snapshot)) <= 1 else {}
    head = "".join(f'<th scope="col">{escape(scene)}</th>' for scene in scenes)
    lacking = "not drawn" if snapshot.over else "not yet"
    body = "".join(_row(telling, scenes, best, address, lacking) for telling in snapshot.tellings)
    return (
        f'<div class="compare-wide"><table class="compare" style="--scenes:{len(scenes)}">'
        f"<caption>{escape(snapshot.story.subject)}: "
        "a row a setting, a column a scene</caption>"
        f'<thead><tr><th scope="col">Setting</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def grid_rows(snapshot: Snapshot) -> tuple[GridRow, ...]:
    """The rows as the picture for download shows them."""
    return tuple(_drawn(telling, len(snapshot.story.scenes)) for telling in snapshot.tellings)


def headlines(entries: Sequence[Result | Absent]) -> list[Result]:
    """The headline numbers that are known: how alike the pictures are, how well they follow their prompts."""
    known = {entry.name: entry for entry in entries if isinstance(entry, Result)}
    found = (next((known[name] for name in names if name in known), None) for names in (ALIKE, ALIGNED))
    return [result for result in found if result is not None]


def best_values(rows: Sequence[Sequence[Result | Absent]]) -> dict[str, float]:
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
    telling: Telling, scenes: Sequence[str], best: dict[str, float], address: Address, lacking: str
) -> str:
    marks = "".join(f"<li>{escape(words)}</li>" for words in telling.differences)
    pictures = telling.progress.pictures if telling.progress else ()
    cells = "".join(
        _cell(address(pictures[k].path), telling.row.name, view.caption(scene, pictures[k].withheld))
        if k < len(pictures)
        else _empty(scene, lacking)
        for k, scene in enumerate(scenes)
    )
    marked = f'<ul class="differences" aria-label="What differs">{marks}</ul>' if marks else ""
    return (
        f'<tr><th scope="row"><span class="name">{escape(telling.row.name)}</span>{marked}'
        f"{_scores(telling, best)}</th>{cells}</tr>"
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


def _scores(telling: Telling, best: dict[str, float]) -> str:
    if telling.entries is None:
        return ""
    results = headlines(telling.entries)
    if not results:
        why = next((str(entry) for entry in telling.entries if isinstance(entry, Absent)), "")
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


def _drawn(telling: Telling, count: int) -> GridRow:
    pictures: list[Image.Image | None] = [None] * count
    for k, picture in enumerate(telling.progress.pictures if telling.progress else ()):
        with Image.open(picture.path) as image:
            pictures[k] = image.convert("RGB")
    scores = [f"{result.name} {_shown(result)}" for result in headlines(telling.entries or ())]
    said = (", ".join(telling.differences),) if telling.differences else ()
    return GridRow(telling.row.name, (*said, *scores), tuple(pictures))
