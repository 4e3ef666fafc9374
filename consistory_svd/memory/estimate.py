"""How much memory a story needs: weights and anchor cache exactly, activations from a measured table."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

from consistory_svd.attention import Schedule
from consistory_svd.attention.layers import AttentionLayout
from consistory_svd.memory.plan import MemoryNeed, Workload

TABLE = Path(__file__).with_name("table.json")  # written by benchmarks/memory_table.py


@dataclass(frozen=True)
class Activations:
    """Elements per latent pixel that a model's activations need at their peak.

    unet: a U-Net call, per frame and half, at its widest convolution. shared, anchor: the same at its widest
    shared attention, which needs `shared`, and `anchor` more for each anchor that shares all its tokens.
    decode: decoding of a frame. decode_tile: decoding in tiles, in elements, whatever the size.
    width: channels of the U-Net's first level. source: how the numbers were obtained.
    """

    unet: float
    shared: float
    anchor: float
    decode: float
    decode_tile: int
    width: int
    source: str


@cache
def activations() -> dict[str, Activations]:
    """The table, by model."""
    return {name: Activations(**row) for name, row in json.loads(TABLE.read_text(encoding="utf-8")).items()}


def estimate(pipe: StableDiffusionXLPipeline, dtype: torch.dtype, workload: Workload) -> MemoryNeed:
    """The memory that a workload needs with a model that computes in `dtype`.

    A U-Net that is not in the table is estimated by the next wider one, scaled by its width.
    """
    width = pipe.unet.config.block_out_channels[0]
    rows = sorted(activations().values(), key=lambda row: row.width)
    row = next((row for row in rows if row.width >= width), rows[-1])
    pixels = workload.latent[0] * workload.latent[1]
    elements = row.unet
    if workload.settings.sdsa:
        attended = 1 if workload.settings.random_anchors else workload.anchors
        elements = max(elements, row.shared + row.anchor * attended * _shared_fraction(workload))
    decode = row.decode * pixels * pipe.vae.dtype.itemsize
    return MemoryNeed(
        unet=_weights(pipe.unet),
        text=_weights(pipe.text_encoder) + _weights(pipe.text_encoder_2),
        vae=_weights(pipe.vae),
        call_frame=round(elements * width / row.width * pixels * workload.halves * dtype.itemsize),
        decode=round(decode),
        decode_tiled=round(min(decode, row.decode_tile * pipe.vae.dtype.itemsize)),
        anchor_cache=cache_bytes(pipe.unet, dtype, workload) if workload.fills_cache else 0,
        largest_layer=max(weight.nbytes for weight in pipe.unet.parameters()),
    )


def cache_bytes(unet: UNet2DConditionModel, dtype: torch.dtype, workload: Workload) -> int:
    """Bytes of the full anchor cache, if subjects fill their images; features for matching are left out."""
    settings, steps = workload.settings, workload.settings.steps
    layout = AttentionLayout(unet, workload.latent)
    schedule = Schedule.of([1000.0 * (1 - k / steps) for k in range(steps)], settings)

    def tokens(layer_grid: tuple[int, int], fraction: float) -> int:
        return max(1, round(layer_grid[0] * layer_grid[1] * fraction))

    total = 0
    if settings.sdsa:
        per_step = sum(
            tokens(layer.grid(workload.latent), _shared_fraction(workload))
            * unet.get_submodule(layer.module).to_k.in_features
            for layer in layout.extended
        )
        # Step 0 shares nothing; the first pass has entries of its own from the fork on.
        calls = steps - 1
        if schedule.injected:
            calls += max(0, schedule.first_pass_end - max(1, schedule.fork))
        total += workload.halves * calls * per_step
    channels = sum(unet.get_submodule(layer.module).to_out[0].out_features for layer in layout.injected)
    total += len(schedule.injected) * tokens(layout.finest_grid, 1) * channels
    return total * workload.anchors * dtype.itemsize


def _shared_fraction(workload: Workload) -> float:
    """The largest share of an anchor's tokens that is shared."""
    return 1 - workload.settings.mask_dropout if workload.settings.masking else 1


def _weights(module: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())
