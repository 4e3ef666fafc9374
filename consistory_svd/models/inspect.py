"""What a file of weights holds, read from the names in its header before anything is loaded."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

PICKLED = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
ONLY_SAFE = (
    "weights are read from safetensors only, because files of this kind can run code when they are opened"
)
Shapes = Mapping[str, tuple[int, ...]]

# Marks of the architectures that people mistake for SDXL, by a part of a tensor's name; the first that fits.
OTHERS = (
    ("double_blocks.", "Flux"),
    ("joint_blocks.", "Stable Diffusion 3"),
    ("model.diffusion_model.transformer_blocks.", "another transformer model"),
    ("cond_stage_model.model.", "Stable Diffusion 2"),
    ("cond_stage_model.transformer.", "Stable Diffusion 1"),
    ("conditioner.embedders.0.model.", "the SDXL refiner"),
)
LORA_MARKS = (
    "lora_A",
    "lora_B",
    "lora_up",
    "lora_down",
    "lora.up",
    "lora.down",
    "lora_unet_",
    "hada_w1",
    "lokr_w",
)
SDXL_MARK = "conditioner.embedders.1.model."


def read_shapes(field: str, path: Path) -> Shapes:
    """The tensors' shapes by name. ValueError, naming `field`, for what is no whole safetensors file."""
    if path.suffix.lower() in PICKLED:
        raise ValueError(f"{field}: {str(path)!r} is not allowed; {ONLY_SAFE}; give a .safetensors file")
    if not path.is_file():
        raise ValueError(f"{field}: {str(path)!r} is not there; give a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{field}: {str(path)!r} is no whole safetensors file ({_first_line(error)}); "
            "it may be broken off: download it again"
        ) from error


def is_lora(shapes: Shapes) -> bool:
    """Whether a file holds a LoRA or one of its relatives."""
    return any(mark in name for name in shapes for mark in LORA_MARKS)


def other_than_sdxl(shapes: Shapes) -> str:
    """What a file holds that is no whole SDXL checkpoint, in words with the cure; empty for an SDXL."""
    if is_lora(shapes):
        return "a LoRA; give it as a LoRA beside a model (--lora)"
    first = shapes.get("model.diffusion_model.input_blocks.0.0.weight")
    if first is not None and any(name.startswith(SDXL_MARK) for name in shapes):
        channels = first[1]
        return (
            ""
            if channels == 4
            else f"an SDXL for inpainting ({channels} channels in); give a text-to-image one"
        )
    for mark, name in OTHERS:
        if any(mark in key for key in shapes):
            return f"{name}; give a checkpoint of the SDXL family"
    if any(name.startswith(("down_blocks.", "input_blocks.", "model.diffusion_model.")) for name in shapes):
        return "a U-Net without its text encoders; give the whole checkpoint, or its LoRA beside a model"
    if any(name.startswith(("first_stage_model.", "decoder.")) for name in shapes):
        return "an autoencoder alone; give the whole checkpoint"
    return "nothing that is known as SDXL; give a checkpoint of the SDXL family"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
