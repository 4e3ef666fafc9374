"""Build the page and serve it."""

from typing import Any

import gradio as gr

from consistory_svd.loading import ModelRequest
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.theme import CSS, storybook_theme
from consistory_svd.studio.wiring import build


def create_demo(
    model: ModelRequest | str | None = None, device: str | None = None, may_switch: bool = True
) -> gr.Blocks:
    """The studio's page. The first visitor's coming loads the model, in the background.

    `model` is what `ModelRequest` takes, or its source alone. `may_switch`: visitors may load another model;
    off on a shared demo.

    Errors in loading do not come from here: the page tells them in words.
    """
    request = model if isinstance(model, ModelRequest) else ModelRequest(model, device)
    demo = build(Handlers(Engine(request, may_switch)))
    demo.queue(default_concurrency_limit=1)
    return demo


def launch(
    demo: gr.Blocks, host: str = "127.0.0.1", port: int | None = 7860, share: bool = False, **options: Any
) -> None:
    """Serve the page until interrupted; `options` go to `gr.Blocks.launch`.

    Raises:
        OSError: the port is taken.
    """
    demo.launch(
        server_name=host,
        server_port=port,
        share=share,
        theme=storybook_theme(),
        css=CSS,
        footer_links=["api", "settings"],
        ssr_mode=False,
        **options,
    )
