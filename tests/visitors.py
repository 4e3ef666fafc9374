"""Two visitors of a studio, as their requests."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

ANN, BEN = gr.Request(session_hash="ann"), gr.Request(session_hash="ben")
