"""Build the page and serve it."""

from typing import Any

import gradio as gr

from consistory_svd.library import Library
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.shelves import Shelves
from consistory_svd.studio.theme import CSS, storybook_theme
from consistory_svd.studio.wiring import build


def create_demo(
    model_source: str | None = None, device: str | None = None, library: Library | None = None
) -> gr.Blocks:
    """The studio's page. The first visitor's coming loads the model (see `load_model`), in the background.

    Every story is kept in `library`, which all who come see; without one each visitor has their own, which
    goes when they do. Give the same library to `launch`. Errors in loading do not come from here: the page
    tells them in words.
    """
    demo = build(Handlers(Engine(model_source, device), Shelves(library)))
    demo.queue(default_concurrency_limit=1)
    return demo


def launch(
    demo: gr.Blocks,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    share: bool = False,
    library: Library | None = None,
    **options: Any,
) -> None:
    """Serve the page until interrupted.

    `library` is that of `create_demo`; `options` go to `gr.Blocks.launch`.

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
        # Gradio shows files of few folders only.
        allowed_paths=[str(library.root)] if library else None,
        **options,
    )
