"""Load a model from a folder in diffusers' format, after checking what it holds."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import SafetensorError, safe_open

from consistory_svd.text_format import first_line

INDEX = "model_index.json"
# The classes that a pipeline may be made of: those that the denoising loop and the method know.
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


def check_index(name: str, index: Mapping[str, Any]) -> None:
    """Check that a pipeline's index describes an SDXL model made of known classes.

    Classes of other libraries would be code that comes with the weights, which is never run.

    Raises:
        ValueError: it describes something else; the message names the model.
    """
    expected = StableDiffusionXLPipeline.__name__
    if (kind := index.get("_class_name")) != expected:
        raise ValueError(f"model: {name!r} holds a {kind}; give a {expected}")
    for part, known in CLASSES.items():
        found = index.get(part)
        if not isinstance(found, list) or len(found) != 2 or found[0] is None:
            raise ValueError(f"model: {name!r} has no {part}; give a complete {expected}")
        library, class_name = found
        if library not in ("diffusers", "transformers") or class_name not in known:
            raise ValueError(
                f"model: {name!r} has a {part} of {library}.{class_name}; code that comes with weights is "
                f"never run; give a model with {known[0]}"
            )
    scheduler = index.get("scheduler")
    if not isinstance(scheduler, list) or scheduler[0] != "diffusers":
        raise ValueError(f"model: {name!r} has no scheduler of diffusers; give a complete {expected}")
    if "FlowMatch" in scheduler[1]:
        raise ValueError(f"model: {name!r} is a flow-matching model; give one of the SDXL family")


def read_index(name: str, folder: Path) -> None:
    """Read and check the index of a folder. ValueError, naming the model, as `check_index`."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"model: {name!r} cannot be read: its {INDEX} is corrupted ({error})") from error
    check_index(name, index)


def choose_variant(files: Collection[str], dtype: torch.dtype) -> str | None:
    """ "fp16" to read the half-precision files: if `dtype` asks for them or there are no others.

    Args:
        files: names relative to the model's folder.
    """
    full, half = set(), set()
    for name in files:
        part, _, file = name.partition("/")
        if part in WEIGHTED and file.endswith(".safetensors"):
            (half if ".fp16" in file else full).add(part)
    wanted = dtype in HALF and "unet" in half
    return "fp16" if wanted or half - full else None


def load_folder(name: str, folder: Path, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """Load the pipeline of a folder, on the CPU.

    Raises:
        ValueError: the folder cannot be used; the message names the model.
    """
    read_index(name, folder)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    for part in WEIGHTED:
        own = [file for file in files if file.startswith(f"{part}/")]
        if not any(file.endswith(".safetensors") for file in own):
            pickled = any(file.endswith((".bin", ".ckpt")) for file in own)
            why = "only pickled ones, which can run code when they are opened" if pickled else "none"
            raise ValueError(
                f"model: {name!r} cannot be read: its {part} needs .safetensors weights and has {why}"
            )
    variant = choose_variant(files, dtype)
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
        # Truncated files, wrong shapes, wrong configurations: each reader has its own exceptions.
        raise ValueError(f"model: {name!r} cannot be read: {first_line(error)}") from error
    for part in WEIGHTED:
        _check_names(name, getattr(pipe, part), folder / part, variant)
    check_pipeline(name, pipe)
    return pipe


def _check_names(name: str, part: torch.nn.Module, folder: Path, variant: str | None) -> None:
    """ValueError if files lack weights of a part: readers would initialise these at random."""
    files = sorted(folder.glob("*.safetensors"))
    files = [file for file in files if (f".{variant}" in file.name) == bool(variant)] or files
    present: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as opened:
            present |= {key.removeprefix("text_model.") for key in opened.keys()}  # noqa: SIM118
    _check_missing(
        name, folder.name, {key.removeprefix("text_model.") for key, _ in part.named_parameters()} - present
    )


def _check_missing(name: str, part: str, missing: set[str]) -> None:
    if missing:
        raise ValueError(
            f"model: {name!r} cannot be read: {len(missing)} weights of its {part} are missing, such as "
            f"{min(missing)}"
        )


def check_pipeline(name: str, pipe: StableDiffusionXLPipeline) -> None:
    """ValueError if weights are missing, which readers leave on the meta device, or parts do not match."""
    for part in WEIGHTED:
        weights = getattr(pipe, part).named_parameters()
        _check_missing(name, part, {key for key, weight in weights if weight.is_meta})
    text = pipe.text_encoder.config.hidden_size + pipe.text_encoder_2.config.hidden_size
    expected = pipe.unet.config.cross_attention_dim
    if expected != text or pipe.unet.config.in_channels != pipe.vae.config.latent_channels:
        raise ValueError(
            f"model: {name!r} holds parts that do not match: its U-Net expects text embeddings of {expected} "
            f"and latents of {pipe.unet.config.in_channels} channels, the others give {text} and "
            f"{pipe.vae.config.latent_channels}"
        )
