"""The form's part for the spectral filter: what of the anchors' keys and values is lent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.presets import format_filter
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.studio.components.fields import NO_EFFECT_SDSA, enabled_or_reason
from consistory_svd.studio.form import LABELS, read_record_svd

SIDES = {
    "k": ("Keys (K)", "What places look for each other by."),
    "v": ("Values (V)", "What places take from each other."),
}
PARTS = ("keep", "amount", "reweight", "alpha")
# The boxes in the form's order.
SVD_FILTER = (*(f"k_{part}" for part in PARTS), "v_as_k", *(f"v_{part}" for part in PARTS))
CHOICES = {name: list(get_args(get_type_hints(SVDFilter)[name])) for name in ("keep", "reweight")}
LINK_HELP = "V is filtered as K is, and follows it."
RECORD_HELP = "Show below the pictures what the filter did. Takes a little longer."
NO_EFFECT_LINK = "Follows K while V as K is on."
NO_EFFECT_ALL = "Everything is kept, so there is nothing to set."
NO_EFFECT_ALPHA = "Has no effect without exp."


@dataclass(frozen=True)
class Scale:
    """How a strategy's value is set: range and step of its slider, and where it starts."""

    help: str
    minimum: float
    maximum: float
    step: float
    start: float


SCALES = {
    # Its end is the model's, see `value_scale`.
    "count": Scale("How many singular values stay, the largest first.", 1, math.inf, 1, 8),
    "quantile": Scale("Share of the singular values that stay, the largest.", 0.005, 1, 0.005, 0.05),
    "energy": Scale("Share of the squared energy that those that stay exceed.", 0.005, 0.995, 0.005, 0.95),
}
# As many as SDXL's widest attention has; what is offered until a model is there to tell.
MOST_VALUES = 1280
RESTING = "quantile"  # the scale that is shown, disabled, where all is kept


def svd_filter_group(settings: Settings) -> tuple[gr.Accordion, dict[str, Any]]:
    """The group, folded, and its widgets by name; `record_spectra` among them."""
    values = svd_filter_values(settings)
    on = {**values, "sdsa": settings.sdsa}
    looks = svd_filter_updates(on)
    made: dict[str, Any] = {}
    with gr.Accordion(svd_filter_title(on), open=False, elem_id="spectrum") as group:
        gr.HTML(
            "<p>Lend only the strongest part of the anchors' keys and values: a way to leave their "
            "background out that needs no mask.</p>",
            elem_classes="card-title",
            padding=False,
        )
        made["v_as_k"] = gr.Checkbox(
            values["v_as_k"], label=LABELS["v_as_k"], elem_id="v_as_k", **looks["v_as_k"]
        )
        with gr.Row(equal_height=False):
            for side, (title, line) in SIDES.items():
                with gr.Column(min_width=210, elem_classes="matrix"):
                    gr.HTML(f"<h4>{title}</h4><p>{line}</p>", elem_classes="card-title", padding=False)
                    made |= _matrix(side, values, looks)
        made["record_svd"] = gr.Checkbox(
            False, label=LABELS["record_svd"], elem_id="record_svd", **looks["record_svd"]
        )
    return group, made


