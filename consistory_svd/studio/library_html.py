"""Saved stories as text and HTML: cards, headings, settings and comparisons."""

from collections.abc import Sequence
from dataclasses import fields
from html import escape
from typing import Any

from consistory_svd.fields import field_of
from consistory_svd.library import KeptStory
from consistory_svd.metrics.result import MissingScore, Result
from consistory_svd.presets import SAMPLING_FIELDS, format_filter
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Scene, Story
from consistory_svd.studio import html as view
from consistory_svd.studio.compare_html import Cell, TableRow, address, headlines, table

MAX_CAPTION = 60
NOTHING_SELECTED = "Select a story to see its images, open it in the Story tab, or export it."
EMPTY = "No stories yet. Every story that you generate is saved here with its images and settings."


def card(story: KeptStory) -> str:
    """Return the caption of a story's cover: subject, date, images, preset and score."""
    if story.record is None:
        return f"{story.name} · unreadable"
    title = story.title if len(story.title) <= MAX_CAPTION else f"{story.title[:MAX_CAPTION]}…"
    texts = [title, date(story), view.count_images(len(story.pictures)), story.description]
    if story.headline:
        arrow = "↑" if story.headline.better == "higher" else "↓"
        texts.append(f"consistency {story.headline.value:.2f} {arrow}")
    return " · ".join(texts)


def date(story: KeptStory) -> str:
    """Return when the story was generated, such as "3 Nov 2026, 13:27"."""
    return f"{story.generated.day} {story.generated:%b %Y, %H:%M}"


def counted(shown: int, total: int, query: str) -> str:
    """Return how many stories match a query, and how many of them are shown."""
    query = query.strip()
    if not total:
        return view.note(f"No story matches “{query}”." if query else EMPTY)
    text = view.count(total, "story") + (f" matching “{query}”" if query else "")
    more = "" if shown == total else f", {shown} shown"
    return f'<p class="count" data-say>{escape(text + more)}</p>'


def heading(story: KeptStory) -> str:
    """Return a story's title, when it was generated, and its settings."""
    record = story.record
    if record is None:
        return view.render("story_heading.html", title=story.name, problem=story.problem, settings=None)
    scenes, images = len(record.story.scenes), view.count_images(len(story.pictures))
    if len(story.pictures) < scenes:
        images = f"{len(story.pictures)} of {view.count_images(scenes)}"
    return view.render(
        "story_heading.html",
        title=story.title,
        summary=f"Generated {date(story)}: {images} with {record.model}.",
        problem=story.problem,
        settings=settings_of(story),
    )


def settings_of(story: KeptStory) -> dict[str, str]:
    """Return a story and its settings as text, by the labels of the page. Empty ones are left out."""
    record = story.record
    texts = {"Preset": story.description}
    for owner, values in ((Story, record.story), (Settings, record.settings)):
        for item in fields(owner):
            texts[field_of(owner, item.name).label] = format_value(getattr(values, item.name))
    return {label: text for label, text in texts.items() if text}


def format_value(value: Any) -> str:
    """Return the value of a setting as text."""
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
            return "; ".join(map(format_value, value))
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def compared(stories: Sequence[KeptStory], scores: Sequence[Sequence[Result | MissingScore]]) -> str:
    """Return stories side by side; `scores` are those saved with each."""
    scenes = list(dict.fromkeys(scene for story in stories for scene in story.scenes))
    rows = [
        TableRow(
            story.title,
            _cells(story, scenes),
            [f"{label}: {value}" for label, value in differences.items()],
            headlines(entries),
            "Not scored.",
            f"{story.description}, {date(story)}",
        )
        for story, entries, differences in zip(stories, scores, _differences(stories), strict=True)
    ]
    caption = "One row per story, one column per scene"
    return table(caption, "Story", scenes, rows, "no such scene", mark_best=False)


def _cells(story: KeptStory, scenes: Sequence[str]) -> list[Cell]:
    pictures = dict(zip(story.scenes, story.pictures, strict=True))
    return [Cell(address(pictures[scene]) if scene in pictures else None, scene) for scene in scenes]


def _differences(stories: Sequence[KeptStory]) -> list[dict[str, str]]:
    """Return for each story the settings in which the stories differ."""
    known = [settings_of(story) for story in stories]
    skipped = {"Preset", *(field_of(Story, name).label for name in ("subject", "scenes"))}
    skipped |= {
        field_of(Settings, name).label for name in SAMPLING_FIELDS if name in ("batch", "preview_every")
    }
    labels = [
        label for label in dict.fromkeys(label for one in known for label in one) if label not in skipped
    ]
    differ = [label for label in labels if len({one.get(label, "–") for one in known}) > 1]
    return [{label: one.get(label, "–") for label in differ} for one in known]
