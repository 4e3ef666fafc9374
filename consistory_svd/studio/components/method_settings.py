"""The form's middle part: the method's switches, grouped as the method is, and the presets that fill them."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.presets import CUSTOM, PRESET_TEXTS, PRESETS, preset_label
from consistory_svd.settings import Settings
from consistory_svd.studio.components.fields import (
    NO_EFFECT_SDSA,
    card_title,
    dial,
    enabled_or_reason,
    switch,
)
from consistory_svd.studio.components.svd_filter_settings import (
    MOST_VALUES,
    SVD_FILTER,
    svd_filter_group,
    svd_filter_title,
    svd_filter_updates,
    svd_filter_values,
    value_scale,
)
from consistory_svd.studio.form import read_record_svd

START_PRESET = "consistory"
DEFAULTS = PRESETS[START_PRESET]
NO_EFFECT_MASKING = "Has no effect while masking is off."
NO_EFFECT_SHARES = "Has no effect while neither attention nor features are shared."
NO_EFFECT_RANDOM = "Has no effect while anchors are random."
NO_EFFECT_INJECTION = "Has no effect without feature injection."
GROUPS = {
    "Sharing": ("sdsa", "query_blending"),
    "Masks": ("masking", "mask_dropout"),
    "Anchors": ("anchors", "random_anchors", "same_latent"),
    "Features": ("injection", "short_first_pass", "freeu"),
}
METHOD = tuple(name for names in GROUPS.values() for name in names)
# What a preset fills, in the form's order.
METHOD_FIELDS = (*METHOD, *SVD_FILTER)
# Those whose looks depend on the others.
DEPENDENT_FIELDS = (
    "query_blending",
    "masking",
    "mask_dropout",
    "anchors",
    "random_anchors",
    "short_first_pass",
    *SVD_FILTER,
    "record_svd",
)


def method_settings() -> tuple[gr.Dropdown, gr.Accordion, dict[str, Any]]:
    """The preset's choice, the folded group of the spectrum, and the form's widgets by name."""
    made: dict[str, Any] = {}
    with gr.Group(elem_classes="card"):
        card_title("How alike", "What ties the pictures to each other.")
        choice = gr.Dropdown(
            [*((preset_label(name), name) for name in PRESETS), CUSTOM],
            value=START_PRESET,
            label="Preset",
            info=preset_info(START_PRESET),
            elem_id="preset",
        )
        with gr.Accordion("Fine switches", open=False, elem_id="fine-switches"):
            for title, names in GROUPS.items():
                gr.HTML(f"<h3>{title}</h3>", elem_classes="card-title", padding=False)
                with gr.Row(elem_classes="switches"):
                    for name in names:
                        value = getattr(DEFAULTS, name)
                        made[name] = switch(name, value) if isinstance(value, bool) else dial(name, value)
        group, widgets = svd_filter_group(DEFAULTS)
    return choice, group, made | widgets


def method_values(settings: Settings) -> dict[str, Any]:
    """What the boxes hold for these settings, by name, in the order of HOW_ALIKE."""
    return {name: getattr(settings, name) for name in METHOD} | svd_filter_values(settings)


def switches(*alike: Any, most: int = MOST_VALUES) -> tuple[Any, ...]:
    """Updates of the DEPENDENT, disabled with the reason where they have no effect; of the spectrum's title;
    and the preset that the values are. `alike` is in the order of HOW_ALIKE; `most` as in
    `value_scale`."""
    on = dict(zip(METHOD_FIELDS, alike, strict=True))
    looks = _looks(on) | svd_filter_updates(on, most)
    return (
        *(gr.update(**looks[name]) for name in DEPENDENT_FIELDS),
        gr.update(label=svd_filter_title(on)),
        _shown_preset(_fitting(on)),
    )


def preset_info(name: str) -> str:
    """What a preset does, and that it is only a beginning."""
    does = PRESET_TEXTS[name][1] if name in PRESET_TEXTS else "No preset: what the switches below say."
    return f"{does} Presets set all that is below."


def _shown_preset(name: str) -> dict[str, Any]:
    return gr.update(value=name, info=preset_info(name))


def preset_values(name: str, most: int = MOST_VALUES) -> list[Any]:
    """Updates of HOW_ALIKE to what a preset sets, and of the spectrum's group, which opens where the preset
    filters; nothing changes for the visitor's own."""
    if name not in PRESETS:
        return [gr.skip() for _ in (*METHOD_FIELDS, "group")]
    values = method_values(PRESETS[name])
    # Before its value, a slider needs the range that the value is in.
    ranges = {f"{side}_amount": value_scale(side, values[f"{side}_keep"], most) for side in "kv"}
    return [
        *(gr.update(value=value, **ranges.get(name, {})) for name, value in values.items()),
        gr.update(open=True) if PRESETS[name].filters else gr.skip(),
    ]


def _fitting(on: Mapping[str, Any]) -> str:
    """The preset that the values are, or CUSTOM."""
    try:
        filter_log = read_record_svd(on)
    except ValueError:
        return CUSTOM  # a box is empty while it is being edited
    for name, preset in PRESETS.items():
        same = all(getattr(preset, field) == on[field] for field in METHOD)
        if same and filter_log == (preset.k_filter, preset.v_filter):
            return name
    return CUSTOM


def _looks(on: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    shares = on["sdsa"] or on["injection"]
    reasons = {
        "query_blending": "" if on["sdsa"] else NO_EFFECT_SDSA,
        "masking": "" if on["sdsa"] else NO_EFFECT_SDSA,
        "mask_dropout": NO_EFFECT_MASKING if not on["masking"] else "",
        "anchors": NO_EFFECT_RANDOM if on["random_anchors"] else "",
        "random_anchors": "" if shares else NO_EFFECT_SHARES,
        "short_first_pass": "" if on["injection"] else NO_EFFECT_INJECTION,
    }
    if not on["sdsa"]:
        reasons["mask_dropout"] = NO_EFFECT_SDSA
    if not shares:
        reasons["anchors"] = NO_EFFECT_SHARES
    return {
        name: enabled_or_reason(field_of(Settings, name).help, reason) for name, reason in reasons.items()
    }
