"""A model from a folder in diffusers' format: looked at first, then loaded."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import SafetensorError, safe_open

INDEX = "model_index.json"
# What may be in a pipeline, by the name of the part: the loop and the method know these classes.
CLASSES: dict[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")
HALF = (torch.float16, torch.bfloat16)


def check_index(place: str, index: Mapping[str, Any]) -> None:
    """ValueError, naming the model, unless its index describes an SDXL of the classes known here.

    Names of other libraries would be code that came with the weights; it is never run.
    """
    kind = index.get("_class_name")
    wanted = StableDiffusionXLPipeline.__name__
    if kind != wanted:
        raise ValueError(f"model: {place!r} holds a {kind}; give a {wanted}")
    for part, known in CLASSES.items():
        found = index.get(part)
        if not isinstance(found, list) or len(found) != 2 or found[0] is None:
            raise ValueError(f"model: {place!r} has no {part}; give a whole {wanted}")
        library, name = found
        if library not in ("diffusers", "transformers") or name not in known:
            raise ValueError(
                f"model: {place!r} has a {part} of {library}.{name}; code beside weights is never run; "
                f"give one with {known[0]}"
            )
    scheduler = index.get("scheduler")
    if not isinstance(scheduler, list) or scheduler[0] != "diffusers":
        raise ValueError(f"model: {place!r} has no scheduler of diffusers; give a whole {wanted}")
    if "FlowMatch" in scheduler[1]:
        raise ValueError(f"model: {place!r} is a flow-matching model; give one of the SDXL family")


def read_index(place: str, folder: Path) -> Mapping[str, Any]:
    """The folder's index, checked. ValueError, naming `place`."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"model: {place!r} cannot be read: its {INDEX} is broken ({error})") from error
    check_index(place, index)
    return index


def chosen_variant(files: Collection[str], dtype: torch.dtype) -> str | None:
    """ "fp16" where a model's half-precision files are to be read: they are wanted or there are no others.

    `files` are names relative to the model's folder.
    """
    plain, half = set(), set()
    for name in files:
        part, _, file = name.partition("/")
        if part in WEIGHTED and file.endswith(".safetensors"):
            (half if ".fp16" in file else plain).add(part)
    wanted = dtype in HALF and "unet" in half
    return "fp16" if wanted or half - plain else None


def load_folder(place: str, folder: Path, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """The pipeline of a folder, on the CPU. ValueError, naming `place`, for what cannot be used."""
    read_index(place, folder)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    for part in WEIGHTED:
        if not any(name.startswith(f"{part}/") and name.endswith(".safetensors") for name in files):
            pickled = any(name.startswith(f"{part}/") and name.endswith((".bin", ".ckpt")) for name in files)
            why = "only pickled ones, which can run code when they are opened" if pickled else "none"
            raise ValueError(
                f"model: {place!r} cannot be read: its {part} needs .safetensors weights and has {why}"
            )
    variant = chosen_variant(files, dtype)
    try:
        pipe = StableDiffusionXLPipeline.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            variant=variant,
            local_files_only=True,
            add_watermarker=False,
        )
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        # Broken off files, wrong shapes, wrong configurations: each reader has its own way to refuse them.
        raise ValueError(f"model: {place!r} cannot be read: {first_line(error)}") from error
    for part in WEIGHTED:
        _check_names(place, getattr(pipe, part), folder / part, variant)
    check_whole(place, pipe)
    return pipe


def _check_names(place: str, part: torch.nn.Module, folder: Path, variant: str | None) -> None:
    """ValueError where weights lack in the part's files: readers would fill them in at random."""
    files = sorted(folder.glob("*.safetensors"))
    files = [file for file in files if (f".{variant}" in file.name) == bool(variant)] or files
    there: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as opened:
            there |= {name.removeprefix("text_model.") for name in opened.keys()}  # noqa: SIM118
    lacking = {name.removeprefix("text_model.") for name, _ in part.named_parameters()} - there
    if lacking:
        raise ValueError(
            f"model: {place!r} cannot be read: {len(lacking)} weights of its {folder.name} lack, such as "
            f"{min(lacking)}"
        )


def check_whole(place: str, pipe: StableDiffusionXLPipeline) -> None:
    """ValueError where weights lack, which readers leave on the meta device, or sizes do not go together."""
    for part in WEIGHTED:
        lacking = [name for name, weight in getattr(pipe, part).named_parameters() if weight.is_meta]
        if lacking:
            raise ValueError(
                f"model: {place!r} cannot be read: {len(lacking)} weights of its {part} lack, such as "
                f"{lacking[0]}"
            )
    text = pipe.text_encoder.config.hidden_size + pipe.text_encoder_2.config.hidden_size
    wanted = pipe.unet.config.cross_attention_dim
    if wanted != text or pipe.unet.config.in_channels != pipe.vae.config.latent_channels:
        raise ValueError(
            f"model: {place!r} holds parts that do not go together: its U-Net reads texts of {wanted} and "
            f"latents of {pipe.unet.config.in_channels} channels, the others make {text} and "
            f"{pipe.vae.config.latent_channels}"
        )


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
