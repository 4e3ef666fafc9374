"""The part of the Story room with which one goes on with a story; `retell` has its handlers."""

from dataclasses import dataclass
from typing import Any

import gradio as gr


@dataclass(frozen=True)
class ContinuePanel:
    """The part below the pictures with which one goes on with a story."""

    part: gr.Column
    how: gr.HTML
    resume: gr.Button
    changes: gr.Column
    scene: gr.Textbox
    add: gr.Button
    picture: gr.Dropdown
    text: gr.Textbox
    redo: gr.Button
    change: gr.Button
    back: gr.Button

    def all(self) -> list[Any]:
        """The widgets that `ContinueHandlers.offer` updates."""
        return [
            self.part,
            self.how,
            self.resume,
            self.changes,
            self.scene,
            self.picture,
            self.text,
            self.back,
        ]


def continue_panel() -> ContinuePanel:
    """Lay the part out, hidden until there is a story."""
    with gr.Column(visible=False, elem_id="go-on") as part, gr.Group(elem_classes="card"):
        gr.HTML("<h2>Go on with this story</h2>", elem_classes="card-title", padding=False)
        how = gr.HTML("", elem_id="go-on-how", padding=False)
        resume = gr.Button("Continue the story", variant="primary", visible=False, elem_id="resume")
        with gr.Column(elem_id="go-on-changes") as changes:
            with gr.Row(elem_classes="with-buttons"):
                scene = gr.Textbox(
                    "",
                    label="A scene more",
                    info="One picture is added at the end.",
                    scale=3,
                    elem_id="new-scene",
                )
                add = gr.Button("Add the scene", scale=1, min_width=130, elem_id="add-scene")
            with gr.Row():
                picture = gr.Dropdown(
                    [],
                    label="Picture",
                    info="Choose it here or among the pictures.",
                    filterable=False,
                    scale=1,
                    min_width=120,
                    elem_id="again-picture",
                )
                text = gr.Textbox(
                    "",
                    label="Its scene",
                    info="Write another one to change it.",
                    scale=3,
                    elem_id="again-scene",
                )
            with gr.Row(elem_id="again"):
                redo = gr.Button("Redo with another seed", min_width=150, elem_id="redo")
                change = gr.Button("Change the scene", min_width=150, elem_id="change-scene")
                back = gr.Button(
                    "Take the former back", interactive=False, min_width=150, elem_id="take-back"
                )
    return ContinuePanel(part, how, resume, changes, scene, add, picture, text, redo, change, back)
