"""The part of the page where another model is chosen: what it is, its LoRAs, its memory plan."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from consistory_svd.limits import Limits
from consistory_svd.memory import PLANS
from consistory_svd.models.model import EMBEDDED_NAME, SDXL_BASE
from consistory_svd.models.request import ModelRequest
from consistory_svd.studio import html as view
from consistory_svd.studio.components.model_following import few_steps
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.text_format import format_progress

AUTO = "auto"


@dataclass(frozen=True)
class ModelWidgets:
    """The widgets of the choice. `said` tells how loading goes."""

    frame: gr.Accordion
    source: gr.Dropdown
    loras: gr.Textbox
    memory: gr.Dropdown
    load: gr.Button
    said: gr.HTML


def model_widgets() -> ModelWidgets:
    """The folded part below the model line."""
    with gr.Accordion("Use another model", open=False, elem_id="model-choice") as frame:
        source = gr.Dropdown(
            [("The embedded storybook model", EMBEDDED_NAME), (f"SDXL base ({SDXL_BASE})", SDXL_BASE)],
            value=None,
            allow_custom_value=True,
            label="Model",
            info="Of the SDXL family: a hub id, a folder in diffusers' format or a .safetensors file.",
            elem_id="model-source",
        )
        loras = gr.Textbox(
            "",
            lines=2,
            label="LoRA files",
            info="One a line, each with a colon and its weight if that is not 1: toys.safetensors:0.8",
            elem_id="model-loras",
        )
        memory = gr.Dropdown(
            [
                ("Chosen for what is free", AUTO),
                *((f"{name}: {words}", name) for name, words in PLANS.items()),
            ],
            value=AUTO,
            filterable=False,
            label="Memory plan",
            info="From fast to small; a story steps down by itself where memory runs out.",
            elem_id="model-memory",
        )
        load = gr.Button("Load this model", elem_id="model-load")
        said = gr.HTML("", elem_id="model-said", padding=False)
    return ModelWidgets(frame, source, loras, memory, load, said)


def offered(manager: ModelManager) -> dict[str, Any]:
    """Whether the choice is there at all: not on a shared demo."""
    return gr.update(visible=manager.may_switch)


def load_chosen(
    manager: ModelManager, source: Any, loras: Any, memory: Any, limits: Limits | None = None
) -> Iterator[str]:
    """Switch to the model that the visitor chose, and tell how it goes until it is there.

    Raises:
        gr.Error: a field is wrong or the model could not be loaded; the line has said so before.
    """
    try:
        manager.check_may_switch()  # first: strangers must not learn which files are here
        for name, value in (("model", source), ("lora", loras), ("memory", memory)):
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name}: {value!r} is not allowed; give a text")
        if not (source or "").strip():
            raise ValueError("model: it is empty; choose one, or give a folder, a file or a hub id")
        lines = [line for line in (loras or "").splitlines() if line.strip()]
        now = manager.requested
        wanted = ModelRequest.parse(source.strip(), now.device, now.dtype, lines, memory or AUTO, now.config)
        if manager.loading is None and manager.has(wanted):
            yield view.loading_words("This model is loaded already; nothing was changed.")
            return
        waits = len(manager.queue) > 0
        if manager.loading != wanted:  # asked for twice, it comes once
            manager.switch(wanted)
    except ValueError as error:
        yield view.alert(str(error))
        raise view.refusal(str(error)) from error
    yield view.loading_words(
        "Waiting for the stories that were asked for before, then the model is loaded."
        if waits
        else "The model is being loaded."
    )
    while not manager.wait(0.2):
        done, whole = manager.download_progress
        if done:
            yield view.loading_words(f"Downloading the model: {format_progress(done, whole)}.")
        else:
            yield gr.skip()
    failure = manager.last_error or manager.error
    if failure:
        back = ". The model from before is in use again." if manager.last_error and not manager.error else ""
        yield view.alert(f"{failure}{back}")
        raise view.refusal(failure)
    yield view.loading_words(f"Loaded. {few_steps(manager.recipe, limits or Limits())}".strip())


def connect(
    manager: ModelManager,
    widgets: ModelWidgets,
    demo: gr.Blocks,
    model_line: Any,
    follow: Any,
    limits: Limits,
) -> Any:
    """Connect the choice. `follow` fills `model_line`'s widgets again when a model is there.

    Returns the event in which it does.

    Call it inside of the page's Blocks.
    """
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    demo.load(lambda: offered(manager), outputs=widgets.frame, queue=False, **quiet)

    def load(source: Any, loras: Any, memory: Any) -> Iterator[str]:
        yield from load_chosen(manager, source, loras, memory, limits)

    gone = widgets.load.click(
        load,
        [widgets.source, widgets.loras, widgets.memory],
        widgets.said,
        concurrency_limit=None,
        **quiet,
    )
    return gone.then(follow, outputs=model_line, concurrency_limit=None, **quiet)
