"""One attention layer with recorded inputs and outputs."""

import types
from pathlib import Path

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from safetensors.torch import load_file

from consistory_svd.attention import AnchorCache
from consistory_svd.attention.layers import Layer
from consistory_svd.attention.processors import SharedSelfAttention
from consistory_svd.attention.query_blending import QueryBlending
from consistory_svd.attention.svd_filter_log import AnchorFilter
from consistory_svd.settings import SVDFilter

DATA = Path(__file__).parent / "data"


class GivenMasks:
    """The state that an extended layer reads, with masks and groups given by a test."""

    layout = types.SimpleNamespace(latent_size=(32, 32))
    halves, step = 2, 1
    first_pass = injects = False
    anchor_filter = AnchorFilter(SVDFilter(), SVDFilter())

    def __init__(self, frames: int, kept: list, groups: list, read_cache: AnchorCache | None = None) -> None:
        self.frames, self.read_cache = frames, read_cache
        self.masks = types.SimpleNamespace(anchor_tokens=lambda grid: kept if grid == (8, 8) else None)
        self.groups = lambda: groups
        self.write_cache = AnchorCache()
        self.queries = QueryBlending([1.0, 0.81836735])
        self.extends = True


def load_recorded_layer() -> Attention:
    """Load the attention layer whose outputs were recorded."""
    attention = Attention(query_dim=64, heads=4, dim_head=16, processor=AttnProcessor2_0())
    attention.load_state_dict(load_file(DATA / "unit_attention_weights.safetensors"))
    return attention.eval()


UP_LAYER = Layer("up_blocks.0.attentions.0.transformer_blocks.0.attn1.processor", "up", 2, "self")


def run_layer(layer: Attention, given: GivenMasks, tokens: torch.Tensor) -> torch.Tensor:
    layer.set_processor(SharedSelfAttention(given, UP_LAYER))
    with torch.no_grad():
        return layer(tokens)
