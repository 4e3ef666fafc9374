"""The form's part for the SVD filters on the anchors' keys and values."""

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.presets import format_filter
from consistory_svd.settings import SVDFilter
from consistory_svd.studio.components.fields import enabled_or_reason, no_effect
from consistory_svd.studio.form import AMOUNTS, LABELS, SIDES, parse_filters

TITLES = {
    "k": "<h4>Keys (K)</h4><p>Decide where attention goes.</p>",
    "v": "<h4>Values (V)</h4><p>Carry what attention copies.</p>",
}
PARTS = ("keep", *AMOUNTS, "reweight", "alpha")
FILTER_FIELDS = ("v_as_k", *(f"{side}_{part}" for side in SIDES for part in PARTS))
CHOICES = {name: list(get_args(get_type_hints(SVDFilter)[name])) for name in ("keep", "reweight")}
# Singular values of SDXL's widest attention layers: the range of a count until a model is loaded.
MOST_VALUES = 1280
# minimum, maximum, step, help
AMOUNT_RANGES = {
    "count": (1, MOST_VALUES, 1, "Number of singular values to keep, largest first."),
    "quantile": (0.005, 1, 0.005, "Fraction of the singular values to keep, largest first."),
    "energy": (
        0.005,
        0.995,
        0.005,
        "Keep the largest singular values with this share of the energy.",
    ),
}
LINK_HELP = "Use the filter on K for V as well."
RECORD_HELP = "Plot the singular values below the images. Takes a little longer."


class SVDFilterSettings:
    """The folded group, and its components by name in `fields`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Lay the group out. `values` are those of FILTER_FIELDS and `sdsa`."""
        properties = filter_properties(values)
        self.fields: dict[str, Any] = {}
        with gr.Accordion(filter_title(values), open=False, elem_id="svd-filter") as self.group:
            gr.HTML(
                "<p>Share only the largest singular values of the anchors' keys and values. This removes "
                "much of their background without a mask.</p>",
                elem_classes="card-title",
                padding=False,
            )
            self._add(gr.Checkbox, "v_as_k", values, properties)
            self.columns: dict[str, gr.Column] = {}
            with gr.Row(equal_height=False):
                for side, title in TITLES.items():
                    visible = side == "k" or not values["v_as_k"]
                    with gr.Column(min_width=210, elem_classes="matrix", visible=visible) as self.columns[
                        side
                    ]:
                        gr.HTML(title, elem_classes="card-title", padding=False)
                        self._matrix(side, values, properties)
            self._add(gr.Checkbox, "record_svd", {"record_svd": False}, properties)

    def _matrix(self, side: str, values: Mapping[str, Any], properties: Mapping[str, dict[str, Any]]) -> None:
        for part in PARTS:
            options: dict[str, Any] = {"elem_classes": "amount" if part in AMOUNTS else part}
            if part in CHOICES:
                options |= {"choices": CHOICES[part], "filterable": False}
                self._add(gr.Dropdown, f"{side}_{part}", values, properties, **options)
            else:
                low, high, step, _ = AMOUNT_RANGES.get(part, (0, 2, 0.01, ""))
                options |= {"minimum": low, "maximum": high, "step": step, "buttons": []}
                self._add(gr.Slider, f"{side}_{part}", values, properties, **options)

    def _add(self, widget: Any, name: str, values: Any, properties: Any, **options: Any) -> None:
        self.fields[name] = widget(
            value=values[name], label=LABELS[name], elem_id=name, **options, **properties[name]
        )

    def refresh(self, values: Mapping[str, Any]) -> dict[Any, Any]:
        """Return updates of what depends on the values: which components are shown and enabled, the title."""
        updates = {self.fields[name]: gr.update(**known) for name, known in filter_properties(values).items()}
        updates[self.columns["v"]] = gr.update(visible=values["v_as_k"] is not True)
        updates[self.group] = gr.update(label=filter_title(values))
        return updates

    def link(self, **values: Any) -> dict[Any, Any]:
        """Return updates after the visitor (un)links V: its components start with the values of K."""
        return {self.fields[f"v_{part}"]: values[f"k_{part}"] for part in PARTS}


def filter_properties(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return properties of the group's components by name. Amounts of other strategies are hidden; what has
    no effect is disabled and says why. `values` are those of FILTER_FIELDS and `sdsa`."""
    reason = "" if values["sdsa"] else no_effect("sdsa")
    properties = {
        "v_as_k": enabled_or_reason(LINK_HELP, reason),
        "record_svd": enabled_or_reason(RECORD_HELP, reason),
    }
    for side in SIDES:
        for part in ("keep", "reweight", "alpha"):
            properties[f"{side}_{part}"] = enabled_or_reason(field_of(SVDFilter, part).help, reason)
        for part, (*_, help) in AMOUNT_RANGES.items():
            shown = {"visible": values[f"{side}_keep"] == part}
            properties[f"{side}_{part}"] = enabled_or_reason(help, reason) | shown
        properties[f"{side}_alpha"]["visible"] = values[f"{side}_reweight"] == "exp"
    return properties


def filter_title(values: Mapping[str, Any]) -> str:
    """Return the title of the folded group: what it does."""
    try:
        k_filter, v_filter = parse_filters(values)
    except ValueError:
        return "SVD filter"  # a box is empty while it is being edited
    if not values["sdsa"] or (k_filter.identity and v_filter.identity):
        return "SVD filter: off"
    if k_filter == v_filter:
        return f"SVD filter: K and V {format_filter(k_filter)}"
    return f"SVD filter: K {format_filter(k_filter)}; V {format_filter(v_filter)}"
