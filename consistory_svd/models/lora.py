"""LoRA files beside a model: small changes to its weights, one or several, each with its own strength."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusers import StableDiffusionXLPipeline
from safetensors import SafetensorError

from consistory_svd.models.diffusers_folder import first_line
from consistory_svd.models.inspect import is_lora, read_shapes

STRONGEST = 4.0


@dataclass(frozen=True)
class Lora:
    """A LoRA file and how strongly it acts: 1 as it was trained, 0 not at all, below 0 the other way.

    Raises:
        ValueError: the weight is out of range.
    """

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not -STRONGEST <= self.weight <= STRONGEST:  # catches NaN too
            raise ValueError(
                f"lora: the weight {self.weight} of {str(self.path)!r} is not allowed; "
                f"give a number from -{STRONGEST:g} to {STRONGEST:g}"
            )

    def __str__(self) -> str:
        return f"{self.path.stem}:{self.weight:g}"


def read_lora(text: str) -> Lora:
    """A LoRA from "file.safetensors" or "file.safetensors:0.8". ValueError for another weight."""
    text = text.strip()
    name, colon, weight = text.rpartition(":")
    if not colon or Path(text).is_file() or "/" in weight or "\\" in weight:
        return Lora(Path(text).expanduser())  # no weight: a colon may also be part of a path
    try:
        return Lora(Path(name).expanduser(), float(weight))
    except ValueError as error:
        if str(error).startswith("lora:"):
            raise
        raise ValueError(
            f"lora: {text!r} is not allowed; give a file, or a file, a colon and a weight such as 0.8"
        ) from error


def load_loras(pipe: StableDiffusionXLPipeline, loras: Sequence[Lora]) -> None:
    """Put LoRAs on a pipeline, beside its weights and not into them: `unload_loras` takes them off again.

    Raises:
        ValueError: a file is no LoRA, broken, or made for another model; the pipeline is then without any.
    """
    for lora in loras:
        if not is_lora(read_shapes("lora", lora.path)):
            raise ValueError(f"lora: {str(lora.path)!r} holds no LoRA; give a LoRA of the SDXL family")
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
    """Take all LoRAs off: the pipeline's weights and layers are what they were before."""
    pipe.unload_lora_weights()


def _load(pipe: StableDiffusionXLPipeline, lora: Lora, name: str) -> None:
    cure = "it may be made for another model; give a LoRA of the SDXL family"
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
        # Names and shapes of another architecture: each layout of LoRA files has its own way to fail.
        raise ValueError(
            f"lora: {str(lora.path)!r} does not fit this model ({first_line(error)}); {cure}"
        ) from error
    if _adapted(pipe) == before:  # diffusers passes over what it does not know
        raise ValueError(f"lora: {str(lora.path)!r} changes nothing in this model; {cure}")


def _adapted(pipe: StableDiffusionXLPipeline) -> set[tuple[str, str]]:
    return {(part, name) for part, names in pipe.get_list_adapters().items() for name in names}
