"""Widgets that take their label, help and range from the field that they are for."""

from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.settings import Settings

NO_EFFECT_SDSA = "Has no effect while sharing is off."


def card_title(title: str, line: str) -> None:
    """The heading of a card and a line below it."""
    gr.HTML(f"<h2>{title}</h2><p>{line}</p>", elem_classes="card-title", padding=False)


def text(owner: type, name: str, value: str, more_help: str = "", **looks: Any) -> gr.Textbox:
    """A text box for a field of Story or Settings."""
    known = field_of(owner, name)
    return gr.Textbox(value, label=known.label, info=known.help + more_help, elem_id=name, **looks)


def switch(name: str, value: bool) -> gr.Checkbox:
    """A check box for a switch of Settings."""
    known = field_of(Settings, name)
    return gr.Checkbox(value, label=known.label, info=known.help, min_width=210, elem_id=name)


def dial(name: str, value: float) -> gr.Slider:
    """A slider for a number of Settings."""
    known = field_of(Settings, name)
    return gr.Slider(
        known.minimum,
        known.maximum,
        value,
        step=known.step,
        label=known.label,
        info=known.help,
        min_width=210,
        buttons=[],
        elem_id=name,
    )


def one_of(name: str, value: str) -> gr.Dropdown:
    """A list to choose from, for a field of Settings that is one of a few words."""
    known = field_of(Settings, name)
    choices = [("the model's own" if choice == "own" else choice, choice) for choice in known.choices]
    return gr.Dropdown(
        choices,
        value=value,
        label=known.label,
        info=known.help,
        filterable=False,
        min_width=210,
        elem_id=name,
    )


def chosen(widget: Any) -> Any:
    """The widget's event of a person's choice.

    Gradio tells of a list's `input` also when it loses the focus, with nothing chosen, and of a check box's
    not when Enter turns it: those tell by `select`, once a choice.
    """
    return widget.select if isinstance(widget, gr.Dropdown | gr.Checkbox) else widget.input


def enabled_or_reason(help: str, reason: str) -> dict[str, Any]:
    """How a widget looks: with its help, or disabled with the reason where there is one."""
    return {"interactive": not reason, "info": reason or help}
