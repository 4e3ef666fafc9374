"""The list of scenes, edited in the browser. Its value is a list of rows: {"text": str, "seed": int, str or
None}."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.story import Story

TEMPLATE = """
<fieldset class="scene-list">
  <legend>{label}</legend>
  <p class="scene-help">{help}</p>
  <ol></ol>
  <textarea class="scene-text" aria-label="{label}, one per line" rows="4" hidden></textarea>
  <div class="scene-actions">
    <button type="button" data-act="add">Add scene</button>
    <button type="button" data-act="text" aria-pressed="false">Edit as text</button>
    <button type="button" data-act="seeds" aria-pressed="false">Scene seeds</button>
  </div>
  <div class="scene-status" role="status"></div>
</fieldset>
"""
SCRIPT = (Path(__file__).parents[1] / "static" / "scene_list.js").read_text(encoding="utf-8")


def scene_list(rows: list[dict[str, Any]], most: int | None = None) -> gr.HTML:
    """Return the list. `most` is the largest number of scenes that the studio allows."""
    field = field_of(Story, "scenes")
    help = f"{field.help} Enter adds a row; pasted lines become rows."
    if most is not None:
        help += f" At most {most} in this studio."
    return gr.HTML(
        rows,
        html_template=TEMPLATE.format(label=escape(field.label), help=escape(help)),
        js_on_load=SCRIPT,
        apply_default_css=False,
        elem_id="scenes",
        padding=False,
    )
