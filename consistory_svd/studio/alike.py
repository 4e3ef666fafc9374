"""The form's middle part: the method's switches, grouped as the method is, and the presets that fill them."""

from typing import Any

import gradio as gr

from consistory_svd.settings import PRESETS, Settings, knob
from consistory_svd.studio.widgets import card_title, dial, switch

START_PRESET = "consistory"
DEFAULTS = PRESETS[START_PRESET]
# The page has no controls for the spectral filter yet, so it does not offer what needs them.
OFFERED = {name: preset for name, preset in PRESETS.items() if not preset.filters}
NO_EFFECT_SDSA = "Has no effect while sharing is off."
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
# What a preset fills, in the form's order.
HOW_ALIKE = tuple(name for names in GROUPS.values() for name in names)
CUSTOM = "your own"


def how_alike() -> tuple[gr.Dropdown, list[Any]]:
    """The preset's choice and the switches of the method, grouped as the method is."""
    made: dict[str, Any] = {}
    with gr.Group(elem_classes="card"):
        card_title("How alike", "What ties the pictures to each other.")
        choice = gr.Dropdown(
            [*OFFERED, CUSTOM],
            value=START_PRESET,
            label="Preset",
            info="Sets everything below; change what you like afterwards.",
            elem_id="preset",
        )
        for title, names in GROUPS.items():
            gr.HTML(f"<h3>{title}</h3>", elem_classes="card-title", padding=False)
            with gr.Row(elem_classes="switches"):
                for name in names:
                    value = getattr(DEFAULTS, name)
                    made[name] = switch(name, value) if isinstance(value, bool) else dial(name, value)
    return choice, [made[name] for name in HOW_ALIKE]


def switches(*alike: Any) -> tuple[Any, ...]:
    """Updates of the dependent controls, disabled with the reason where they have no effect, and the preset
    that the values are; `alike` is in the order of HOW_ALIKE."""
    on = dict(zip(HOW_ALIKE, alike, strict=True))
    shares = on["sdsa"] or on["injection"]
    fitting = [
        name for name, preset in OFFERED.items() if all(getattr(preset, k) == v for k, v in on.items())
    ]
    return (
        _usable("query_blending", on["sdsa"], NO_EFFECT_SDSA),
        _usable("masking", on["sdsa"], NO_EFFECT_SDSA),
        _usable(
            "mask_dropout",
            on["sdsa"] and on["masking"],
            NO_EFFECT_SDSA if not on["sdsa"] else NO_EFFECT_MASKING,
        ),
        _usable(
            "anchors",
            shares and not on["random_anchors"],
            NO_EFFECT_RANDOM if shares else NO_EFFECT_SHARES,
        ),
        _usable("random_anchors", shares, NO_EFFECT_SHARES),
        _usable("short_first_pass", on["injection"], NO_EFFECT_INJECTION),
        fitting[0] if fitting else CUSTOM,
    )


def preset_values(name: str) -> list[Any]:
    """The values that a preset sets, in the order of HOW_ALIKE; nothing changes for the visitor's own."""
    if name not in OFFERED:
        return [gr.skip() for _ in HOW_ALIKE]
    return [getattr(OFFERED[name], field) for field in HOW_ALIKE]


def _usable(name: str, usable: bool, reason: str) -> Any:
    return gr.update(interactive=usable, info=knob(Settings, name).help if usable else reason)
