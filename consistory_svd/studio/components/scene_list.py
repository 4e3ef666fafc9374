"""The scenes as a list that is edited in the browser. The form's own value stays a text, one scene a line: a
box beside the list holds it, and is shown instead of the list for whoever would rather write a text."""

from html import escape
from pathlib import Path

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.story import Story
from consistory_svd.studio.components.fields import text

KNOWN = field_of(Story, "scenes")
TEMPLATE = f"""
<fieldset class="scene-list">
  <legend>{escape(KNOWN.label)}</legend>
  <p class="scene-help">{escape(KNOWN.help)} Enter adds one, several pasted lines become several.</p>
  <ol></ol>
  <div class="scene-actions">
    <button type="button" data-act="add">Add a scene</button>
    <button type="button" data-act="text" aria-pressed="false">Edit as text</button>
  </div>
  <div class="scene-said" role="status"></div>
</fieldset>
"""
SCRIPT = (Path(__file__).parents[1] / "static" / "scene_list.js").read_text(encoding="utf-8")
FOLLOW = "() => { requestAnimationFrame(() => window.sceneList && window.sceneList.follow()); }"


def scene_list(scenes: str) -> gr.Textbox:
    """The list, and the box whose text is the form's value."""
    gr.HTML(
        "",
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        apply_default_css=False,
        elem_id="scene-list",
        padding=False,
    )
    return text(Story, "scenes", scenes, more_help=" One a line.", lines=4, max_lines=12)


def connect_scenes(scenes: gr.Textbox) -> None:
    """Let the list follow the box when something else fills it; nothing of this leaves the browser."""
    scenes.change(fn=None, js=FOLLOW, api_visibility="private", queue=False)
