"""A memory plan carried out: where the parts of a pipeline are, and how much room there is."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import psutil
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.hooks import HookRegistry

from consistory_svd.memory.estimate import tile
from consistory_svd.memory.plan import LADDER

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
# diffusers' names for the hooks of group offloading.
GROUP_HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading")
# What the messages of a failed allocation have in common, where torch has no class for them.
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate")


class Placement:
    """Where a pipeline's parts are. `name` is the plan that is carried out; None before the first.

    Only one plan cannot be left again for a larger one: fp8 rounds the weights of the U-Net.
    """

    def __init__(self, pipe: StableDiffusionXLPipeline, device: torch.device) -> None:
        self.name: str | None = None
        self.retired = False
        self._pipe, self._device = pipe, device
        self._dtype = pipe.unet.dtype
        self._tile = (pipe.vae.use_tiling, pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size)

    @property
    def rounded(self) -> bool:
        """Whether the U-Net's weights are rounded to 8 bits."""
        return self.name == "fp8"

    @property
    def takes_turns(self) -> bool:
        """Whether text encoders are on the device only while they are used."""
        return self.name is not None and LADDER.index(self.name) >= LADDER.index("offload")

    def apply(self, name: str) -> None:
        """Move the parts to where the plan has them. From fp8 nothing leads back: it stays."""
        if name == self.name or self.rounded:
            return
        before, self.name = self.name, name
        self._tiles(LADDER.index(name) >= LADDER.index("tiled"))
        if before is not None and _layout(before) == _layout(name):
            return
        pipe, unet = self._pipe, self._pipe.unet
        if before == "group-offload":
            for hook in GROUP_HOOKS:
                HookRegistry.check_if_exists_or_initialize(unet).remove_hook(hook, recurse=True)
        pipe.vae.to(self._device)
        self._move_text(CPU if self.takes_turns else self._device)
        if name == "fp8":
            unet.to(CPU)
            unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=self._dtype)
        if _layout(name) == "grouped":
            unet.to(CPU)
            streams = self._device.type == "cuda"
            unet.enable_group_offload(
                onload_device=self._device, offload_device=CPU, offload_type="leaf_level", use_stream=streams
            )
        else:
            unet.to(self._device)
        free_cache(self._device)

    def retire(self) -> None:
        """Let the weights go, whoever still refers to the pipeline; it cannot be used any more."""
        self.retired = True
        pipe = self._pipe
        for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
            for weight in (*part.parameters(), *part.buffers()):
                weight.data = weight.new_empty(0)
        free_cache(self._device)

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """While entered, the text encoders are on the device; with some plans the U-Net makes room."""
        if not self.takes_turns:
            yield
            return
        whole = self.name == "offload"
        if whole:
            self._pipe.unet.to(CPU)
        self._move_text(self._device)
        try:
            yield
        finally:
            self._move_text(CPU)
            if whole:
                free_cache(self._device)
                self._pipe.unet.to(self._device)

    def held(self) -> int:
        """Bytes of weights that are on the device now."""
        pipe = self._pipe
        parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
        weights = (weight for part in parts for weight in part.parameters())
        return sum(weight.nbytes for weight in weights if weight.device.type == self._device.type)

    def _move_text(self, device: torch.device) -> None:
        self._pipe.text_encoder.to(device)
        self._pipe.text_encoder_2.to(device)

    def _tiles(self, on: bool) -> None:
        vae = self._pipe.vae
        if on:
            tile(vae)
        else:
            vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size = self._tile


def _layout(name: str) -> str:
    """Plans of one layout have the weights in the same places."""
    return {"offload": "offload", "group-offload": "grouped", "fp8": "grouped"}.get(name, "resident")


def free_bytes(device: torch.device, held: int = 0) -> int | None:
    """Bytes on a device that this program can use, those that its model holds already (`held`) included.

    None where nobody knows.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused + held
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory() + held
    return psutil.virtual_memory().available + held if device.type == "cpu" else None


def host_bytes() -> int:
    """Bytes of the CPU's memory that are free."""
    return psutil.virtual_memory().available


def free_cache(device: torch.device) -> None:
    """Give back what nothing refers to any more, so that it is there for others."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a GPU or of the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in NO_MEMORY)
