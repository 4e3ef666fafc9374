"""What visitors typed, made into a Story and Settings; every refusal is a ValueError that names the field."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from consistory_svd.errors import FieldError
from consistory_svd.fields import field_of
from consistory_svd.settings import BOOL_FIELDS, CHOICE_FIELDS, Settings, SVDFilter, check
from consistory_svd.story import MOST_SCENES, Story, find_concept
from consistory_svd.studio.own_seeds import followed

# The spectral filter's boxes on each matrix, by what they are called in the form: k_keep, v_keep, ...
SVD_FILTER_LABELS = {
    "keep": "keeps",
    "count": "count",
    "quantile": "keep ratio",
    "energy": "energy",
    "reweight": "reweighting",
    "alpha": "alpha",
}
LABELS = {
    **{item.name: field_of(owner, item.name).label for owner in (Story, Settings) for item in fields(owner)},
    **{
        f"{side}_{name}": f"{side.upper()} {label}"
        for side in "kv"
        for name, label in SVD_FILTER_LABELS.items()
    },
    "seeds": "Scene seeds",
    "v_as_k": "V as K",
    "record_svd": "Record the spectra",
    "show_masks": "Show the subject masks",
    "queue": "Queue",
    "settings": "Settings",
}


def read_form(values: Mapping[str, Any]) -> tuple[Story, Settings]:
    """The story and the settings that the form's values describe, by the names of its boxes.

    `scenes` holds one scene a line, `concept` words parted by commas, `seeds` what `seeds_text` writes, for
    the scenes that `seeds_of` names, where that is given; the spectral filter is as in `read_spectra`. The
    values may be anything that JSON can carry (an emptied box is null): they come from the page or from any
    other client. Anchors are "at most so many": `fewer_anchors` says where a story has fewer.

    Raises:
        ValueError: a field is missing, of the wrong kind or out of range; the message names the field, the
            value and what is allowed.
    """
    scenes = _parts(_text("scenes", values["scenes"]).splitlines())
    seeds = [*_seeds(_text("seeds", followed(values))), *[None] * len(scenes)]
    story = Story(
        subject=_text("subject", values["subject"]),
        # A list that has become shorter leaves the seeds of scenes that are gone.
        scenes=tuple(zip(scenes, seeds, strict=False)),
        style=_text("style", values["style"]),
        concepts=_parts(_text("concepts", values["concept"]).split(",")),
        negative=_text("negative", values["negative"]),
        seed=_whole("seed", values["seed"]),
    )
    k_filter, v_filter = read_record_svd(values)
    settings = Settings(
        **{name: read_switch(name, values) for name in BOOL_FIELDS},
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


def fewer_anchors(asked: Any, story: Story, settings: Settings) -> str:
    """What the page says where a story is told with fewer anchors than were asked for; else empty."""
    if settings.anchors >= asked:
        return ""
    anchors = "1 anchor" if settings.anchors == 1 else f"{settings.anchors} anchors"
    scenes = "1 scene" if len(story.scenes) == 1 else f"{len(story.scenes)} scenes"
    return f"{anchors}, because the story has {scenes}"


def read_record_svd(values: Mapping[str, Any]) -> tuple[SVDFilter, SVDFilter]:
    """The filters on K and on V. With `v_as_k` on, V's own boxes are not looked at.

    Nor is a matrix's value where all is kept, nor its alpha where it is not reweighted by exp.

    Raises:
        ValueError: as `read_form`.
    """
    keys = _svd_filter("k", values)
    return keys, keys if read_switch("v_as_k", values) else _svd_filter("v", values)


def read_switch(field: str, values: Mapping[str, Any]) -> bool:
    """Whether a switch is on. ValueError for anything but true and false."""
    value = values[field]
    if not isinstance(value, bool):
        raise FieldError(field, value, "true or false")
    return value


def concept_of(subject: str) -> str:
    """The concept word to offer for a subject that may be half typed; empty while there is none."""
    try:
        return find_concept(subject)
    except ValueError:
        return ""


def in_words(refusal: ValueError) -> str:
    """A refusal as a visitor reads it: the field under the label that it has on the page."""
    if isinstance(refusal, FieldError) and refusal.field in LABELS:
        return refusal.named(LABELS[refusal.field])
    return str(refusal)


def seeds_text(story: Story) -> str:
    """Seeds of single pictures as they are typed: "2=91, 5=7" for the second and the fifth."""
    seeds = enumerate((scene.seed for scene in story.scenes), start=1)
    return ", ".join(f"{number}={seed}" for number, seed in seeds if seed is not None)


def _seeds(text: str) -> tuple[int | None, ...]:
    given: dict[int, int] = {}
    for part in _parts(text.split(",")):
        number, sign, seed = (piece.strip() for piece in part.partition("="))
        if not (sign and number.isdecimal() and seed.isdecimal() and 1 <= int(number) <= MOST_SCENES):
            raise FieldError("seeds", part, "an image's number and its seed, such as 2=91")
        given[int(number)] = int(seed)
    return tuple(given.get(number) for number in range(1, max(given, default=0) + 1))


def size_text(side: int | None) -> str:
    """A picture's width or height as it is typed; empty for the model's own."""
    return "" if side is None else str(side)


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


def _parts(pieces: Iterable[str]) -> tuple[str, ...]:
    return tuple(piece.strip() for piece in pieces if piece.strip())


def _svd_filter(side: str, values: Mapping[str, Any]) -> SVDFilter:
    """The filter on one matrix; `side` is "k" or "v"."""
    select, reweight = values[f"{side}_keep"], values[f"{side}_reweight"]
    given = {"keep": select, "reweight": reweight}
    names = {"keep": f"{side}_keep", "reweight": f"{side}_reweight", "amount": f"{side}_{select}"}
    match select:
        case "count":
            given["amount"] = _whole(names["amount"], values[f"{side}_amount"])
        case "quantile" | "energy":
            given["amount"] = _number(names["amount"], values[f"{side}_amount"])
    if reweight == "exp":
        given["alpha"] = _number(f"{side}_alpha", values[f"{side}_alpha"])
    try:
        return SVDFilter(**given)
    except FieldError as error:
        name = names.get(error.field, f"{side}_{error.field}")
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
