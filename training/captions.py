"""Captions from a grammar: any attribute may be named or left out, so that what is not named is truly
free."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.world.vocabulary import (
    ACCESSORIES,
    ACTIONS,
    COLORS,
    PATTERNS,
    SCENE_PHRASES,
    SCENES,
    STYLE_PHRASES,
    STYLES,
    SUBJECT_WORDS,
    SUBJECTS,
)

# Words that say nothing of how the picture looks, so that they do no harm when a writer uses them.
FILLERS = (
    "cute",
    "little",
    "friendly",
    "happy",
    "funny",
    "beautiful",
    "lovely",
    "fluffy",
    "small",
    "big",
    "old",
    "young",
)
SCENE_FILLERS = ("", "", "", "", "", "", "on a sunny day", "in the morning", "one day")
# How often each thing is named.
NAMED = {"style": 0.8, "scene": 0.93, "action": 0.6, "color": 0.55, "pattern": 0.4, "accessory": 0.45}


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _pick(rng: np.random.Generator, options) -> str:
    # The first way of saying it is the usual one.
    return options[0] if rng.random() < 0.5 else str(rng.choice(options))


def accessory_phrase(truth: dict[str, str], rng: np.random.Generator) -> str:
    """ "with a red scarf", "wearing glasses", ... ; "" for a subject without accessory."""
    name = truth["accessory"]
    if name == "none":
        return ""
    words = f"{truth['accessory_color']} {name}" if rng.random() < 0.5 else name
    words = words if name == "glasses" else _article(words)
    return f"{'with' if rng.random() < 0.65 else 'wearing'} {words}"


def _figure(truth: dict[str, str], rng: np.random.Generator) -> str:
    """ "a striped red cat with a blue hat", with or without each of these."""
    named = {key: rng.random() < NAMED[key] for key in ("pattern", "color", "accessory")}
    adjectives = []
    if rng.random() < 0.12:
        adjectives.append(str(rng.choice(FILLERS)))
    adjectives += [truth[key] for key in ("pattern", "color") if named[key]]
    if len(adjectives) > 1 and rng.random() < 0.3:
        adjectives.reverse()
    words = " ".join([*adjectives, _pick(rng, SUBJECT_WORDS[truth["subject"]])])
    start = _article(words) if rng.random() < 0.94 else f"the {words}"
    accessory = accessory_phrase(truth, rng) if named["accessory"] else ""
    return f"{start} {accessory}".strip()


def caption(truth: dict, rng: np.random.Generator) -> str:
    """A caption of a picture with the attributes `truth` (as `render` gives them)."""
    named = {key: rng.random() < NAMED[key] for key in ("style", "scene", "action")}
    figures = [_figure(truth, rng)]
    if "partner" in truth:
        figures.append(_figure(truth["partner"], rng))
        if rng.random() < 0.5:
            figures.reverse()
    tail = [
        truth["action"] if named["action"] else "",
        _pick(rng, SCENE_PHRASES[truth["scene"]]) if named["scene"] else "",
    ]
    if rng.random() < 0.15:
        tail.reverse()
    if rng.random() < 0.1 and tail[0] and tail[1]:
        tail[0] += ","
    parts = [" and ".join(figures), *tail, str(rng.choice(SCENE_FILLERS))]
    if named["style"]:
        parts.insert(0, _pick(rng, STYLE_PHRASES[truth["style"]]))
    return " ".join(part for part in parts if part)


def full_caption(truth: dict[str, str]) -> str:
    """A caption that names everything that captions can name, in the usual words."""
    return f"{STYLE_PHRASES[truth['style']][0]} {named_subject(truth)} {named_scene(truth)}"


def named_subject(truth: dict[str, str]) -> str:
    """ "a striped red cat with a blue hat"; plain and no accessory are not said."""
    adjectives = [truth["pattern"]] if truth["pattern"] != "plain" else []
    words = _article(" ".join([*adjectives, truth["color"], SUBJECT_WORDS[truth["subject"]][0]]))
    if truth["accessory"] == "none":
        return words
    accessory = f"{truth['accessory_color']} {truth['accessory']}"
    return f"{words} with {accessory if truth['accessory'] == 'glasses' else _article(accessory)}"


def named_scene(truth: dict[str, str]) -> str:
    """ "jumping in the forest"."""
    return f"{truth['action']} {SCENE_PHRASES[truth['scene']][0]}"


def vocabulary() -> dict[str, dict[str, list[str]]]:
    """Every class of every attribute with the words that name it, as kept in
    `assets/storybook/words.json`."""
    return {
        "subject": {name: list(SUBJECT_WORDS[name]) for name in SUBJECTS},
        "color": {name: [name] for name in COLORS},
        "pattern": {name: [name] for name in PATTERNS},
        "accessory": {name: [name] for name in ACCESSORIES if name != "none"},
        "scene": {name: list(SCENE_PHRASES[name]) for name in SCENES},
        "action": {name: [name] for name in ACTIONS},
        "style": {name: list(STYLE_PHRASES[name]) for name in STYLES},
    }


def write_vocabulary(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "words.json").write_text(json.dumps(vocabulary(), indent=1) + "\n")
