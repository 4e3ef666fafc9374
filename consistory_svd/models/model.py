"""Load a model: the embedded one or any SDXL, on a device, in a number format."""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import StableDiffusionXLPipeline

from consistory_svd.downloads import ProgressCallback, ignore_progress, unreachable_reason
from consistory_svd.errors import FieldError
from consistory_svd.memory.offload import Placement, free_bytes
from consistory_svd.memory.plan import MemoryMode, check_mode
from consistory_svd.models.diffusers_folder import load_folder
from consistory_svd.models.few_step import FewStepModel, few_step_model_for
from consistory_svd.models.hub import HUB_ID, download_model, downloaded_folder
from consistory_svd.models.inspect import PICKLED, SAFETENSORS_ONLY
from consistory_svd.models.lora import Lora, load_loras
from consistory_svd.models.single_file import load_single_file
from consistory_svd.paths import ASSETS

EMBEDDED = ASSETS / "storybook"
EMBEDDED_NAME = "storybook"
SDXL_BASE = "stabilityai/stable-diffusion-xl-base-1.0"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A loaded SDXL model. It generates one story at a time: hold `lock` while using `pipe`.

    Attributes:
        checkpoint: the model's name without its LoRAs.
        vocabulary: the words that a small model knows, by kind ("subject", "scene", ...); else empty.
        is_embedded: whether it is the storybook model that comes with the package.
        memory: the memory mode that was asked for; `placement` moves the parts accordingly.
        recipe: the sampling settings that a few-step model is made for.
        why: why this model was chosen, if the user did not choose it.
    """

    pipe: StableDiffusionXLPipeline
    checkpoint: str
    device: torch.device
    dtype: torch.dtype
    vocabulary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_embedded: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    loras: tuple[Lora, ...] = ()
    memory: MemoryMode = "auto"
    recipe: FewStepModel | None = None
    why: str = ""
    placement: Placement = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "placement", Placement(self.pipe, self.device))

    @property
    def name(self) -> str:
        """The model's name with its LoRAs and their weights: what is needed to get the same images."""
        loras = ", ".join(map(str, self.loras))
        return f"{self.checkpoint} with {loras}" if loras else self.checkpoint

    @property
    def native_size(self) -> tuple[int, int]:
        """Height and width, in pixels, that the model was trained for."""
        sample = self.pipe.unet.config.sample_size
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return height * self.pipe.vae_scale_factor, width * self.pipe.vae_scale_factor

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this: the downsampling of autoencoder and U-Net together."""
        return self.pipe.vae_scale_factor * 2 ** (len(self.pipe.unet.config.block_out_channels) - 1)

    def describe(self) -> str:
        """One line: the model, its image size, device and number format."""
        height, width = self.native_size
        device = "CPU" if self.device.type == "cpu" else _device_name(self.device)
        kind = str(self.dtype).removeprefix("torch.")
        line = f"{self.name}, {width} × {height} pixels, on {device} in {kind}"
        return f"{line}. {self.why}" if self.why else line


BY_FLAG = "; choose another with --model"  # the page replaces this hint


@dataclass(frozen=True)
class Choice:
    """The default model (None: the embedded one), and why, as a sentence."""

    source: str | None
    why: str


def default_choice(device: str | None = None) -> Choice:
    """SDXL base if there is a CUDA device and the model can be had, else the embedded model.

    Raises:
        ValueError: the device is not available.
    """
    chosen = _device(device)
    if chosen.type != "cuda":
        return Choice(None, f"Chosen because there is no CUDA device{BY_FLAG}.")
    if downloaded_folder(SDXL_BASE):
        return Choice(SDXL_BASE, "Chosen because there is a CUDA device and SDXL is downloaded.")
    if why := unreachable_reason():
        return Choice(None, f"Chosen because SDXL is not downloaded and the Hub cannot be reached ({why}).")
    return Choice(SDXL_BASE, "Chosen because there is a CUDA device and the Hub can be reached.")


def load_model(
    source: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    *,
    loras: Sequence[Lora] = (),
    memory: str = "auto",
    config: Path | None = None,
    why: str = "",
    report: ProgressCallback = ignore_progress,
) -> Model:
    """Load a model.

    Weights are read from safetensors only, and code that comes with them is never run. The Hub is asked only
    for models that are not downloaded yet.

    Args:
        source: None or "storybook" for the embedded model; or a folder in diffusers' format, a .safetensors
            checkpoint, or a model id of the Hugging Face Hub.
        device: by default CUDA, else Apple's MPS, else the CPU.
        dtype: by default float32 on the CPU, else float16. SDXL is published in float16, which has three
            more bits of mantissa than bfloat16, is as fast on every card, and works on cards before Ampere.
            An autoencoder that overflows in float16 stays in float32.
        loras: LoRA files, loaded on top of the weights.
        memory: "auto", or a memory mode of `consistory_svd.memory.plan.MEMORY_MODES`.
        config: for a single file that does not have SDXL's layout: the folder of its configurations.
        why: why this model was chosen, if the user did not choose it.
        report: called with the progress of a download.

    Raises:
        ValueError: source, LoRA, device or dtype does not exist or cannot be used; the message names it.
    """
    chosen_device = _device(device)
    chosen_dtype = dtype or (torch.float32 if chosen_device.type == "cpu" else torch.float16)
    if chosen_dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise FieldError("dtype", str(chosen_dtype), "float32, float16 or bfloat16")
    mode = check_mode(memory)
    embedded = source is None or (source == EMBEDDED_NAME and not Path(source).exists())
    if embedded and not (EMBEDDED / "model_index.json").is_file():
        raise ValueError(
            f"model: the embedded model is missing: {EMBEDDED} has no model_index.json; choose another model"
        )
    path = str(EMBEDDED) if embedded else str(source)
    pipe = _load_pipeline(path, chosen_dtype, config, report)
    load_loras(pipe, loras)
    if chosen_dtype != torch.float32 and pipe.vae.config.force_upcast:
        pipe.vae.to(dtype=torch.float32)  # its configuration says that it overflows in half precision
    checkpoint = "the embedded storybook model" if embedded else _short_name(path)
    recipe = few_step_model_for(checkpoint, *(lora.path.stem for lora in loras))
    model = Model(
        pipe,
        checkpoint,
        chosen_device,
        chosen_dtype,
        vocabulary=_read_vocabulary(Path(path)),
        is_embedded=embedded,
        loras=tuple(loras),
        memory=mode,
        recipe=recipe,
        why=why,
    )
    model.placement.apply(_first_plan(model, mode))
    log.info("loaded %s", model.describe())
    return model


def _load_pipeline(
    source: str, dtype: torch.dtype, config: Path | None, report: ProgressCallback
) -> StableDiffusionXLPipeline:
    path = Path(source)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ValueError(
                f"model: the folder {source!r} has no model_index.json; give a folder saved by diffusers"
            )
        return load_folder(source, path, dtype)
    if path.suffix.lower() in PICKLED:
        raise FieldError("model", source, SAFETENSORS_ONLY)
    if path.is_file():
        return load_single_file(path, dtype, config)
    if path.exists() or path.suffix == ".safetensors" or not HUB_ID.fullmatch(source):
        raise ValueError(
            f"model: {source!r} does not exist; give a folder saved by diffusers, a .safetensors file or a "
            "Hub id, owner/name"
        )
    folder = downloaded_folder(source) or download_model(source, dtype, report)
    return load_folder(source, folder, dtype)


def _first_plan(model: Model, mode: MemoryMode) -> str:
    """The memory mode until the first story, whose image size decides again."""
    if mode != "auto":
        return mode
    pipe, free = model.pipe, free_bytes(model.device)
    parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    weights = sum(weight.nbytes for part in parts for weight in part.parameters())
    if model.device.type == "cpu" or free is None or weights * 1.2 < free:
        return "full"
    return "offload" if pipe.unet.get_memory_footprint() * 1.2 < free else "group-offload"


def _device(name: str | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # whichever torch raises
        raise FieldError("device", name, "an available device, such as 'cpu' or 'cuda'") from error
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device).upper()


def _short_name(source: str) -> str:
    path = Path(source)
    if path.is_dir():
        return path.resolve().name
    return path.stem if path.is_file() else source


def _read_vocabulary(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """The first word of each class in `words.json`, which maps kinds to classes to lists of words."""
    path = folder / "words.json"
    if not path.is_file():
        return {}
    kinds = json.loads(path.read_text(encoding="utf-8"))
    return {kind: tuple(words[0] for words in classes.values()) for kind, classes in kinds.items()}
