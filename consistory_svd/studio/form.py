"""Form values <-> (Story, Settings).

`parse` reads the values of the form's components, `fill` is its inverse. Examples, links, files and saved
stories all reach the form through `fill`. `encode_link` and `decode_link` carry a story and its settings in
an address.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from consistory_svd.errors import FieldError
from consistory_svd.fields import field_of
from consistory_svd.limits import Limits
from consistory_svd.metadata import settings_of, story_as_dict, story_of
from consistory_svd.settings import BOOL_FIELDS, CHOICE_FIELDS, Settings, SVDFilter, check
from consistory_svd.story import Scene, Story, find_concept

# Settings that a preset fills in, beside the two filters.
METHOD_FIELDS = (
    *("sdsa", "query_blending", "masking", "mask_dropout", "anchors", "random_anchors", "same_latent"),
    *("injection", "short_first_pass", "freeu"),
)
SAMPLING_FIELDS = ("steps", "guidance", "batch", "scheduler", "spacing", "width", "height")
SIDES = ("k", "v")
# How many singular values are kept: the value of each strategy's component while it is not in use.
AMOUNTS = {"count": 8, "quantile": 0.05, "energy": 0.95}
FILTER_LABELS = {
    "keep": "keep",
    "count": "count",
    "quantile": "ratio",
    "energy": "energy",
    "reweight": "reweighting",
    "alpha": "alpha",
}
LABELS = {
    **{item.name: field_of(owner, item.name).label for owner in (Story, Settings) for item in fields(owner)},
    **{
        f"{side}_{name}": f"{side.upper()} {label}" for side in SIDES for name, label in FILTER_LABELS.items()
    },
    "seeds": "Scene seeds",
    "v_as_k": "Filter V like K",
    "record_svd": "Record singular values",
    "show_masks": "Show subject masks",
    "queue": "Queue",
    "settings": "Settings",
}
LINK_PARAMETER = "story"
LONGEST_LINK = 6000  # characters; servers and proxies cut off longer addresses


def parse(values: Mapping[str, Any]) -> tuple[Story, Settings]:
    """Return the story and the settings that the form's values describe.

    The values may be anything that JSON can carry, because they come from a page or from any other client.
    More anchors than the story has scenes are reduced to its scenes; see `anchor_note`.

    Args:
        values: by name of the component. `scenes` is a list of {"text", "seed"}; `concept` is a list of
            words, separated by commas; an empty box is "" or None. Filters are read as in `parse_filters`.

    Raises:
        ValueError: a value is missing, of the wrong type or out of range.
    """
    story = Story(
        subject=_text("subject", values["subject"]),
        scenes=parse_scenes(values["scenes"]),
        style=_text("style", values["style"]),
        concepts=tuple(filter(None, map(str.strip, _text("concepts", values["concept"]).split(",")))),
        negative=_text("negative", values["negative"]),
        seed=_whole("seed", values["seed"]),
    )
    k_filter, v_filter = parse_filters(values)
    settings = Settings(
        **{name: parse_switch(name, values) for name in BOOL_FIELDS},
        **{name: _whole(name, values[name]) for name in ("steps", "anchors", "batch")},
        **{name: _number(name, values[name]) for name in ("guidance", "mask_dropout")},
        **{name: _size(name, values[name]) for name in ("width", "height")},
        **{name: values.get(name) or "own" for name in CHOICE_FIELDS},
        k_filter=k_filter,
        v_filter=v_filter,
    )
    if settings.shares and not settings.random_anchors:
        settings = replace(settings, anchors=min(settings.anchors, len(story.scenes)))
    check(story, settings)
    return story, settings


def fill(story: Story, settings: Settings, limits: Limits | None = None) -> dict[str, Any]:
    """Return the value of each component of the form: the inverse of `parse`.

    Numbers above a limit are reduced to it.
    """
    sampling = {name: getattr(settings, name) for name in SAMPLING_FIELDS}
    sampling = (limits or Limits()).fitted(sampling)
    return {
        **{name: getattr(story, name) for name in ("subject", "style", "negative", "seed")},
        "scenes": scene_rows(story),
        "concept": ", ".join(story.concept_words),
        **fill_method(settings),
        "record_svd": False,
        **sampling,
        **{name: size_text(sampling[name]) for name in ("width", "height")},
    }


def scene_rows(story: Story) -> list[dict[str, Any]]:
    """Return the rows of the scene list: text, and seed where the scene has its own."""
    return [{"text": scene.text, "seed": scene.seed} for scene in story.scenes]


def fill_method(settings: Settings) -> dict[str, Any]:
    """Return the values of the components that a preset fills in."""
    values = {name: getattr(settings, name) for name in METHOD_FIELDS}
    values["v_as_k"] = settings.k_filter == settings.v_filter
    for side, svd_filter in zip(SIDES, (settings.k_filter, settings.v_filter), strict=True):
        amounts = AMOUNTS | ({} if svd_filter.amount is None else {svd_filter.keep: svd_filter.amount})
        values |= {f"{side}_{name}": amount for name, amount in amounts.items()}
        values |= {f"{side}_{name}": getattr(svd_filter, name) for name in ("keep", "reweight", "alpha")}
    return values


def parse_scenes(rows: Any) -> tuple[Scene, ...]:
    """Return the scene of each row of the scene list that has a text. ValueError as `parse`."""
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise FieldError("scenes", rows, "a list of objects with text and seed")
    scenes = [(_text("scenes", row.get("text")), row.get("seed")) for row in rows]
    try:
        return tuple(Scene(text, _seed(seed)) for text, seed in scenes if text)
    except FieldError as error:
        name = "scenes" if error.field == "text" else "seeds"
        raise FieldError(name, error.value, error.allowed) from error


def parse_filters(values: Mapping[str, Any]) -> tuple[SVDFilter, SVDFilter]:
    """Return the filters on K and on V. Components without effect are not read: those of V while `v_as_k` is
    on, amounts of other strategies, and alpha without exp.

    Raises:
        ValueError: as `parse`.
    """
    k_filter = _svd_filter("k", values)
    return k_filter, k_filter if parse_switch("v_as_k", values) else _svd_filter("v", values)


def parse_switch(field: str, values: Mapping[str, Any]) -> bool:
    """Return the value of a switch. ValueError for anything but true and false."""
    value = values[field]
    if not isinstance(value, bool):
        raise FieldError(field, value, "true or false")
    return value


def anchor_note(requested: Any, story: Story, settings: Settings) -> str:
    """Return the note for a story that has fewer anchors than requested; empty if it has as many."""
    if settings.anchors >= requested:
        return ""
    anchors = "1 anchor" if settings.anchors == 1 else f"{settings.anchors} anchors"
    scenes = "1 scene" if len(story.scenes) == 1 else f"{len(story.scenes)} scenes"
    return f"{anchors}, because the story has {scenes}"


def suggest_concept(subject: str) -> str:
    """Return the concept word of a subject, which may be half typed; empty if there is none yet."""
    try:
        return find_concept(subject)
    except ValueError:
        return ""


def error_text(error: ValueError) -> str:
    """Return an error's message with the field named by its label on the page."""
    if isinstance(error, FieldError) and error.field in LABELS:
        return error.named(LABELS[error.field])
    return str(error)


