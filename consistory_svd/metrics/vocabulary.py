"""The storybook world's vocabulary, and the attributes that a text names."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from consistory_svd.paths import ASSETS

VOCABULARY_FILE = ASSETS / "storybook" / "words.json"


@cache
def vocabulary(path: Path = VOCABULARY_FILE) -> dict[str, dict[str, list[str]]]:
    """Attribute -> class -> the words that name it, as the training wrote them. Raises FileNotFoundError."""
    return json.loads(path.read_text())


def attributes_in(prompt: str, words: dict[str, dict[str, list[str]]] | None = None) -> dict[str, str]:
    """The attributes that a prompt names: subject, color, pattern, accessory, accessory_color, scene, action,
    style. "a red cat with a blue hat" -> {"subject": "cat", "color": "red", "accessory": "hat",
    "accessory_color": "blue"}.

    Longer names take precedence over shorter ones inside them; a colour right before an accessory is the
    accessory's.
    """
    words = words or vocabulary()
    text = re.sub(r"[^\w\s]", " ", prompt.lower())
    text = re.sub(r"\s+", " ", text)
    found: dict[str, str] = {}
    colors = "|".join(sorted(words["color"], key=len, reverse=True))
    for name, ways in words["accessory"].items():
        for way in ways:
            match = re.search(rf"(?<!\w)(?:({colors}) )?{re.escape(way)}(?!\w)", text)
            # Only whole words count: "a gift box" has no bow.
            if match and "accessory" not in found:
                found["accessory"] = name
                if match[1]:
                    found["accessory_color"] = match[1]
                text = text[: match.start()] + " , " + text[match.end() :]
    for key in ("style", "scene", "subject", "action", "pattern", "color"):
        candidates = [(way, name) for name, ways in words[key].items() for way in ways]
        for way, name in sorted(candidates, key=lambda c: -len(c[0])):
            match = re.search(rf"(?<!\w){re.escape(way)}(?!\w)", text)
            if match:
                found[key] = name
                text = text[: match.start()] + " , " + text[match.end() :]
                break
    return found
