"""Tell what a weights file holds from the tensor names in its header, before anything is loaded."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from consistory_svd.errors import FieldError
from consistory_svd.text_format import first_line

PICKLED = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
SAFETENSORS_ONLY = "a .safetensors file, because pickled weights can run code when they are opened"
Shapes = Mapping[str, tuple[int, ...]]

# Architectures mistaken for SDXL, by a part of a tensor name; the first match wins.
OTHER_ARCHITECTURES = (
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
    """The shapes of a file's tensors by name. ValueError, naming `field`, for an incomplete or other file."""
    if path.suffix.lower() in PICKLED:
        raise FieldError(field, str(path), SAFETENSORS_ONLY)
    if not path.is_file():
        raise ValueError(f"{field}: {str(path)!r} does not exist; give a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{field}: {str(path)!r} is not a complete safetensors file ({first_line(error)}); "
            "download it again"
        ) from error


def is_lora(shapes: Shapes) -> bool:
    """Whether the file holds a LoRA or a relative such as LoHa or LoKr."""
    return any(mark in name for name in shapes for mark in LORA_MARKS)


def other_than_sdxl(shapes: Shapes) -> str:
    """What the file holds if not a complete SDXL checkpoint, and what to give instead; empty for SDXL."""
    if is_lora(shapes):
        return "a LoRA; load it on top of a model (--lora)"
    first = shapes.get("model.diffusion_model.input_blocks.0.0.weight")
    if first is not None and any(name.startswith(SDXL_MARK) for name in shapes):
        channels = first[1]
        return (
            ""
            if channels == 4
            else f"an SDXL inpainting model ({channels} input channels); give a text-to-image model"
        )
    for mark, name in OTHER_ARCHITECTURES:
        if any(mark in key for key in shapes):
            return f"{name}; give a checkpoint of the SDXL family"
    if any(name.startswith(("down_blocks.", "input_blocks.", "model.diffusion_model.")) for name in shapes):
        return "a U-Net without its text encoders; give the complete checkpoint"
    if any(name.startswith(("first_stage_model.", "decoder.")) for name in shapes):
        return "only an autoencoder; give the complete checkpoint"
    return "no known SDXL layout; give a checkpoint of the SDXL family"
