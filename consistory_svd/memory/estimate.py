"""What a story needs: bytes of weights, of a call of the U-Net, of decoding, of the anchors' bank.

Nothing is guessed from parameter counts: the model's own configuration is built on the meta device and the
method's own processors run on it, so that shapes, and bytes with them, are those of the real call.
"""

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor

from consistory_svd.attention import AnchorCache, Schedule, SharingState, find_concept_spans, sharing
from consistory_svd.attention.processors import SharedSelfAttention
from consistory_svd.memory.trace import FusedAttention, Tracer
from consistory_svd.settings import Settings

TILE_SIDE = 512  # pixels; diffusers' own tile is the picture that the model was trained for
PROMPT_TOKENS = 77


@dataclass(frozen=True)
class Job:
    """A story as far as memory and time go. `latent` is (height, width) of the latents; `settings.batch`
    frames are drawn together after the anchors, which are drawn together themselves."""

    latent: tuple[int, int]
    frames: int
    settings: Settings
    halves: int = 2

    @property
    def anchors(self) -> int:
        """Frames of the first wave; 0 where nothing is shared."""
        if not self.settings.shares:
            return 0
        return self.frames if self.settings.random_anchors else min(self.settings.anchors, self.frames)

    @property
    def fills_cache(self) -> bool:
        """Whether anchors are kept for later frames."""
        return 0 < self.anchors < self.frames


@dataclass(frozen=True)
class Footprint:
    """Bytes that a story needs, by what needs them, and floating point operations.

    unet, text, vae: weights. call_frame: a call of the U-Net, beside its weights, a frame. decode and
    decode_tiled: of one frame. bank: all that anchors lend, their subjects taken to fill their pictures.
    largest_layer: the largest weight of the U-Net. call_operations: of a call, a frame.
    """

    unet: int
    text: int
    vae: int
    call_frame: int
    decode: int
    decode_tiled: int
    anchor_cache: int
    largest_layer: int
    call_operations: int
    decode_operations: int

    def call(self, frames: int) -> int:
        """Bytes of a call of the U-Net for so many frames, beside its weights."""
        return frames * self.call_frame


def footprint(pipe: StableDiffusionXLPipeline, dtype: torch.dtype, job: Job) -> Footprint:
    """What a job needs with a model that computes in `dtype`; weights are counted as they are loaded."""
    unet_config, vae_config = (json.dumps(dict(part.config), default=str) for part in (pipe.unet, pipe.vae))
    call_frame, cache_step, call_operations = _traced_calls(unet_config, dtype, _shaping(job))
    decode, decode_operations = _traced_decode(vae_config, pipe.vae.dtype, job.latent, tiled=False)
    tiled, _ = _traced_decode(vae_config, pipe.vae.dtype, job.latent, tiled=True)
    return Footprint(
        unet=_bytes(pipe.unet),
        text=_bytes(pipe.text_encoder) + _bytes(pipe.text_encoder_2),
        vae=_bytes(pipe.vae),
        call_frame=call_frame,
        decode=decode,
        decode_tiled=min(decode, tiled),
        anchor_cache=_whole_cache(unet_config, dtype, job, cache_step) if job.fills_cache else 0,
        largest_layer=max(weight.nbytes for weight in pipe.unet.parameters()),
        call_operations=call_operations,
        decode_operations=decode_operations,
    )


def _shaping(job: Job) -> Job:
    """The job with only what shapes a call: steps, prompts and seeds do not, and need not be traced again."""
    generated = job.settings
    names = ("sdsa", "masking", "mask_dropout", "query_blending", "injection")
    same = {name: getattr(generated, name) for name in names}
    settings = Settings(
        steps=10, guidance=2.0 if job.halves == 2 else 1.0, batch=1, anchors=generated.anchors, **same
    )
    return replace(
        job, settings=settings, frames=job.anchors if generated.random_anchors else 1 + job.anchors
    )


def _bytes(module: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())


class _Expected(SharingState):
    """A state whose masks are unknown: anchors lend as many tokens as they may, all but the dropped share."""

    def expect(self) -> None:
        """Be at the second step, the first that is shared, with the masks of the first."""
        self._kept = {grid: self._draw(grid) for grid in self._grids}

    def _draw(self, grid: tuple[int, int]) -> dict[int, Tensor | None]:
        if not self._settings.masking:
            return dict.fromkeys(self._anchors)
        kept = max(1, round(grid[0] * grid[1] * (1 - self._settings.mask_dropout)))
        return {anchor: torch.empty(kept, dtype=torch.long, device="meta") for anchor in self._anchors}


@lru_cache(maxsize=2)
def _unet(config: str, dtype: torch.dtype) -> UNet2DConditionModel:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(json.loads(config))
    return torch.nn.Module.to(
        unet, dtype
    ).eval()  # diffusers' own warns of what must stay in float32: nothing


