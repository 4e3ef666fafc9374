"""Put the tabs together, and serve the page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from consistory_svd.limits import Limits
from consistory_svd.models.request import ModelRequest
from consistory_svd.studio import api
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import PREVIEWS
from consistory_svd.studio.queue import GenerationQueue
from consistory_svd.studio.services import Services
from consistory_svd.studio.tabs import about as about_tab
from consistory_svd.studio.tabs import compare as compare_tab
from consistory_svd.studio.tabs.library import add_library
from consistory_svd.studio.tabs.story import StoryTab
from consistory_svd.studio.theme import CSS, HEAD, SIGN_IN, storybook_theme
from consistory_svd.studio.visitor_storage import VisitorStorage

if TYPE_CHECKING:
    from consistory_svd.content_filter import ContentFilter
    from consistory_svd.library import Library

# Larger than an image of 4096 x 4096 as PNG.
LARGEST_PUBLIC_UPLOAD = "64mb"
# Uploads and files of API clients: checked every ten minutes, deleted when they are an hour old.
CACHE_SECONDS = (600, 3600)
MASTHEAD = """<h1>Story studio</h1>
<p>Describe a subject once and list a few scenes. You get an image of each scene, with the same subject in
all.</p>"""


def create_demo(
    model: ModelRequest | str | None = None,
    device: str | None = None,
    limits: Limits | None = None,
    library: "Library | None" = None,
    manager: ModelManager | None = None,
    may_switch: bool = True,
    content_filter: "ContentFilter | None" = None,
) -> gr.Blocks:
    """Return the studio's page. The model is loaded in the background when the first visitor opens it; errors
    are shown on the page.

    Args:
        model: a `ModelRequest`, or its source alone, which is loaded on `device`.
        limits: the most that a visitor may ask for; by default what settings allow.
        library: where all stories are saved, for all visitors. By default each visitor has a library of their
            own, which is deleted when they leave. Give the same library to `launch`.
        manager: used as it is, instead of `model`, `may_switch` and `content_filter`.
        may_switch: whether visitors may load another model; off on a shared demo.
        content_filter: checks every generated image.
    """
    limits = limits or Limits()
    request = model if isinstance(model, ModelRequest) else ModelRequest(model, device)
    manager = manager or ModelManager(
        request,
        may_switch=may_switch,
        queue=GenerationQueue(limits.queue),
        content_filter=content_filter,
    )
    demo = build_page(Services(manager, limits, VisitorStorage(library)))
    demo.queue(default_concurrency_limit=1)
    return demo


def build_page(services: Services) -> gr.Blocks:
    """Return the page: its tabs, and their events."""
    # Files are served in place. Copies made by Gradio would outlive a deleted story and a closed page.
    gr.set_static_paths([*services.storage.roots, PREVIEWS])
    with gr.Blocks(
        title="Story studio", fill_width=True, analytics_enabled=False, delete_cache=CACHE_SECONDS
    ) as demo:
        api.offer(services.manager, services.limits)
        gr.HTML(MASTHEAD, elem_id="masthead", padding=False)
        with gr.Tabs(elem_id="tabs") as tabs:
            story = StoryTab(services)
        story.connect(demo)
        compare_tab.connect(demo, services, compare_tab.lay_out(tabs), story.form, story.scores.settings)
        add_library(services, tabs, story)
        about_tab.connect(services.manager, *about_tab.lay_out(tabs))
        demo.unload(services.leave)
    return demo


def launch(
    demo: gr.Blocks,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    share: bool = False,
    auth: Sequence[tuple[str, str]] = (),
    public: bool = False,
    library: "Library | None" = None,
    **options: Any,
) -> None:
    """Serve the page until interrupted.

    Args:
        auth: users and passwords; none: no sign-in.
        public: whether strangers can reach the studio.
        library: that of `create_demo`.
        options: further arguments of `gr.Blocks.launch`.

    Raises:
        OSError: the port is in use.
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
        # Gradio serves files of few folders only.
        allowed_paths=[str(library.root)] if library else None,
        **options,
    )
