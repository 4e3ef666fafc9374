"""Build the page and serve it."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from consistory_svd.content_filter import ContentFilter
from consistory_svd.library import Library
from consistory_svd.limits import Limits
from consistory_svd.models.request import ModelRequest
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.queue import GenerationQueue
from consistory_svd.studio.theme import CSS, HEAD, SIGN_IN, storybook_theme
from consistory_svd.studio.visitor_storage import VisitorStorage
from consistory_svd.studio.wiring import build

# A picture of 4096 x 4096 as PNG is smaller; what strangers upload need not be larger.
LARGEST_PUBLIC_UPLOAD = "64mb"


def create_demo(
    model: ModelRequest | str | None = None,
    device: str | None = None,
    limits: Limits | None = None,
    library: Library | None = None,
    manager: ModelManager | None = None,
    may_switch: bool = True,
    content_filter: ContentFilter | None = None,
) -> gr.Blocks:
    """The studio's page. The first visitor's coming loads the model, in the background.

    Args:
        model: what `ModelRequest` takes, or its source alone; `device` is for the latter.
        limits: the most that a visitor may ask for; by default whatever settings allow.
        library: where every story is kept, for all who come; without one each visitor has their own, which
            goes when they do. Give the same to `launch`.
        manager: used as it is, instead of `model`, `may_switch` and `content_filter`.
        may_switch: visitors may load another model; off on a shared demo.
        content_filter: checks every image and replaces what it takes for sexual.

    Errors in loading do not come from here: the page tells them in words.
    """
    limits = limits or Limits()
    request = model if isinstance(model, ModelRequest) else ModelRequest(model, device)
    manager = manager or ModelManager(
        request,
        may_switch=may_switch,
        queue=GenerationQueue(limits.queue),
        content_filter=content_filter,
    )
    demo = build(Handlers(manager, limits, VisitorStorage(library)))
    demo.queue(default_concurrency_limit=1)
    return demo


def launch(
    demo: gr.Blocks,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    share: bool = False,
    auth: Sequence[tuple[str, str]] = (),
    public: bool = False,
    library: Library | None = None,
    **options: Any,
) -> None:
    """Serve the page until interrupted.

    `library` is that of `create_demo`; `options` go to `gr.Blocks.launch`.

    `auth` are users and passwords (none: everyone may come); `public` says that strangers reach the studio.

    Raises:
        OSError: the port is taken.
    """
    demo.launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=list(auth) or None,
        auth_message=SIGN_IN,
        max_file_size=LARGEST_PUBLIC_UPLOAD if public else None,
        theme=storybook_theme(),
        css=CSS,
        head=HEAD,
        footer_links=["api", "settings"],
        ssr_mode=False,
        # Gradio shows files of few folders only.
        allowed_paths=[str(library.root)] if library else None,
        **options,
    )
