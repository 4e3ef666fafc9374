"""Memory modes carried out: where the parts of a pipeline are, and how much memory is free."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import psutil
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from diffusers.hooks import HookRegistry

from consistory_svd.memory.plan import rank

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
TILE_SIDE = 512  # pixels; diffusers' default is the size that the model was trained for
# diffusers' names for the hooks of group offloading.
GROUP_HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading")
# Phrases in the messages of failed allocations for which torch has no class.
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate")


class Placement:
    """Moves a pipeline's parts. `mode` is the memory mode that is in effect; None before the first.

    Only fp8 cannot be undone: it rounds the weights of the U-Net.
    """

    def __init__(self, pipe: StableDiffusionXLPipeline, device: torch.device) -> None:
        self.mode: str | None = None
        self.retired = False
        self._pipe, self._device = pipe, device
        self._dtype = pipe.unet.dtype
        self._tile = (pipe.vae.use_tiling, pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size)

    @property
    def rounded(self) -> bool:
        """Whether the U-Net's weights are rounded to 8 bits."""
        return self.mode == "fp8"

    @property
    def takes_turns(self) -> bool:
        """Whether text encoders are on the device only while they are used."""
        return self.mode is not None and rank(self.mode) >= rank("offload")

    def apply(self, mode: str) -> None:
        """Move the parts to where the mode has them. After fp8 nothing changes any more."""
        if mode == self.mode or self.rounded:
            return
        before, self.mode = self.mode, mode
        self._set_tiling(rank(mode) >= rank("tiled"))
        if before is not None and _layout(before) == _layout(mode):
            return
        pipe, unet = self._pipe, self._pipe.unet
        if before == "group-offload":
            for hook in GROUP_HOOKS:
                HookRegistry.check_if_exists_or_initialize(unet).remove_hook(hook, recurse=True)
        pipe.vae.to(self._device)
        self._move_text(CPU if self.takes_turns else self._device)
        if mode == "fp8":
            unet.to(CPU)
            unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=self._dtype)
        if _layout(mode) == "grouped":
            unet.to(CPU)
            streams = self._device.type == "cuda"
            unet.enable_group_offload(
                onload_device=self._device, offload_device=CPU, offload_type="leaf_level", use_stream=streams
            )
        else:
            unet.to(self._device)
        free_cache(self._device)

    def retire(self) -> None:
        """Release the weights, even if something refers to the pipeline; it cannot be used any more."""
        self.retired = True
        pipe = self._pipe
        for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
            for weight in (*part.parameters(), *part.buffers()):
                weight.data = weight.new_empty(0)
        free_cache(self._device)

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """While entered, the text encoders are on the device; in mode offload the U-Net is not."""
        if not self.takes_turns:
            yield
            return
        whole = self.mode == "offload"
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
        """Bytes of weights on the device."""
        pipe = self._pipe
        parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
        weights = (weight for part in parts for weight in part.parameters())
        return sum(weight.nbytes for weight in weights if weight.device.type == self._device.type)

    def _move_text(self, device: torch.device) -> None:
        self._pipe.text_encoder.to(device)
        self._pipe.text_encoder_2.to(device)

    def _set_tiling(self, on: bool) -> None:
        vae = self._pipe.vae
        if on:
            enable_tiling(vae)
        else:
            vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size = self._tile


def _layout(mode: str) -> str:
    """Modes of one layout have the weights in the same places."""
    return {"offload": "offload", "group-offload": "grouped", "fp8": "grouped"}.get(mode, "resident")


def enable_tiling(vae: AutoencoderKL) -> None:
    """Make an autoencoder decode in overlapping tiles; images differ slightly where tiles meet."""
    vae.enable_tiling()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_sample_min_size = min(TILE_SIDE, vae.config.sample_size)
    vae.tile_latent_min_size = vae.tile_sample_min_size // factor


def free_bytes(device: torch.device, held: int = 0) -> int | None:
    """Bytes on a device that this program can use, including `held` bytes of its model; None if unknown."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused + held
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory() + held
    return psutil.virtual_memory().available + held if device.type == "cpu" else None


def host_bytes() -> int:
    """Bytes of free CPU memory."""
    return psutil.virtual_memory().available


def free_cache(device: torch.device) -> None:
    """Return unused memory to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that GPU or CPU memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in NO_MEMORY)
