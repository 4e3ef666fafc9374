"""The loaded model on the page: which it is, the words it knows, the choice of another one, and what the form
takes over from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from consistory_svd.errors import FieldError
from consistory_svd.limits import Limits
from consistory_svd.memory.plan import MEMORY_MODES
from consistory_svd.models.model import EMBEDDED_NAME, SDXL_BASE
from consistory_svd.models.request import ModelRequest, with_recipe
from consistory_svd.studio import html as view
from consistory_svd.studio.components.fields import HIDDEN, NO_QUEUE
from consistory_svd.studio.components.method_settings import DEFAULTS
from consistory_svd.studio.components.sampling_settings import CUSTOM_SIZE, DEFAULT_SIZE, SamplingSettings
from consistory_svd.studio.form import LINK_PARAMETER
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.text_format import format_progress

if TYPE_CHECKING:
    from consistory_svd.models.few_step import FewStepModel

AUTO = "auto"
# What the recipe of a few-step model sets.
RECIPE_FIELDS = ("steps", "guidance", "scheduler", "spacing")
# The link is read from the page's address: the handler that opens it may not have answered yet.
WITH_LINK = f"""(seen, link, ...rest) => [
  seen, new URLSearchParams(window.location.search).get("{LINK_PARAMETER}") || "", ...rest
]"""


@dataclass(frozen=True)
class SeenModel:
    """The model that a page shows."""

    request: ModelRequest
    recipe: "FewStepModel | None"


class ModelPicker:
    """The model line, the folded choice of another model, and the words that the model knows.

    Several visitors share one model. A page follows it when it is loaded, when it has loaded another model,
    and after each Generate, refused or not: at these points it matters which model is in use, so no timer is
    needed.
    """

    def __init__(
        self, manager: ModelManager, limits: Limits, form: dict[str, Any], sampling: SamplingSettings
    ) -> None:
        self._manager, self._limits, self._form, self._sampling = manager, limits, form, sampling
        self._seen = gr.State(None)
        self.line = gr.HTML(view.model_loading(), elem_id="model", padding=False)
        with gr.Accordion(
            "Use another model", open=False, visible=manager.may_switch, elem_id="model-choice"
        ):
            self.source = gr.Dropdown(
                [("Embedded storybook model", EMBEDDED_NAME), (f"SDXL base ({SDXL_BASE})", SDXL_BASE)],
                value=None,
                allow_custom_value=True,
                label="Model",
                info="An SDXL model: a Hub ID, a folder in diffusers format, or a .safetensors file.",
                elem_id="model-source",
            )
            self.loras = gr.Textbox(
                "",
                lines=2,
                label="LoRA files",
                info="One per line, with an optional weight: toys.safetensors:0.8",
                elem_id="model-loras",
            )
            self.memory = gr.Dropdown(
                [
                    ("Automatic, by free memory", AUTO),
                    *((f"{name}: {text}", name) for name, text in MEMORY_MODES.items()),
                ],
                value=AUTO,
                filterable=False,
                label="Memory mode",
                info="Fastest first. If memory runs out, the next smaller mode is used automatically.",
                elem_id="model-memory",
            )
            self.load = gr.Button("Load this model", elem_id="model-load")
            self.status = gr.HTML("", elem_id="model-status", padding=False)
        with gr.Accordion(
            "Words this model knows", open=False, visible=False, elem_id="words"
        ) as self.words_part:
            self.words = gr.HTML("")

    def connect(self, demo: gr.Blocks, generated: Any) -> None:
        """Connect the events. `generated` is the event of Generate. Call it inside the page's Blocks."""
        sampling = self._sampling
        sides = [sampling.size, sampling.fields["width"], sampling.fields["height"]]
        counts = [self._form[f"{side}_count"] for side in "kv"]
        shown = [self.line, self.words_part, self.words]
        link = gr.Textbox(visible=False)  # WITH_LINK puts the address's parameter in its place
        follow: dict[str, Any] = {
            "fn": self.follow,
            "inputs": [self._seen, link, *sides],
            "outputs": [self._seen, *shown, *sides, *counts, *(self._form[name] for name in RECIPE_FIELDS)],
            "js": WITH_LINK,
            "preprocess": False,
            **NO_QUEUE,
        }
        loaded = demo.load(self.wait_for_model, outputs=shown, concurrency_limit=None, **HIDDEN)
        switched = self.load.click(
            self.load_model,
            [self.source, self.loras, self.memory],
            self.status,
            concurrency_limit=None,
            **HIDDEN,
        )
        for event in (loaded, switched, generated):
            event.then(**follow)

    def wait_for_model(self) -> Iterator[dict[Any, Any]]:
        """Start loading, and report until a model is loaded or loading has failed."""
        self._manager.start()
        yield {self.line: view.model_loading()}
        while not self._manager.wait_for_model(0.2):
            yield gr.skip()
        yield self._show()

    def _show(self) -> dict[Any, Any]:
        if self._manager.error:
            return {self.line: view.alert(self._manager.error), self.words_part: gr.update(visible=False)}
        words, few = self._manager.model.vocabulary, few_steps(self._manager.recipe, self._limits)
        line = self._manager.description
        return {
            self.line: view.model_line(f"{line.rstrip('.')}. {few}" if few else line),
            self.words_part: gr.update(visible=bool(words)),
            self.words: view.word_groups(words),
        }

    def follow(self, seen: SeenModel | None, link: str, size: str, width: Any, height: Any) -> dict[Any, Any]:
        """Return updates to the loaded model; nothing if the page has `seen` it.

        A page opened by a link keeps the link's sampling. A size chosen for another model is reset; a custom
        size stays.
        """
        manager, sampling = self._manager, self._sampling
        if not manager.loaded:
            return gr.skip()
        if manager.error:
            return self._show()
        if seen is not None and seen.request == manager.requested:
            return gr.skip()
        now = SeenModel(manager.requested, manager.model.recipe)
        updates = {self._seen: now, **self._show()}
        if seen is None or size == CUSTOM_SIZE or sampling.is_known(size):
            updates[sampling.size] = sampling.named(width, height)
        else:
            if not size.startswith(DEFAULT_SIZE):
                gr.Info(f"The size {size} belonged to another model. It is reset to this model's default.")
            updates |= {sampling.size: sampling.named("", ""), **sampling.fill_size(None)}
        for side in "kv":
            updates[self._form[f"{side}_count"]] = gr.update(maximum=manager.most_values)
        if seen is None and link:
            return updates
        values = recipe_values(now.recipe, self._limits)
        if not values and seen is not None and seen.recipe is not None:
            values = self._limits.fitted({name: getattr(DEFAULTS, name) for name in RECIPE_FIELDS})
        return updates | {self._form[name]: value for name, value in values.items()}

    def load_model(self, source: Any, loras: Any, memory: Any) -> Iterator[str]:
        """Load the chosen model and report until it is there.

        Raises:
            gr.Error: a value is wrong, or the model could not be loaded; the status has said so before.
        """
        manager = self._manager
        try:
            manager.check_may_switch()  # first: strangers must not learn which files exist
            request = self._request(source, loras, memory)
            if manager.loading is None and manager.has(request):
                yield view.said("This model is already loaded.")
                return
            waits = len(manager.queue) > 0
            if manager.loading != request:  # requested twice, it is loaded once
                manager.switch(request)
        except ValueError as error:
            yield view.alert(str(error))
            raise view.refusal(str(error)) from error
        yield view.said("The model is loaded after the jobs in the queue." if waits else "Loading the model.")
        while not manager.wait(0.2):
            done, total = manager.download_progress
            yield view.said(f"Downloading the model: {format_progress(done, total)}.") if done else gr.skip()
        if failure := manager.last_error or manager.error:
            restored = manager.last_error and not manager.error
            yield view.alert(f"{failure}. The previous model is in use again." if restored else failure)
            raise view.refusal(failure)
        yield view.said(f"Loaded. {few_steps(manager.recipe, self._limits)}".strip())

    def _request(self, source: Any, loras: Any, memory: Any) -> ModelRequest:
        for name, value in (("model", source), ("lora", loras), ("memory", memory)):
            if value is not None and not isinstance(value, str):
                raise FieldError(name, value, "text")
        if not (source or "").strip():
            raise FieldError("model", source or "", "a Hub ID, a folder or a file")
        now = self._manager.requested
        files = [line for line in (loras or "").splitlines() if line.strip()]
        return ModelRequest.parse(source.strip(), now.device, now.dtype, files, memory or AUTO, now.config)


def recipe_values(recipe: "FewStepModel | None", limits: Limits) -> dict[str, Any]:
    """Return what a few-step model sets in the form, within the limits; empty for other models."""
    return limits.fitted(with_recipe(recipe, {})[0])


def few_steps(recipe: "FewStepModel | None", limits: Limits) -> str:
    """Return a sentence that says what a few-step model sets; empty for other models."""
    if recipe is None:
        return ""
    values = recipe_values(recipe, limits).items()
    listed = [
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"
        for name, value in values
        if value != "own"
    ]
    return f"{recipe.name} needs few steps: the form starts with {', '.join(listed)}."