@lru_cache(maxsize=64)
def _traced_calls(config: str, dtype: torch.dtype, job: Job) -> tuple[int, int, int]:
    """Bytes of a U-Net call a frame, bytes of a step's bank, operations of a call a frame."""
    unet = _unet(config, dtype)
    if not job.settings.shares:
        peak, operations = _traced(unet, job, 1, None)
        return peak, 0, operations
    anchor_cache = AnchorCache()
    anchors, _ = _traced(
        unet, job, job.anchors, _state(unet, job, job.anchors, anchors=True, write_cache=anchor_cache)
    )
    peak, operations = _traced(unet, job, 1, _state(unet, job, 1, anchors=False, read_cache=anchor_cache))
    return max(peak, anchors // job.anchors), anchor_cache.size, operations


def _state(
    unet: UNet2DConditionModel, job: Job, frames: int, anchors: bool, **anchor_caches: AnchorCache
) -> _Expected:
    schedule = Schedule.of(
        [1000.0 - k for k in range(job.settings.steps)], replace(job.settings, injection=False)
    )
    prompt = [0, *range(2, 2 + 4), 1]
    return _Expected(
        unet,
        job.latent,
        find_concept_spans([prompt] * frames, [[3]]),
        replace(job.settings, random_anchors=False),
        range(frames),
        anchors=frames if anchors else 0,
        schedule=schedule,
        **anchor_caches,
    )


@torch.no_grad()
def _traced(unet: UNet2DConditionModel, job: Job, frames: int, state: SharingState | None) -> tuple[int, int]:
    """Peak bytes and operations of the second step, the first that is shared; operations are a frame's."""
    config, items = unet.config, frames * job.halves
    text = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    with Tracer() as tracer, FusedAttention(tracer), nullcontext() if state is None else sharing(unet, state):

        def new(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=unet.dtype, device="meta")

        def call() -> Tensor:
            return unet(
                new(items, config.in_channels, *job.latent),
                new(1),
                encoder_hidden_states=new(items, PROMPT_TOKENS, config.cross_attention_dim),
                added_cond_kwargs={"text_embeds": new(items, text), "time_ids": new(items, 6)},
                return_dict=False,
            )[0]

        for weight in unet.parameters():
            tracer.hold(weight)
        kept = None if state is None else state.write_cache
        if state is not None:
            state.expect()
        tracer.begin()
        if state is not None and state.begin_step(1):
            with state.keeping_queries():
                call()
        tracer.operations = 0  # of the main call alone
        call()
        # What the bank keeps is counted for itself.
        return max(0, tracer.bytes - (0 if kept is None else kept.size)), tracer.operations // frames


@lru_cache(maxsize=64)
def _whole_cache(config: str, dtype: torch.dtype, job: Job, step: int) -> int:
    """Bytes of the bank after all steps, from those of one: the first step lends nothing."""
    unet = _unet(config, dtype)
    steps = job.settings.steps
    schedule = Schedule.of([1000.0 * (1 - k / steps) for k in range(steps)], job.settings)
    total = step * (steps - 1)
    if schedule.injected:
        # The first pass keeps its own from the fork on; what subjects inject is kept a layer and step.
        total += step * max(0, schedule.first_pass_end - max(1, schedule.fork))
        state = _state(unet, job, job.anchors, anchors=True)
        state.schedule = schedule
        pixels = state.finest_grid[0] * state.finest_grid[1]
        for name, processor in state.processors().items():
            if isinstance(processor, SharedSelfAttention) and processor.injected:
                channels = unet.get_submodule(name.removesuffix(".processor")).to_out[0].out_features
                total += len(schedule.injected) * job.anchors * pixels * channels * unet.dtype.itemsize
    return total


@lru_cache(maxsize=16)
@torch.no_grad()
def _traced_decode(config: str, dtype: torch.dtype, latent: tuple[int, int], tiled: bool) -> tuple[int, int]:
    """Peak bytes and operations of decoding a frame."""
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(json.loads(config))
    torch.nn.Module.to(vae, dtype).eval()
    if tiled:
        tile(vae)
    with Tracer() as tracer, FusedAttention(tracer):
        tracer.begin()
        vae.decode(torch.empty(1, vae.config.latent_channels, *latent, dtype=dtype, device="meta"))
        return tracer.bytes, tracer.operations


def tile(vae: AutoencoderKL) -> None:
    """Have an autoencoder decode in overlapping tiles; pictures differ a little where tiles meet."""
    vae.enable_tiling()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_sample_min_size = min(TILE_SIDE, vae.config.sample_size)
    vae.tile_latent_min_size = vae.tile_sample_min_size // factor
