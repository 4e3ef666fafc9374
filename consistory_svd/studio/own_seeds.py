"""Seeds of single pictures belong to scenes: they follow a scene that is moved, and stay behind when it is
rewritten or removed, or when the subject becomes another one.

A box that nobody sees says whose the seeds are: the subject and the scenes that they were drawn, restored or
typed for. Without it a number would mean whatever scene comes to stand in its place.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.story import Story

PAIR = re.compile(r"([1-9]\d*)\s*=\s*(\d+)")
ONLY_PAIRS = re.compile(rf"(\s*{PAIR.pattern}\s*(,|$))*\s*")
SEED_HELP = field_of(Story, "seed").help


def owner_of(subject: Any, scenes: Any, seeds: Any, shown: Any = None) -> str:
    """What the hidden box holds: seeds, as they are typed, of these scenes, a line each, and what of them the
    page shows (all by default)."""
    if not ONLY_PAIRS.fullmatch(seeds or ""):  # half typed or wrong: as it stands, to be refused in words
        seeds = ""
    own = dict(PAIR.findall(seeds or ""))
    known = {
        "subject": _text(subject),
        "scenes": _lines(scenes),
        "seeds": own,
        "shown": _text(seeds if shown is None else shown),
    }
    return json.dumps(known, ensure_ascii=False)


def followed(values: Mapping[str, Any]) -> Any:
    """The form's seeds as they are typed, for its subject and scenes as they are now."""
    owner = _read(values.get("seeds_of"))
    if owner is None or owner["shown"] != _text(values["seeds"]):  # typed since: meant as they stand
        return values["seeds"]
    return _moved(owner, values["subject"], values["scenes"])


def follow(subject: Any, scenes: Any, seeds: Any, seeds_of: Any) -> tuple[Any, Any, Any]:
    """After a change on the page: the seeds, whose they are, and the seed's box, which says what became of
    them."""
    owner = _read(seeds_of)
    if owner is None or owner["shown"] != _text(seeds):
        return gr.skip(), owner_of(subject, scenes, seeds), _seed_says(PAIR.findall(seeds or ""), 0)
    now = _moved(owner, subject, scenes)
    pairs = PAIR.findall(now)
    said = _seed_says(pairs, len(owner["seeds"]) - len(pairs))
    if now == owner["shown"]:
        return gr.skip(), gr.skip(), said
    return now, json.dumps({**owner, "shown": now}, ensure_ascii=False), said


def _moved(owner: Mapping[str, Any], subject: Any, scenes: Any) -> str:
    """The owner's seeds as they are typed, each for the scene that it belongs to, wherever that is now."""
    if owner["subject"] != _text(subject):
        return ""
    before = _counted(owner["scenes"])
    own = {scene: owner["seeds"].get(str(number)) for number, scene in enumerate(before, start=1)}
    now = enumerate(_counted(_lines(scenes)), start=1)
    return ", ".join(f"{number}={own[scene]}" for number, scene in now if own.get(scene) is not None)


def _counted(scenes: Sequence[str]) -> list[tuple[str, int]]:
    """Each scene, and how many before it say the same."""
    return [(scene, scenes[:at].count(scene)) for at, scene in enumerate(scenes)]


def _seed_says(pairs: Sequence[tuple[str, str]], left: int) -> Any:
    said = [SEED_HELP]
    if len(pairs) == 1:
        said.append(f"Picture {pairs[0][0]} has a seed of its own, under Advanced.")
    elif pairs:
        numbers = [number for number, _ in pairs]
        said.append(
            f"Pictures {', '.join(numbers[:-1])} and {numbers[-1]} have seeds of their own, under Advanced."
        )
    if left:
        which = "A single picture's seed is" if left == 1 else f"Seeds of {left} single pictures are"
        said.append(f"{which} not used: the subject or the scene is another one now.")
    return gr.update(info=" ".join(said))


def _read(text: Any) -> dict[str, Any] | None:
    return json.loads(text) if text else None


def _text(value: Any) -> str:
    return str(value or "").strip()


def _lines(scenes: Any) -> list[str]:
    return [line.strip() for line in _text(scenes).splitlines() if line.strip()]
