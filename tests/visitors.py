"""Two visitors of a studio, as their requests, and a studio's tabs without a server."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.studio.services import Services
from consistory_svd.studio.tabs.library_handlers import LibraryHandlers
from consistory_svd.studio.tabs.story import StoryTab

if TYPE_CHECKING:
    from consistory_svd.studio.model_manager import ModelManager

ANN, BEN = gr.Request(session_hash="ann"), gr.Request(session_hash="ben")


def make_story_tab(manager: "ModelManager", **parts: Any) -> StoryTab:
    """Return the Story tab of a studio; `parts` are further fields of `Services`."""
    with gr.Blocks(), gr.Tabs():
        return StoryTab(Services(manager, **parts))


def library_of(story_tab: StoryTab) -> LibraryHandlers:
    """Return the handlers of the Library tab beside a Story tab."""
    with gr.Blocks(), gr.Tabs() as tabs:
        return LibraryHandlers(story_tab.services, story_tab, tabs, gr.HTML())


def last(updates: Iterable[Any], component: Any) -> Any:
    """Return the last value that updates, keyed by component, give to one of them."""
    return [update[component] for update in updates if component in update][-1]
