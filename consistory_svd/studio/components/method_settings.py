"""The form's card for the method: a preset, the settings that it fills in, and the SVD filter."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.presets import CUSTOM, PRESET_TEXTS, PRESETS, preset_label, preset_of
from consistory_svd.settings import Settings
from consistory_svd.studio.components.fields import (
    NO_QUEUE,
    RAW,
    card_title,
    checkbox,
    enabled_or_reason,
    no_effect,
    on_user_input,
    slider,
)
from consistory_svd.studio.components.svd_filter_settings import FILTER_FIELDS, SVDFilterSettings
from consistory_svd.studio.form import METHOD_FIELDS, fill_method, parse_filters

START_PRESET = "consistory"
DEFAULTS = PRESETS[START_PRESET]
GROUPS = {
    "Sharing": ("sdsa", "query_blending"),
    "Masks": ("masking", "mask_dropout"),
    "Anchors": ("anchors", "random_anchors", "same_latent"),
    "Features": ("injection", "short_first_pass", "freeu"),
}
NOTHING_SHARED = "No effect while nothing is shared between images."


class MethodSettings:
    """The card. `fields` holds the components of METHOD_FIELDS and of the filters by name."""

    def __init__(self) -> None:
        values = fill_method(DEFAULTS)
        self.fields: dict[str, Any] = {}
        with gr.Group(elem_classes="card"):
            card_title("Consistency", "How strongly images share the subject.")
            self.preset = gr.Dropdown(
                [*((preset_label(name), name) for name in PRESETS), CUSTOM],
                value=START_PRESET,
                label="Preset",
                info=preset_help(START_PRESET),
                elem_id="preset",
            )
            with gr.Accordion("Method settings", open=False, elem_id="method-settings"):
                for title, names in GROUPS.items():
                    gr.HTML(f"<h3>{title}</h3>", elem_classes="card-title", padding=False)
                    with gr.Row(elem_classes="switches"):
                        for name in names:
                            widget = checkbox if isinstance(values[name], bool) else slider
                            self.fields[name] = widget(name, values[name])
            self.svd_filter = SVDFilterSettings(values)
        self.fields |= self.svd_filter.fields

    def connect(self) -> None:
        """Connect the events. Call it inside the page's Blocks."""
        method = {name: self.fields[name] for name in (*METHOD_FIELDS, *FILTER_FIELDS)}
        outputs = [*self.fields.values(), self.preset, self.svd_filter.group, self.svd_filter.columns["v"]]
        options: dict[str, Any] = {"outputs": outputs, **NO_QUEUE}
        on_user_input(self.preset)(self.fill_preset, self.preset, **options)
        on_user_input(self.fields["v_as_k"])(
            self.svd_filter.link, inputs_kwargs=method, outputs=outputs, **RAW, **NO_QUEUE
        )
        gr.on(
            [component.change for component in method.values()],
            self.refresh,
            inputs_kwargs=method,
            trigger_mode="always_last",
            **RAW,
            **options,
        )

    def fill_preset(self, name: str) -> dict[Any, Any]:
        """Return updates to a preset's values; its filter group opens if it filters."""
        if name not in PRESETS:
            return gr.skip()
        updates = {self.fields[field]: value for field, value in fill_method(PRESETS[name]).items()}
        if PRESETS[name].filters:
            updates[self.svd_filter.group] = gr.update(open=True)
        return updates

    def refresh(self, **values: Any) -> dict[Any, Any]:
        """Return updates of what depends on the values: disabled components, the filter group, the preset."""
        preset = preset_of_form(values)
        updates = {self.fields[name]: gr.update(**known) for name, known in method_properties(values).items()}
        updates |= self.svd_filter.refresh(values)
        updates[self.preset] = gr.update(value=preset, info=preset_help(preset))
        return updates


def preset_help(name: str) -> str:
    """Return what a preset does, and that it fills in the settings below."""
    does = PRESET_TEXTS[name][1] if name in PRESET_TEXTS else "No preset: the settings below as they are."
    return f"{does} A preset fills in the settings below."


def preset_of_form(values: Mapping[str, Any]) -> str:
    """Return the preset with these values, or CUSTOM."""
    try:
        k_filter, v_filter = parse_filters(values)
        method = {name: values[name] for name in METHOD_FIELDS}
        return preset_of(Settings(**method, k_filter=k_filter, v_filter=v_filter))
    except ValueError:
        return CUSTOM  # a box is empty while it is being edited


def method_properties(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return properties of the components that depend on others: disabled with the reason while they have no
    effect."""
    sharing = "" if values["sdsa"] else no_effect("sdsa")
    anything = "" if values["sdsa"] or values["injection"] else NOTHING_SHARED
    reasons = {
        "query_blending": sharing,
        "masking": sharing,
        "mask_dropout": sharing or ("" if values["masking"] else no_effect("masking")),
        "anchors": anything or (no_effect("random_anchors", "on") if values["random_anchors"] else ""),
        "random_anchors": anything,
        "short_first_pass": "" if values["injection"] else no_effect("injection"),
    }
    return {
        name: enabled_or_reason(field_of(Settings, name).help, reason) for name, reason in reasons.items()
    }
