"""What visitors typed, made into a Story and Settings; every refusal is a ValueError that names the field."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from consistory_svd.settings import Settings, Story, check, find_concept, knob

LABELS = {item.name: knob(owner, item.name).label for owner in (Story, Settings) for item in fields(owner)}


def read_form(
    subject: str,
    concept: str,
    style: str,
    scenes: str,
    negative: str,
    sdsa: bool,
    query_blending: bool,
    masking: bool,
    mask_dropout: float,
    anchors: float,
    random_anchors: bool,
    same_latent: bool,
    injection: bool,
    short_first_pass: bool,
    freeu: bool,
    steps: float,
    guidance: float,
    seed: float,
) -> tuple[Story, Settings]:
    """The story and the settings that the form's values describe, in the form's order.

    `scenes` holds one scene a line, `concept` words parted by commas. The values may be anything that JSON
    can carry (an emptied box is null): they come from the page or from any other client.

    Raises:
        ValueError: a field is missing, of the wrong kind or out of range; the message names the field, the
            value and what is allowed.
    """
    story = Story(
        subject=_text("subject", subject),
        scenes=_parts(_text("scenes", scenes).splitlines()),
        style=_text("style", style),
        concepts=_parts(_text("concepts", concept).split(",")),
        negative=_text("negative", negative),
        seed=_whole("seed", seed),
    )
    settings = Settings(
        steps=_whole("steps", steps),
        guidance=_number("guidance", guidance),
        sdsa=_switch("sdsa", sdsa),
        query_blending=_switch("query_blending", query_blending),
        masking=_switch("masking", masking),
        mask_dropout=_number("mask_dropout", mask_dropout),
        anchors=_whole("anchors", anchors),
        random_anchors=_switch("random_anchors", random_anchors),
        same_latent=_switch("same_latent", same_latent),
        injection=_switch("injection", injection),
        short_first_pass=_switch("short_first_pass", short_first_pass),
        freeu=_switch("freeu", freeu),
    )
    check(story, settings)
    return story, settings


def concept_of(subject: str) -> str:
    """The concept word to offer for a subject that may be half typed; empty while there is none."""
    try:
        return find_concept(subject)
    except ValueError:
        return ""


def in_words(refusal: ValueError) -> str:
    """A refusal as a visitor reads it: the field under the label that it has on the page."""
    field, colon, rest = str(refusal).partition(":")
    return f"{LABELS[field]}:{rest}" if colon and field in LABELS else str(refusal)


def _text(field: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{field}: {value!r} is not allowed; give a text")
    return value.strip()


def _parts(pieces: Iterable[str]) -> tuple[str, ...]:
    return tuple(piece.strip() for piece in pieces if piece.strip())


def _switch(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{field}: {value!r} is not allowed; give true or false")
    return value


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = "nothing" if value is None else repr(value)
        raise ValueError(f"{field}: {found} is not allowed; give a number")
    return float(value)


def _whole(field: str, value: Any) -> int:
    number = _number(field, value)
    if not number.is_integer():
        raise ValueError(f"{field}: {number:g} is not allowed; give a whole number")
    return int(number)
