"""Suites of stories: YAML files with groups of entries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from consistory_svd.story import Story

STORYBOOK_SUITE = Path(__file__).parent / "suites" / "storybook.yaml"
NEEDED = ("subject", "settings")
KEYS = ("subject", "concept_token", "settings", "style")


@dataclass(frozen=True)
class Entry:
    """A story of a suite and its group."""

    group: str
    story: Story


def load_suite(path: Path, frames: int | None = None) -> list[Entry]:
    """Read the stories of a suite in the file's order, each with its first `frames` scenes (None: all).

    The file maps group names to lists of entries. An entry has `subject`, `settings` (a list of scenes) and
    optionally `concept_token` (a word or a list of words) and `style`.

    Raises:
        ValueError: the file does not have this form; names the file, group, entry and key.
    """
    try:
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"suite: {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"suite: {path} is not YAML: {error}") from error
    if not isinstance(groups, dict) or not groups:
        raise ValueError(f"suite: {path} holds no groups; it must map group names to lists of entries")
    entries = []
    for group, members in groups.items():
        if not isinstance(members, list) or not members:
            raise ValueError(f"suite: {path}, group {group!r}: not a list of entries")
        for number, member in enumerate(members, start=1):
            try:
                entries.append(Entry(str(group), _story(member, frames)))
            except ValueError as error:
                raise ValueError(f"suite: {path}, group {group!r}, entry {number}: {error}") from error
    return entries


def _story(member: Any, frames: int | None) -> Story:
    if not isinstance(member, dict):
        raise ValueError(f"{member!r} is not an entry; give a mapping with the keys {', '.join(KEYS)}")
    for key in member:
        if key not in KEYS:
            raise ValueError(f"{key}: no such key; the keys are {', '.join(KEYS)}")
    for key in NEEDED:
        if key not in member:
            raise ValueError(f"{key}: is missing")
    style = {"style": _text("style", member["style"])} if "style" in member else {}
    return Story(
        subject=_text("subject", member["subject"]),
        scenes=_texts("settings", member["settings"])[:frames],
        concepts=_concepts(member.get("concept_token")),
        **style,
    )


def _concepts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else _texts("concept_token", value)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key}: {value!r} is not a list of texts")
    return tuple(_text(key, item) for item in value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key}: {value!r} is not a text")
    return value
