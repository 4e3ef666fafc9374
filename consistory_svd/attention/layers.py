"""Where a U-Net's attention layers are. A layer's place is read from its name, never from its position."""

import re
from dataclasses import dataclass
from typing import Literal

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import UNet2DConditionModel

FEWEST_MASK_TOKENS = 16  # a side
PLACE = re.compile(r"(down|mid|up)_blocks?(?:\.(\d+))?\..*\.attn([12])\.processor")


@dataclass(frozen=True)
class Layer:
    """An attention layer. At level n its tokens are the latent's pixels, each side divided by 2 ** n."""

    name: str
    part: Literal["down", "mid", "up"]
    level: int
    kind: Literal["self", "cross"]

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
        place = PLACE.fullmatch(name)
        if place:
            part, block, kind = place.groups()
            level = {"down": int(block or 0), "mid": coarsest, "up": coarsest - int(block or 0)}[part]
            layers.append(Layer(name, part, level, "self" if kind == "1" else "cross"))
    return layers


def mask_level(layers: list[Layer], sample_size: int | tuple[int, int]) -> int:
    """The level whose cross-attention the subject masks are read from.

    A quarter of the latent's sides (SDXL, SD 1.5) where the U-Net has attention there and, at the latent
    size that it was trained for, 16 tokens a side; else its finest attention: a subject of a small model
    would be a handful of tokens. Source: spec section 0, "resolutions". ValueError for a U-Net without
    cross-attention.
    """
    levels = {layer.level for layer in layers if layer.kind == "cross"}
    if not levels:
        raise ValueError(
            "model: its U-Net has no cross-attention, so it has no subject masks; give an SDXL model"
        )
    side = sample_size if isinstance(sample_size, int) else min(sample_size)
    return 2 if 2 in levels and side // 4 >= FEWEST_MASK_TOKENS else min(levels)


def feature_block(unet: UNet2DConditionModel) -> torch.nn.Module:
    """The up block whose output tells which places correspond: DIFT's choice (Tang et al. 2023).

    It is the one that brings the tokens to half of the latent's sides: the first of SDXL's three, the second
    of SD 1.5's four. A U-Net of two levels has only its first.
    """
    return unet.up_blocks[max(0, len(unet.up_blocks) - 3)]
