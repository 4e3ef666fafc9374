"""Attention layers of a U-Net by name. A layer's place is read from its name, never from its position."""

import re
from dataclasses import dataclass
from typing import Literal

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import UNet2DConditionModel

from consistory_svd.errors import FieldError

MIN_MASK_TOKENS = 16  # per side
LAYER_NAME = re.compile(r"(down|mid|up)_blocks?(?:\.(\d+))?\..*\.attn([12])\.processor")


@dataclass(frozen=True)
class Layer:
    """An attention layer. At level n its tokens are the latent's pixels, each side divided by 2 ** n."""

    name: str
    part: Literal["down", "mid", "up"]
    level: int
    kind: Literal["self", "cross"]

    @property
    def module(self) -> str:
        """Name of the attention module in the U-Net."""
        return self.name.removesuffix(".processor")

    def grid(self, latent_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the layer's tokens for latents of the given height and width."""
        return grid_at(self.level, latent_size)


def grid_at(level: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the tokens at a level."""
    return latent_size[0] // 2**level, latent_size[1] // 2**level


def attention_layers(unet: UNet2DConditionModel) -> list[Layer]:
    """All self- and cross-attention layers of transformer blocks, named as in `unet.attn_processors`."""
    coarsest = len(unet.config.block_out_channels) - 1
    layers = []
    for name in unet.attn_processors:
        place = LAYER_NAME.fullmatch(name)
        if place:
            part, block, kind = place.groups()
            level = {"down": int(block or 0), "mid": coarsest, "up": coarsest - int(block or 0)}[part]
            layers.append(Layer(name, part, level, "self" if kind == "1" else "cross"))
    return layers


def mask_level(layers: list[Layer], sample_size: int | tuple[int, int]) -> int:
    """The level whose cross-attention the subject masks are read from (docs/method.md, section 3.1).

    A quarter of the latent's sides (SDXL, SD 1.5) if the U-Net has attention there and, at the latent
    size it was trained for, at least 16 tokens per side; otherwise its finest attention, because the subject
    of a small model would be a handful of tokens. FieldError for a U-Net without cross-attention.
    """
    levels = {layer.level for layer in layers if layer.kind == "cross"}
    if not levels:
        raise FieldError("model", "no cross-attention", "an SDXL model, whose U-Net has cross-attention")
    side = sample_size if isinstance(sample_size, int) else min(sample_size)
    return 2 if 2 in levels and side // 4 >= MIN_MASK_TOKENS else min(levels)


class AttentionLayout:
    """The layers that the method uses, and their grids, for latents of one size (height, width)."""

    def __init__(self, unet: UNet2DConditionModel, latent_size: tuple[int, int]) -> None:
        self.latent_size = latent_size
        layers = attention_layers(unet)
        level = mask_level(layers, unet.config.sample_size)
        self.mask_grid = grid_at(level, latent_size)
        self.finest_grid = grid_at(min(layer.level for layer in layers), latent_size)
        self.recording = [layer for layer in layers if layer.kind == "cross" and layer.level == level]
        self.extended = [layer for layer in layers if layer.kind == "self" and layer.part == "up"]
        # Features are injected at the finest grid that has attention.
        self.injected = [
            layer
            for layer in layers
            if layer.kind == "self" and layer.part != "mid" and layer.grid(latent_size) == self.finest_grid
        ]

    @property
    def extended_grids(self) -> list[tuple[int, int]]:
        """Grids of the extended layers, coarse to fine: the order in which mask dropout is drawn."""
        return sorted({layer.grid(self.latent_size) for layer in self.extended})


def feature_block(unet: UNet2DConditionModel) -> torch.nn.Module:
    """The up block whose output is matched between frames: DIFT's choice (Tang et al. 2023).

    It is the block that brings the tokens to half of the latent's sides: the first of SDXL's three, the
    second of SD 1.5's four. A U-Net of two levels has only its first.
    """
    return unet.up_blocks[max(0, len(unet.up_blocks) - 3)]
