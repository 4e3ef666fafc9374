"""ModelRequest: which model a user asks for, before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistory_svd.errors import FieldError, one_of
from consistory_svd.memory.plan import check_mode
from consistory_svd.models.few_step import FewStepModel, few_step_model_for
from consistory_svd.models.lora import Lora, read_lora

if TYPE_CHECKING:
    from consistory_svd.downloads import ProgressCallback
    from consistory_svd.models.model import Model

DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class ModelRequest:
    """A model and how to load it. The default is the model that suits the machine.

    Attributes:
        source: a folder, a .safetensors file, a Hub id, "storybook", or None.
        device, dtype: by name; None for the default of `load_model`.
        loras: LoRA files with their weights.
        memory: a memory mode, or "auto".
        config: the folder of a single file's configurations.

    Raises:
        ValueError: dtype or memory is unknown.
    """

    source: str | None = None
    device: str | None = None
    dtype: str | None = None
    loras: tuple[Lora, ...] = ()
    memory: str = "auto"
    config: Path | None = None

    def __post_init__(self) -> None:
        check_mode(self.memory)
        if self.dtype is not None and self.dtype not in DTYPES:
            raise FieldError("dtype", self.dtype, one_of(DTYPES))

    @classmethod
    def parse(
        cls,
        source: str | None,
        device: str | None = None,
        dtype: str | None = None,
        loras: Sequence[str] = (),
        memory: str = "auto",
        config: Path | None = None,
    ) -> ModelRequest:
        """A request whose LoRAs are texts: "file.safetensors" or "file.safetensors:0.8"."""
        return cls(source, device, dtype, tuple(map(read_lora, loras)), memory, config)

    @property
    def recipe(self) -> FewStepModel | None:
        """The settings for a few-step model or LoRA, recognised by its name."""
        name = Path(self.source).stem if self.source else ""
        return few_step_model_for(*(lora.path.stem for lora in self.loras), name)

    def load(self, report: ProgressCallback | None = None) -> Model:
        """Load the model; `report` is called with the progress of a download.

        Raises:
            ValueError: the model cannot be loaded; the message names the field.
        """
        import torch

        from consistory_svd.downloads import ignore_progress
        from consistory_svd.models.model import default_choice, load_model

        source, why = self.source, ""
        if source is None:
            choice = default_choice(self.device)
            source, why = choice.source, choice.why
        return load_model(
            source,
            self.device,
            None if self.dtype is None else getattr(torch, self.dtype),
            loras=self.loras,
            memory=self.memory,
            config=self.config,
            why=why,
            report=report or ignore_progress,
        )


def with_recipe(recipe: FewStepModel | None, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The settings of a few-step model that the user did not give, and a sentence about them."""
    if recipe is None:
        return {}, ""
    wanted = {
        "steps": recipe.steps,
        "guidance": recipe.guidance,
        "scheduler": recipe.scheduler,
        "spacing": recipe.spacing,
    }
    used = {name: value for name, value in wanted.items() if given.get(name) is None}
    if not used:
        return {}, ""
    values = ", ".join(f"{name} {value}" for name, value in used.items())
    return used, f"{recipe.name} is made for few steps: using {values} unless you set them"
