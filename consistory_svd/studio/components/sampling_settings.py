"""The form's folded part: prompt words, image size and sampling."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio.components.fields import (
    NO_QUEUE,
    RAW,
    dropdown,
    enabled_or_reason,
    no_effect,
    on_user_input,
    slider,
    text_box,
)
from consistory_svd.studio.components.method_settings import DEFAULTS
from consistory_svd.studio.form import size_text

if TYPE_CHECKING:
    from consistory_svd.studio.model_manager import ModelManager

# Width to height.
RATIOS = {
    "Square": (1, 1),
    "Landscape, 4 to 3": (4, 3),
    "Wide, 16 to 9": (16, 9),
    "Portrait, 3 to 4": (3, 4),
    "Tall, 9 to 16": (9, 16),
}
SCALES = {"Smaller": 0.75, "Larger": 1.5}
DEFAULT_SIZE = "Model default"
CUSTOM_SIZE = "custom"


class SamplingSettings:
    """The folded part. `fields` holds its components by name."""

    def __init__(self, manager: "ModelManager", concept: str) -> None:
        self._manager = manager
        self.fields: dict[str, Any] = {}
        fields = self.fields
        with gr.Accordion("Advanced: prompt, size, sampling", open=False, elem_id="advanced"):
            with gr.Row():
                fields["concept"] = text_box(
                    Story, "concepts", concept, more_help=" Separate several with commas.", min_width=160
                )
                fields["negative"] = text_box(Story, "negative", "", placeholder="empty", min_width=160)
            self.size = gr.Dropdown(
                [DEFAULT_SIZE],
                value=DEFAULT_SIZE,
                label="Size",
                info="Sets width and height. Results are best near the model's default size.",
                filterable=False,
                elem_id="size",
            )
            with gr.Row():
                for name in ("width", "height"):  # not gr.Number, which shows 0 when empty
                    fields[name] = text_box(Settings, name, "", placeholder="model default", min_width=160)
            with gr.Row():
                fields["steps"] = slider("steps", DEFAULTS.steps)
                fields["guidance"] = slider("guidance", DEFAULTS.guidance)
            with gr.Row():
                fields["scheduler"] = dropdown("scheduler", DEFAULTS.scheduler)
                fields["spacing"] = dropdown("spacing", DEFAULTS.spacing)
            fields["batch"] = slider("batch", DEFAULTS.batch)

    def connect(self, form: dict[str, Any]) -> None:
        """Connect the events. `form` holds all components of the form by name."""
        deciding = {name: form[name] for name in ("guidance", "sdsa", "injection", "random_anchors")}
        gr.on(
            [component.change for component in deciding.values()],
            self.refresh,
            inputs_kwargs=deciding,
            outputs=[self.fields["negative"], self.fields["batch"]],
            trigger_mode="always_last",
            **RAW,
            **NO_QUEUE,
        )
        sides = [self.fields["width"], self.fields["height"]]
        on_user_input(self.size)(self.choose, [self.size, *sides], [*sides, self.size], **RAW, **NO_QUEUE)
        gr.on([side.change for side in sides], self.named, sides, self.size, **RAW, **NO_QUEUE)

    def refresh(self, guidance: Any, sdsa: bool, injection: bool, random_anchors: bool) -> dict[Any, Any]:
        """Return updates of the negative prompt and the batch: disabled with the reason while they have no
        effect."""
        low = isinstance(guidance, int | float) and guidance <= 1
        together = (sdsa or injection) and random_anchors
        reasons = {
            (Story, "negative"): "No effect while guidance is 1 or less." if low else "",
            (Settings, "batch"): no_effect("random_anchors", "on") if together else "",
        }
        return {
            self.fields[name]: gr.update(**enabled_or_reason(field_of(owner, name).help, reason))
            for (owner, name), reason in reasons.items()
        }

    def choose(self, name: str, width: Any, height: Any) -> dict[Any, Any]:
        """Return updates of width and height for a size that the visitor chose."""
        if name == CUSTOM_SIZE:
            return gr.skip()
        if not self.is_known(name):
            gr.Warning(f"{name!r} is not a size of the loaded model. Choose again.")
            return {self.size: self.named(width, height)}
        return self.fill_size(self._sizes()[name])

    def fill_size(self, size: tuple[int, int] | None) -> dict[Any, Any]:
        """Return updates of width and height; None is the model's default."""
        width, height = size or (None, None)
        return {self.fields["width"]: size_text(width), self.fields["height"]: size_text(height)}

    def named(self, width: Any, height: Any) -> Any:
        """Return the update of the size's dropdown for a width and a height."""
        names = {tuple(map(size_text, size or (None, None))): name for name, size in self._sizes().items()}
        name = names.get((width, height), CUSTOM_SIZE)
        custom = [CUSTOM_SIZE] if name == CUSTOM_SIZE else []
        return gr.update(choices=[*names.values(), *custom], value=name)

    def is_known(self, name: str) -> bool:
        """Return whether it is a size of the loaded model."""
        return name in self._sizes()

    def _sizes(self) -> dict[str, tuple[int, int] | None]:
        if not self._manager.ready:
            return {DEFAULT_SIZE: None}
        return model_sizes(self._manager.model.native_size, self._manager.model.size_multiple)


def model_sizes(native: tuple[int, int], multiple: int) -> dict[str, tuple[int, int] | None]:
    """Return sizes (width, height) in pixels by name: the model's default (None), other aspect ratios of the
    same area, and a smaller and a larger one.

    Args:
        native: the model's default (height, width).
        multiple: what width and height are multiples of.
    """
    height, width = native
    sizes: dict[str, tuple[int, int] | None] = {f"{DEFAULT_SIZE}: {width} × {height}": None}
    wanted = {name: (height * width, across / up) for name, (across, up) in RATIOS.items()}
    wanted |= {name: (height * width * factor**2, width / height) for name, factor in SCALES.items()}
    for name, (area, ratio) in wanted.items():
        across = (area * ratio) ** 0.5
        size = tuple(max(1, round(side / multiple)) * multiple for side in (across, across / ratio))
        if size != (width, height):
            sizes["{}: {} × {}".format(name, *size)] = size
    return sizes
