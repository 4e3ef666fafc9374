"""What a program is told about its model, by flags or on the page, made into a loaded model."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from consistory_svd.memory import check_mode
from consistory_svd.metrics.dreamsim_weights import Report
from consistory_svd.models import Lora, read_lora
from consistory_svd.models.model import Model, default_choice, load_model
from consistory_svd.schedulers import Recipe, recipe_for

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}

COLUMNS = (
    TextColumn("Downloading"),
    BarColumn(),
    DownloadColumn(),
    TransferSpeedColumn(),
    TimeRemainingColumn(),
)


@dataclass(frozen=True)
class ModelRequest:
    """Which model is wanted; all empty: the one that suits the machine.

    Attributes:
        source: a folder, a .safetensors file, a hub id, "storybook", or None.
        device, dtype: by name; None: the best there is.
        loras: LoRA files with their weights.
        memory: a memory plan, or "auto".
        config: the folder of a single file's configurations.

    Raises:
        ValueError: dtype or memory is not known.
    """

    source: str | None = None
    device: str | None = None
    dtype: str | None = None
    loras: tuple[Lora, ...] = field(default_factory=tuple)
    memory: str = "auto"
    config: Path | None = None

    def __post_init__(self) -> None:
        check_mode(self.memory)
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"dtype: {self.dtype!r} is not allowed; give one of {', '.join(DTYPES)}")

    @classmethod
    def of(
        cls,
        source: str | None,
        device: str | None = None,
        dtype: str | None = None,
        loras: Sequence[str] = (),
        memory: str = "auto",
        config: Path | None = None,
    ) -> "ModelRequest":
        """A request from texts: a LoRA is "file.safetensors" or "file.safetensors:0.8"."""
        return cls(source, device, dtype, tuple(map(read_lora, loras)), memory, config)

    @property
    def recipe(self) -> Recipe | None:
        """How a few-step model or LoRA wants to be run, as far as names tell."""
        name = Path(self.source).stem if self.source else ""
        return recipe_for(*(lora.path.stem for lora in self.loras), name)

    def load(self, report: Report = lambda done, whole: None) -> Model:
        """The model. ValueError, naming the field, for what cannot be loaded."""
        source, why = self.source, ""
        if source is None:
            choice = default_choice(self.device)
            source, why = choice.source, choice.why
        return load_model(
            source,
            self.device,
            None if self.dtype is None else DTYPES[self.dtype],
            loras=self.loras,
            memory=self.memory,
            config=self.config,
            why=why,
            report=report,
        )


def with_recipe(recipe: Recipe | None, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The settings that a few-step model wants and nobody gave, and a sentence that says so."""
    if recipe is None:
        return {}, ""
    wanted = {
        "steps": recipe.steps,
        "guidance": recipe.guidance,
        "scheduler": recipe.scheduler,
        "spacing": recipe.spacing,
    }
    taken = {name: value for name, value in wanted.items() if given.get(name) is None}
    if not taken:
        return {}, ""
    said = ", ".join(f"{name} {value}" for name, value in taken.items())
    return taken, f"{recipe.name} is made for few steps: {said}, unless you give others"


def load_with_bar(request: ModelRequest, console: Console) -> Model:
    """`request.load` with a line, and a bar in its place once something is downloaded."""
    with ExitStack() as shown:
        line = shown.enter_context(console.status("Loading the model"))
        bars: list[Progress] = []

        def report(done: int, whole: int | None) -> None:
            if not bars:
                line.stop()
                bars.append(shown.enter_context(Progress(*COLUMNS, console=console, transient=True)))
                bars[0].add_task("model")
            bars[0].update(bars[0].task_ids[0], completed=done, total=whole)

        return request.load(report)