def _matrix(side: str, values: Mapping[str, Any], looks: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The widgets of one matrix."""
    made: dict[str, Any] = {}
    for part in PARTS:
        name = f"{side}_{part}"
        common = {"value": values[name], "elem_id": name, **looks[name]}
        if part in CHOICES:
            made[name] = gr.Dropdown(CHOICES[part], label=LABELS[name], filterable=False, **common)
        elif part == "alpha":
            made[name] = gr.Slider(0, 2, step=0.01, label=LABELS[name], buttons=[], **common)
        else:
            made[name] = gr.Slider(buttons=[], **common)
    return made


def svd_filter_values(settings: Settings) -> dict[str, Any]:
    """What the boxes hold for these settings, by name."""
    values: dict[str, Any] = {"v_as_k": settings.k_filter == settings.v_filter}
    for side, svd_filter in (("k", settings.k_filter), ("v", settings.v_filter)):
        values[f"{side}_keep"] = svd_filter.keep
        values[f"{side}_amount"] = SCALES[RESTING].start if svd_filter.amount is None else svd_filter.amount
        values[f"{side}_reweight"] = svd_filter.reweight
        values[f"{side}_alpha"] = svd_filter.alpha
    return {name: values[name] for name in SVD_FILTER}


def svd_filter_updates(on: Mapping[str, Any], most: int = MOST_VALUES) -> dict[str, dict[str, Any]]:
    """How the group's boxes look, by name; those without effect are disabled and say why.

    `on` holds what all of SPECTRUM hold, and `sdsa`; `most` is as in `value_scale`.
    """
    idle = "" if on["sdsa"] else NO_EFFECT_SDSA
    looks = {"v_as_k": enabled_or_reason(LINK_HELP, idle), "record_svd": enabled_or_reason(RECORD_HELP, idle)}
    for side in SIDES:
        follows = side == "v" and on["v_as_k"] is True
        off = idle or (NO_EFFECT_LINK if follows else "")
        held = {part: on[f"{'k' if follows else side}_{part}"] for part in PARTS}
        scale = value_scale(side, held["keep"], most)
        looks[f"{side}_keep"] = enabled_or_reason(field_of(SVDFilter, "keep").help, off)
        looks[f"{side}_amount"] = scale | enabled_or_reason(
            scale["info"], off or ("" if held["keep"] in SCALES else NO_EFFECT_ALL)
        )
        looks[f"{side}_reweight"] = enabled_or_reason(field_of(SVDFilter, "reweight").help, off)
        looks[f"{side}_alpha"] = enabled_or_reason(
            field_of(SVDFilter, "alpha").help, off or ("" if held["reweight"] == "exp" else NO_EFFECT_ALPHA)
        )
    return looks


def follow(*svd_filter: Any, most: int = MOST_VALUES) -> list[Any]:
    """Updates of V's boxes, which follow K's while V is as K is. `spectrum` is in the order of SPECTRUM.

    Told by what the visitor does alone: boxes that others fill come one by one, and V is filled then too.
    """
    on = dict(zip(SVD_FILTER, svd_filter, strict=True))
    if on["v_as_k"] is not True:
        return [gr.skip() for _ in PARTS]
    scale = {"amount": value_scale("v", on["k_keep"], most)}
    return [gr.update(value=on[f"k_{part}"], **scale.get(part, {})) for part in PARTS]


def value_scale(side: str, select: str, most: int = MOST_VALUES) -> dict[str, Any]:
    """Label, help and range of the value's slider for a strategy; `most` is how many singular values the
    model's widest matrix has."""
    scale = SCALES[select if select in SCALES else RESTING]
    return {
        "label": LABELS[f"{side}_{select if select in SCALES else RESTING}"],
        "info": scale.help,
        "minimum": scale.minimum,
        "maximum": min(scale.maximum, most),
        "step": scale.step,
    }


def start_value(side: str, select: str, most: int = MOST_VALUES) -> Any:
    """The value's slider after a visitor chose a strategy: what it meant for another is no use for this."""
    if select not in SCALES:
        return gr.skip()
    return gr.update(value=SCALES[select].start, **value_scale(side, select, most))


def svd_filter_title(on: Mapping[str, Any]) -> str:
    """The folded group in a line."""
    try:
        keys, shared_values = read_record_svd(on)
    except ValueError:
        return "Spectrum"  # a box is empty while it is being edited
    if not on["sdsa"] or (keys.identity and shared_values.identity):
        return "Spectrum: off"
    if keys == shared_values:
        return f"Spectrum: K and V {format_filter(keys)}"
    return f"Spectrum: K {format_filter(keys)}; V {format_filter(shared_values)}"
