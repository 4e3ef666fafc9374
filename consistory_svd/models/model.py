"""Which model tells the stories: the embedded one, or any SDXL; on which device and in which precision."""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline

from consistory_svd.memory import MemoryMode, Pace, Placement, check_mode, free_bytes
from consistory_svd.metrics.dreamsim_weights import Report
from consistory_svd.models import (
    HUB_ID,
    Lora,
    fetch_model,
    is_kept,
    kept_folder,
    load_folder,
    load_loras,
    load_single_file,
    reachable,
)
from consistory_svd.models.inspect import ONLY_SAFE, PICKLED
from consistory_svd.paths import ASSETS
from consistory_svd.schedulers import Recipe, recipe_for

EMBEDDED = ASSETS / "storybook"
EMBEDDED_NAME = "storybook"
SDXL_BASE = "stabilityai/stable-diffusion-xl-base-1.0"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A loaded SDXL model, for one story at a time: whoever uses `pipe` holds `lock`.

    `checkpoint` is what it is called, without the LoRAs that are on it. `words` maps kinds of words
    ("subject", "scene", ...) to what a small model knows of them; it is empty for models that know
    everything. Sizes are (height, width) in pixels. `why` says why this model was chosen where nobody asked
    for it; `recipe` is how a few-step model wants to be run; `memory` is how its memory is planned,
    `placement` where its parts are, `pace` what its stories took so far.
    """

    pipe: StableDiffusionXLPipeline
    checkpoint: str
    device: torch.device
    dtype: torch.dtype
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    loras: tuple[Lora, ...] = ()
    memory: MemoryMode = "auto"
    recipe: Recipe | None = None
    why: str = ""
    pace: Pace = field(default_factory=Pace, repr=False)
    placement: Placement = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "placement", Placement(self.pipe, self.device))

    @property
    def name(self) -> str:
        """What the model is called, with its LoRAs and their weights: without them, other pictures come."""
        loras = ", ".join(map(str, self.loras))
        return f"{self.checkpoint} with {loras}" if loras else self.checkpoint

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
        line = f"{self.name}, {width} × {height} pixels, on {device} in {kind}"
        return f"{line}. {self.why}" if self.why else line


BY_FLAG = "; --model takes another"  # a page has other words for it


@dataclass(frozen=True)
class Choice:
    """Which model is loaded where nobody asked for one; None is the embedded one. `why` is for people."""

    source: str | None
    why: str


def default_choice(device: str | None = None) -> Choice:
    """SDXL base on a CUDA machine that has it or can get it, else the embedded model, and why.

    ValueError for a device that is not here.
    """
    chosen = _device(device)
    if chosen.type != "cuda":
        return Choice(None, f"Chosen because there is no CUDA device{BY_FLAG}.")
    if is_kept(SDXL_BASE):
        return Choice(SDXL_BASE, "Chosen because there is a CUDA device and SDXL is kept here.")
    if why := reachable():
        return Choice(
            None,
            f"Chosen because SDXL is not kept here and the hub cannot be reached ({why}).",
        )
    return Choice(SDXL_BASE, "Chosen because there is a CUDA device and a network.")


def load_model(
    source: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    *,
    loras: Sequence[Lora] = (),
    memory: str = "auto",
    config: Path | None = None,
    why: str = "",
    report: Report = lambda done, whole: None,
) -> Model:
    """Load the embedded model (None or "storybook"), a folder in diffusers' format, a single .safetensors
    checkpoint, or a model of the Hugging Face hub.

    `device` and `dtype` are chosen by what is there: CUDA in float16, else Apple's MPS in float16, else the
    CPU in float32. float16 is what SDXL's weights are published in; it has three bits of mantissa more than
    bfloat16, is as fast on every card and is known to cards before Ampere, which bfloat16 is not. An
    autoencoder that overflows in it stays in float32. Weights are read from safetensors only and no code
    beside them is run; the hub is asked only for what is not kept here.

    Args:
        loras: LoRA files, put beside the weights.
        memory: how memory is planned: "auto", or the name of a plan (`consistory_svd.memory.PLANS`).
        config: for a single file in another than SDXL's own layout: the folder of its configurations.
        why: why this model was chosen where nobody asked for it; `describe` says it.
        report: is told the bytes of a download as they come: those here, and all.

    Raises:
        ValueError: the source, a LoRA, device or dtype is not there or cannot be used; the message names it.
    Source: issue 2, section 4; issue 7.
    """
    chosen_device = _device(device)
    chosen_dtype = dtype or (torch.float32 if chosen_device.type == "cpu" else torch.float16)
    if chosen_dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype: {chosen_dtype} is not allowed; give float32, float16 or bfloat16")
    mode = check_mode(memory)
    embedded = source is None or (source == EMBEDDED_NAME and not Path(source).exists())
    if embedded and not (EMBEDDED / "model_index.json").is_file():
        raise ValueError(
            f"model: the embedded model is missing, {EMBEDDED} has no model_index.json; give --model"
        )
    where = str(EMBEDDED) if embedded else str(source)
    pipe = _pipeline(where, chosen_dtype, config, report)
    load_loras(pipe, loras)
    _make_vae_safe(pipe, chosen_dtype)
    checkpoint = "the embedded storybook model" if embedded else _short_name(where)
    recipe = recipe_for(checkpoint, *(lora.path.stem for lora in loras))
    model = Model(
        pipe,
        checkpoint,
        chosen_device,
        chosen_dtype,
        words=_known_words(Path(where)),
        loras=tuple(loras),
        memory=mode,
        recipe=recipe,
        why=why,
    )
    model.placement.apply(_first_plan(model, mode))
    log.info("loaded %s", model.describe())
    return model


def _pipeline(
    where: str, dtype: torch.dtype, config: Path | None, report: Report
) -> StableDiffusionXLPipeline:
    path = Path(where)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ValueError(
                f"model: the folder {where!r} has no model_index.json; give a folder saved by diffusers"
            )
        return load_folder(where, path, dtype)
    if path.suffix.lower() in PICKLED:
        raise ValueError(f"model: {where!r} is not allowed; {ONLY_SAFE}; give a .safetensors file")
    if path.is_file():
        return load_single_file(path, dtype, config)
    if path.exists() or path.suffix == ".safetensors" or not HUB_ID.fullmatch(where):
        raise ValueError(
            f"model: {where!r} is not there; give a folder saved by diffusers, a .safetensors file or a hub "
            "id, owner/name"
        )
    folder = kept_folder(where)
    if folder is None:
        log.info("%s is not kept here; asking the hub", where)
        folder = fetch_model(where, dtype, report)
    return load_folder(where, folder, dtype)


def _first_plan(model: Model, mode: MemoryMode) -> str:
    """The plan until a story, which says how large its pictures are, asks for another."""
    if mode != "auto":
        return mode
    pipe, free = model.pipe, free_bytes(model.device)
    parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    weights = sum(weight.nbytes for part in parts for weight in part.parameters())
    if model.device.type == "cpu" or free is None or weights * 1.2 < free:
        return "full"
    return "offload" if pipe.unet.get_memory_footprint() * 1.2 < free else "group-offload"


def _make_vae_safe(pipe: StableDiffusionXLPipeline, dtype: torch.dtype) -> None:
    """Where its configuration says that it overflows, the autoencoder computes in float32."""
    if dtype != torch.float32 and pipe.vae.config.force_upcast:
        pipe.vae.to(dtype=torch.float32)


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


def _short_name(place: str) -> str:
    path = Path(place)
    if path.is_dir():
        return path.resolve().name
    return path.stem if path.is_file() else place


def _known_words(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """The first word of every class of `words.json`, which maps kinds to classes to lists of words."""
    path = folder / "words.json"
    if not path.is_file():
        return {}
    kinds = json.loads(path.read_text(encoding="utf-8"))
    return {kind: tuple(words[0] for words in classes.values()) for kind, classes in kinds.items()}
