"""Widgets that take label, help and range from a field of Story or Settings; options of events; and the
question before a page with a running job is closed."""

from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.settings import Settings

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
NO_QUEUE: dict[str, Any] = {**HIDDEN, "queue": False}
# Values reach `form.parse` as sent: its messages name the field, Gradio's do not.
RAW: dict[str, Any] = {"preprocess": False}
MIN_WIDTH = 210


def card_title(title: str, line: str) -> None:
    """Add the heading of a card and a line below it."""
    gr.HTML(f"<h2>{title}</h2><p>{line}</p>", elem_classes="card-title", padding=False)


def text_box(owner: type, name: str, value: str, more_help: str = "", **options: Any) -> gr.Textbox:
    """Return a text box for a field of Story or Settings."""
    field = field_of(owner, name)
    return gr.Textbox(value, label=field.label, info=field.help + more_help, elem_id=name, **options)


def checkbox(name: str, value: bool) -> gr.Checkbox:
    """Return a check box for a field of Settings."""
    field = field_of(Settings, name)
    return gr.Checkbox(value, label=field.label, info=field.help, min_width=MIN_WIDTH, elem_id=name)


def slider(name: str, value: float) -> gr.Slider:
    """Return a slider for a number of Settings."""
    field = field_of(Settings, name)
    return gr.Slider(
        field.minimum,
        field.maximum,
        value,
        step=field.step,
        label=field.label,
        info=field.help,
        min_width=MIN_WIDTH,
        buttons=[],
        elem_id=name,
    )


def dropdown(name: str, value: str) -> gr.Dropdown:
    """Return a dropdown for a field of Settings with a few allowed values."""
    field = field_of(Settings, name)
    choices = [("model default" if choice == "own" else choice, choice) for choice in field.choices]
    return gr.Dropdown(
        choices,
        value=value,
        label=field.label,
        info=field.help,
        filterable=False,
        min_width=MIN_WIDTH,
        elem_id=name,
    )


def on_user_input(widget: Any) -> Any:
    """Return the widget's event for a change made by the visitor.

    A dropdown also sends `input` when it loses focus, with nothing chosen, and a check box does not send it
    when it is toggled by Enter. Both send `select` once per choice.
    """
    return widget.select if isinstance(widget, gr.Dropdown | gr.Checkbox) else widget.input


def no_effect(name: str, state: str = "off") -> str:
    """Return the reason why a widget is disabled while a field of Settings is off (or in another state)."""
    return f"No effect while “{field_of(Settings, name).label}” is {state}."


def enabled_or_reason(help: str, reason: str) -> dict[str, Any]:
    """Return properties of a widget: enabled with its help, or disabled with the reason, if there is one."""
    return {"interactive": not reason, "info": reason or help}


def ask_before_leaving(tab: str) -> str:
    """Return JavaScript: the browser asks before it closes the page, because a job of this tab runs."""
    return f"""() => {{
  (window.busyTabs ||= new Set()).add("{tab}");
  window.onbeforeunload = (event) => {{ event.preventDefault(); event.returnValue = true; }};
}}"""


def allow_leaving(tab: str) -> str:
    """Return JavaScript: the job of this tab is over; unless another tab has one, the browser stops
    asking."""
    return f"""() => {{
  window.busyTabs?.delete("{tab}");
  if (!window.busyTabs?.size) window.onbeforeunload = null;
}}"""
