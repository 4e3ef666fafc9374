"""Where weights come from: the embedded storybook model, or any SDXL checkpoint in diffusers' format."""

import json
import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline

from consistory_svd.places import ASSETS

EMBEDDED = ASSETS / "storybook"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A loaded SDXL model, for one story at a time: whoever uses `pipe` holds `lock`.

    `words` maps kinds of words ("subject", "scene", ...) to what a small model knows of them; it is empty for
    models that know everything. Sizes are (height, width) in pixels.
    """

    pipe: StableDiffusionXLPipeline
    name: str
    device: torch.device
    dtype: torch.dtype
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def native_size(self) -> tuple[int, int]:
        """Height and width that the model was trained for."""
        sample = self.pipe.unet.config.sample_size
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return height * self.pipe.vae_scale_factor, width * self.pipe.vae_scale_factor

    @property
    def size_multiple(self) -> int:
        """What height and width must be divisible by: the autoencoder's factor times the U-Net's."""
        return self.pipe.vae_scale_factor * 2 ** (len(self.pipe.unet.config.block_out_channels) - 1)

    def describe(self) -> str:
        """The model, its picture size, device and number format, in one line of plain words."""
        height, width = self.native_size
        device = "CPU" if self.device.type == "cpu" else _device_name(self.device)
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.name}, {width} × {height} pixels, on {device} in {kind}"


def load_model(
    source: str | None = None, device: str | None = None, dtype: torch.dtype | None = None
) -> Model:
    """Load the embedded model (None), a folder in diffusers' format, or a model of the Hugging Face hub.

    `device` and `dtype` are chosen by what is there: CUDA in float16, else Apple's MPS in float16, else the
    CPU in float32. Weights are read from safetensors only; the hub is asked only for what is not kept here.

    Raises:
        ValueError: the source, device or dtype is not there or cannot be used; the message names it.
    Source: issue 2, section 4.
    """
    chosen_device = _device(device)
    chosen_dtype = dtype or (torch.float32 if chosen_device.type == "cpu" else torch.float16)
    if chosen_dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype: {chosen_dtype} is not allowed; give float32, float16 or bfloat16")
    if source is None and not (EMBEDDED / "model_index.json").is_file():
        raise ValueError(
            f"model: the embedded model is missing, {EMBEDDED} has no model_index.json; give --model"
        )
    place = str(EMBEDDED) if source is None else source
    pipe = _from_folder(place, chosen_dtype) if _is_folder(place) else _from_hub(place, chosen_dtype)
    pipe.to(chosen_device)
    if chosen_dtype == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(dtype=torch.float32)  # such an autoencoder overflows in float16
    name = "the embedded storybook model" if source is None else _short_name(place)
    log.info("loaded %s on %s in %s", name, chosen_device, chosen_dtype)
    return Model(pipe, name, chosen_device, chosen_dtype, words=_known_words(Path(place)))


def _device(name: str | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's words for "not here"
        raise ValueError(f"device: {name!r} cannot be used here; give one such as 'cpu' or 'cuda'") from error
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device).upper()


def _is_folder(place: str) -> bool:
    path = Path(place)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ValueError(
                f"model: the folder {place!r} has no model_index.json; give a folder saved by diffusers"
            )
        return True
    if path.exists() or not HUB_ID.fullmatch(place):
        raise ValueError(
            f"model: {place!r} is not there; give a folder saved by diffusers or a hub id, owner/name"
        )
    return False


def _from_folder(place: str, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    kind = json.loads(Path(place, "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    if kind != StableDiffusionXLPipeline.__name__:
        raise ValueError(f"model: {place!r} holds a {kind}; give a StableDiffusionXLPipeline")
    try:
        return _load(place, dtype, local_files_only=True)
    except OSError as error:
        raise ValueError(f"model: {place!r} cannot be read: {_first_line(error)}") from error


def _from_hub(place: str, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    try:
        return _load(place, dtype, local_files_only=True)
    except OSError:
        log.info("%s is not kept here; asking the hub", place)
    try:
        return _load(place, dtype, local_files_only=False)
    except OSError as error:
        raise ValueError(f"model: {place!r} cannot be had from the hub: {_first_line(error)}") from error


def _load(place: str, dtype: torch.dtype, local_files_only: bool) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(
        place, dtype=dtype, use_safetensors=True, local_files_only=local_files_only, add_watermarker=False
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _short_name(place: str) -> str:
    return Path(place).resolve().name if Path(place).is_dir() else place


def _known_words(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """The first word of every class of `words.json`, which maps kinds to classes to lists of words."""
    path = folder / "words.json"
    if not path.is_file():
        return {}
    kinds = json.loads(path.read_text(encoding="utf-8"))
    return {kind: tuple(words[0] for words in classes.values()) for kind, classes in kinds.items()}
