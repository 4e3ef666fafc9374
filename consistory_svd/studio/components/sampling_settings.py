"""The form's folded part: the words behind the prompt, picture size, and how pictures are drawn."""

from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio.components.fields import dial, enabled_or_reason, one_of, text
from consistory_svd.studio.components.image_sizes import OWN, offered_sizes
from consistory_svd.studio.components.method_settings import DEFAULTS
from consistory_svd.studio.form import LABELS, size_text
from consistory_svd.studio.model_manager import ModelManager

# What decides on the looks of the folded part's own boxes.
DECIDING_FIELDS = ("guidance", "sdsa", "injection", "random_anchors")
NO_EFFECT_NEGATIVE = "Has no effect while guidance is 1 or less."
NO_EFFECT_BATCH = "Has no effect while anchors are random: all pictures are drawn together."
CUSTOM_SIZE = "your own"


def advanced(concept: str) -> tuple[dict[str, Any], gr.Dropdown]:
    """The form's widgets by name, and the choice of sizes."""
    made: dict[str, Any] = {}
    with gr.Accordion("Advanced: words, size, sampling", open=False, elem_id="advanced"):
        with gr.Row():
            made["concept"] = text(
                Story, "concepts", concept, more_help=" Part several by commas.", min_width=160
            )
            made["negative"] = text(Story, "negative", "", placeholder="nothing", min_width=160)
        size = gr.Dropdown(
            [OWN],
            value=OWN,
            label="Size",
            info="Sets width and height. Models draw best near their own size.",
            filterable=False,
            elem_id="size",
        )
        with gr.Row():
            for name in ("width", "height"):
                made[name] = _side(name)
        with gr.Row():
            made["steps"] = dial("steps", DEFAULTS.steps)
            made["guidance"] = dial("guidance", DEFAULTS.guidance)
        with gr.Row():
            made["scheduler"] = one_of("scheduler", DEFAULTS.scheduler)
            made["spacing"] = one_of("spacing", DEFAULTS.spacing)
        made["batch"] = dial("batch", DEFAULTS.batch)
        follow = "Each stays with its scene when that is moved, and is not used for another text or subject."
        made["seeds"] = gr.Textbox(
            "", label=LABELS["seeds"], info=follow, placeholder="2=91, 5=7", elem_id="seeds"
        )
        made["seeds_of"] = gr.Textbox("", visible=False)  # whose seeds they are, see own_seeds
    return made, size


def _side(name: str) -> gr.Textbox:
    # Not a number's box: Gradio shows 0 in an empty one.
    return text(Settings, name, "", placeholder=OWN.lower(), min_width=160)


def advanced_looks(guidance: Any, sdsa: bool, injection: bool, random_anchors: bool) -> tuple[Any, Any]:
    """Updates of the negative prompt and of the batch, disabled with the reason where they have no effect."""
    idle = isinstance(guidance, int | float) and guidance <= 1
    together = (sdsa or injection) and random_anchors
    return (
        gr.update(**enabled_or_reason(field_of(Story, "negative").help, NO_EFFECT_NEGATIVE if idle else "")),
        gr.update(**enabled_or_reason(field_of(Settings, "batch").help, NO_EFFECT_BATCH if together else "")),
    )


class Sizes:
    """The sizes that the model which is loaded is good at."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def _offered(self) -> dict[str, tuple[int, int] | None]:
        if not self._manager.ready:
            return {OWN: None}
        model = self._manager.model
        return offered_sizes(model.native_size, model.size_multiple)

    def known(self, name: str) -> bool:
        """Whether it is one of this model's sizes."""
        return name in self._offered()

    def take(self, name: str, width: Any, height: Any) -> tuple[Any, Any, Any]:
        """Width, height and the choice, for a size that was chosen."""
        if name == CUSTOM_SIZE:
            return gr.skip(), gr.skip(), gr.skip()
        if not self.known(name):
            gr.Warning(f"Size: {name!r} is no size of the model that is there now; choose again.")
            return gr.skip(), gr.skip(), self.name(width, height)
        size = self._offered()[name] or (None, None)
        return size_text(size[0]), size_text(size[1]), gr.skip()

    def name(self, width: Any, height: Any) -> Any:
        """What the width and the height are called."""
        offered = self._offered().items()
        names = {tuple(map(size_text, size or (None, None))): name for name, size in offered}
        name = names.get((width, height), CUSTOM_SIZE)
        own = [CUSTOM_SIZE] if name == CUSTOM_SIZE else []
        return gr.update(choices=[*names.values(), *own], value=name)
