"""LoRA files: load one or several on top of a pipeline, each with its own weight, and unload them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from consistory_svd.errors import FieldError
from consistory_svd.models.inspect import is_lora, read_shapes
from consistory_svd.text_format import first_line

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

MAX_WEIGHT = 4.0


@dataclass(frozen=True)
class Lora:
    """A LoRA file and its weight: 1 as trained, 0 no effect, below 0 the opposite.

    Raises:
        ValueError: the weight is out of range.
    """

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not -MAX_WEIGHT <= self.weight <= MAX_WEIGHT:  # catches NaN too
            allowed = f"a file with a weight from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
            raise FieldError("lora", f"{self.path}:{self.weight}", allowed)

    def __str__(self) -> str:
        return f"{self.path.stem}:{self.weight:g}"


def read_lora(text: str) -> Lora:
    """Parse "file.safetensors" or "file.safetensors:0.8". ValueError for a wrong weight."""
    text = text.strip()
    name, colon, weight = text.rpartition(":")
    if not colon or Path(text).is_file() or "/" in weight or "\\" in weight:
        return Lora(Path(text).expanduser())  # no weight: a colon may also be part of a path
    try:
        number = float(weight)
    except ValueError as error:
        raise FieldError("lora", text, "FILE, or FILE:WEIGHT with a weight such as 0.8") from error
    return Lora(Path(name).expanduser(), number)


def load_loras(pipe: StableDiffusionXLPipeline, loras: Sequence[Lora]) -> None:
    """Load LoRAs as adapters, which leave the pipeline's weights unchanged; `unload_loras` removes them.

    Raises:
        ValueError: a file is not a LoRA, corrupted, or made for another model; then no LoRA is loaded.
    """
    for lora in loras:
        if not is_lora(read_shapes("lora", lora.path)):
            raise ValueError(f"lora: {str(lora.path)!r} is not a LoRA; give a LoRA of the SDXL family")
    names = [f"lora_{position}" for position in range(len(loras))]
    try:
        for lora, name in zip(loras, names, strict=True):
            _load(pipe, lora, name)
        if loras:
            pipe.set_adapters(names, adapter_weights=[lora.weight for lora in loras])
    except ValueError:
        unload_loras(pipe)
        raise


def unload_loras(pipe: StableDiffusionXLPipeline) -> None:
    """Remove all LoRAs: the pipeline's layers and weights are the same as before `load_loras`."""
    pipe.unload_lora_weights()


def _load(pipe: StableDiffusionXLPipeline, lora: Lora, name: str) -> None:
    remedy = "it may be made for another model; give a LoRA of the SDXL family"
    before = _adapted(pipe)
    try:
        pipe.load_lora_weights(
            str(lora.path.parent.resolve()),
            weight_name=lora.path.name,
            adapter_name=name,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
        # Names and shapes of another architecture: each LoRA layout has its own exceptions.
        raise ValueError(
            f"lora: {str(lora.path)!r} does not fit this model ({first_line(error)}); {remedy}"
        ) from error
    if _adapted(pipe) == before:  # diffusers ignores names that it does not know
        raise ValueError(f"lora: {str(lora.path)!r} changes nothing in this model; {remedy}")


def _adapted(pipe: StableDiffusionXLPipeline) -> set[tuple[str, str]]:
    return {(part, name) for part, names in pipe.get_list_adapters().items() for name in names}
