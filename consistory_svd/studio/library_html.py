"""What the library says: stories as pieces of HTML. Pure functions, everything escaped."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

from consistory_svd.fields import field_of
from consistory_svd.library import KeptStory, headline_of
from consistory_svd.metrics.report import ARROWS
from consistory_svd.metrics.result import ALIGNMENT
from consistory_svd.presets import SAMPLING_FIELDS, format_filter
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Scene, Story
from consistory_svd.studio.html import pictures_in_words
from consistory_svd.thumbnails import UNREADABLE, thumbnail

LONGEST_CAPTION = 60
NOTHING_CHOSEN = "Choose a story to see its pictures, to open it in Story, or to take it along."
EMPTY = "No story yet. Each story that you tell comes here, with its pictures and settings."


def note(words: str) -> str:
    """A line that a person has to know; nothing where there is none."""
    return f'<div class="note" data-say>{escape(words)}</div>' if words else ""


def card(story: KeptStory) -> str:
    """What stands below a story's cover: whom it is about, when it was told, how, and how alike it is."""
    if story.record is None:
        return f"{story.name} · cannot be read"
    title = story.title if len(story.title) <= LONGEST_CAPTION else f"{story.title[:LONGEST_CAPTION]}…"
    words = [title, date(story), pictures_in_words(len(story.pictures)), story.description]
    if story.headline:
        words.append(f"alike {story.headline.value:.2f} {'↑' if story.headline.better == 'higher' else '↓'}")
    return " · ".join(words)


def date(story: KeptStory) -> str:
    """When the story was told."""
    return f"{story.generated:%d} {story.generated:%b} {story.generated:%Y}, {story.generated:%H:%M}".lstrip(
        "0"
    )


def counted(shown: int, found: int, words: str) -> str:
    """How many stories there are, and how many of them are shown."""
    stories = "1 story" if found == 1 else f"{found} stories"
    if not found:
        return note(f"No story has “{words.strip()}” in it." if words.strip() else EMPTY)
    more = "" if shown == found else f", {shown} of them shown"
    having = f" with “{words.strip()}”" if words.strip() else ""
    return f'<p class="count" data-say>{escape(f"{stories}{having}{more}")}</p>'


def heading(story: KeptStory) -> str:
    """A story's title, and when and how it was told, in words."""
    if story.record is None:
        return (
            f"<h2>{escape(story.name)}</h2>"
            f'<div class="note note-alert" role="alert">{escape(story.problem)}</div>'
        )
    record = story.record
    count = pictures_in_words(len(story.pictures))
    if len(story.pictures) < len(record.story.scenes):
        count = f"{len(story.pictures)} of {pictures_in_words(len(record.story.scenes))}"
    when = f"Told {date(story)}: {count} by {record.model}."
    problem = f'<div class="note" data-say>{escape(story.problem)}</div>' if story.problem else ""
    rows = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in generated_with(story).items())
    return (
        f"<h2>{escape(story.title)}</h2><p>{escape(when)}</p>{problem}"
        f'<details><summary>Settings</summary><dl class="settings">{rows}</dl></details>'
    )


def generated_with(story: KeptStory) -> dict[str, str]:
    """A story and its settings in words, by the labels of the page. Empty texts are left out."""
    record = story.record
    said = {"Preset": story.description}
    for owner, values in ((Story, record.story), (Settings, record.settings)):
        for item in fields(owner):
            said[field_of(owner, item.name).label] = in_words(getattr(values, item.name))
    return {label: words for label, words in said.items() if words}


def in_words(value: Any) -> str:
    """The value of a setting, as a person says it."""
    match value:
        case bool():
            return "on" if value else "off"
        case None:
            return ""
        case Scene():
            return value.text if value.seed is None else f"{value.text} (seed {value.seed})"
        case SVDFilter():
            return format_filter(value)
        case tuple():
            return "; ".join(in_words(item) for item in value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def compared(stories: Sequence[KeptStory]) -> str:
    """Stories side by side: a row each, a column a scene, scores and what differs beside each row."""
    scenes = list(dict.fromkeys(scene for story in stories for scene in story.scenes))
    columns = "".join(f'<th scope="col">{escape(scene)}</th>' for scene in scenes)
    differing = _differing(stories)
    rows = "".join(
        f'<tr><th scope="row">{_row_title(story, differing[place])}</th><td>{_scores(story)}</td>'
        f"{_cells(story, scenes)}</tr>"
        for place, story in enumerate(stories)
    )
    return (
        '<section class="scores comparison" aria-label="Comparison"><div class="wide">'
        f'<table style="--scenes:{len(scenes)}">'
        f'<thead><tr><th scope="col">Story</th><th scope="col">Scores</th>{columns}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _row_title(story: KeptStory, differing: Mapping[str, str]) -> str:
    words = "".join(f"<li>{escape(label)}: {escape(value)}</li>" for label, value in differing.items())
    return f"{escape(story.title)}<p>{escape(story.description)}<br>{date(story)}</p><ul>{words}</ul>"


def _differing(stories: Sequence[KeptStory]) -> list[dict[str, str]]:
    """For each story the settings in which not all are alike."""
    said = [generated_with(story) for story in stories]
    labels = [label for label in dict.fromkeys(label for one in said for label in one) if label != "Preset"]
    skipped = {
        field_of(Settings, name).label for name in SAMPLING_FIELDS if name in ("batch", "preview_every")
    }
    skipped |= {field_of(Story, name).label for name in ("subject", "scenes")}
    differ = [x for x in labels if x not in skipped and len({one.get(x, "–") for one in said}) > 1]
    return [{label: one.get(label, "–") for label in differ} for one in said]


def _cells(story: KeptStory, scenes: Sequence[str]) -> str:
    pictures = dict(zip(story.scenes, story.pictures, strict=True))
    cells = []
    for scene in scenes:
        words = escape(f"{story.title}, {scene}", quote=True)
        try:
            source = _inline(pictures[scene])
            cells.append(f'<td><img src="{source}" alt="{words}"></td>')
        except (KeyError, *UNREADABLE):  # this story has no such scene, or its picture is broken
            cells.append("<td>–</td>")
    return "".join(cells)


def _scores(story: KeptStory) -> str:
    alike = headline_of(story.scores)
    aligned = next(
        (s for name in ALIGNMENT for s in (story.scores or {}).get("scores", ()) if s.get("name") == name),
        None,
    )
    said = []
    if alike:
        said.append((alike.name, alike.value, alike.better))
    if aligned:
        said.append((aligned["name"], aligned["value"], aligned["better"]))
    return (
        "".join(
            f"<p><strong>{value:.3f}</strong> {escape(name)}, {ARROWS[better]}</p>"
            for name, value, better in said
        )
        or "<p>Not scored.</p>"
    )


def _inline(picture: Path) -> str:
    """A picture, small, inside the page."""
    return "data:image/webp;base64," + base64.b64encode(thumbnail(picture).read_bytes()).decode()
