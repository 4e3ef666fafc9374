"""The scores' part of the page: where they stand, how they are computed, a button that fetches weights."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from consistory_svd.metrics.dreamsim_weights import BACKBONES
from consistory_svd.metrics.settings import FILLS, ScoreSettings


@dataclass(frozen=True)
class ScoreWidgets:
    """The widgets below the pictures, from top to bottom."""

    card: gr.HTML
    fetch: gr.Button
    fetched: gr.HTML
    backbone: gr.Dropdown
    fill: gr.Radio

    def weights(self) -> list[Any]:
        """What tells of weights that are not here: the button, and the line below it."""
        return [self.fetch, self.fetched]


def score_widgets() -> ScoreWidgets:
    """Lay the scores' part out."""
    card = gr.HTML("", elem_id="scores", padding=False)
    fetch = gr.Button("Fetch weights", visible=False, elem_id="fetch")
    fetched = gr.HTML("", elem_id="fetched", padding=False)
    with gr.Accordion("How scores are computed", open=False, elem_id="scoring"):
        backbone = gr.Dropdown(
            list(BACKBONES),
            value=ScoreSettings.backbone,
            label="DreamSim's network",
            info="Papers use the ensemble. clip_vitb32 is several times as fast. Their numbers differ.",
            elem_id="backbone",
        )
        fill = gr.Radio(
            list(FILLS),
            value=ScoreSettings.fill,
            label="Around the subject",
            info="What replaces all but the subject where it is scored alone. Papers use noise.",
            elem_id="fill",
        )
    return ScoreWidgets(card, fetch, fetched, backbone, fill)