def size_text(pixels: int | None) -> str:
    """Return a width or height as text; empty for the model's default."""
    return "" if pixels is None else str(pixels)


def encode_link(story: Story, settings: Settings) -> str:
    """Return the link's parameter: what differs from the defaults, as JSON in base64url.

    Raises:
        ValueError: the link would be longer than servers accept.
    """
    content = {"story": _changed(story), "settings": _changed(settings)}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    code = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    if len(code) > LONGEST_LINK:
        raise ValueError("The story is too long for a link. Its story.json holds the same data.")
    return code


def decode_link(code: str) -> tuple[Story, Settings]:
    """Return the story and the settings in a link's parameter; also of links made by earlier versions.

    Raises:
        ValueError: the link is broken.
    """
    try:
        content = json.loads(base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise ValueError("The link is broken or incomplete. Copy it again.") from error
    if not isinstance(content, dict) or set(content) != {"story", "settings"}:
        raise ValueError("The link contains no story. Copy it again.")
    return story_of(content["story"]), settings_of(content["settings"])


def _changed(record: Story | Settings) -> dict[str, Any]:
    """Return the fields that differ from their defaults."""
    values = story_as_dict(record) if isinstance(record, Story) else asdict(record)
    for item in fields(record):
        if getattr(record, item.name) == getattr(type(record), item.name, ...):
            values.pop(item.name)
    if all(seed is None for seed in values.get("seeds", ())):
        values.pop("seeds", None)
    return values


def _seed(value: Any) -> int | None:
    if isinstance(value, str):
        value = value.strip()
        if value and not (value.isascii() and value.isdecimal()):
            raise FieldError("seeds", value, "a whole number, or empty")
        value = int(value) if value else None
    return None if value is None else _whole("seeds", value)


def _size(field: str, value: Any) -> int | None:
    if isinstance(value, str):
        value = value.strip() or None
        if value is not None and not value.isdecimal():
            raise FieldError(field, value, "a whole number, or empty")
    return None if value is None else _whole(field, int(value) if isinstance(value, str) else value)


def _text(field: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FieldError(field, value, "text")
    return value.strip()


def _svd_filter(side: str, values: Mapping[str, Any]) -> SVDFilter:
    """Return the filter on one matrix; `side` is "k" or "v"."""
    keep, reweight = values[f"{side}_keep"], values[f"{side}_reweight"]
    given = {"keep": keep, "reweight": reweight}
    amount = f"{side}_{keep}"
    if keep == "count":
        given["amount"] = _whole(amount, values[amount])
    elif keep in ("quantile", "energy"):
        given["amount"] = _number(amount, values[amount])
    if reweight == "exp":
        given["alpha"] = _number(f"{side}_alpha", values[f"{side}_alpha"])
    try:
        return SVDFilter(**given)
    except FieldError as error:
        name = amount if error.field == "amount" else f"{side}_{error.field}"
        raise FieldError(name, error.value, error.allowed) from error


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError(field, value, "a number")
    return float(value)


def _whole(field: str, value: Any) -> int:
    number = _number(field, value)
    if not number.is_integer():
        raise FieldError(field, number, "a whole number")
    return int(number)
