"""LoRA files with random weights."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from consistory_svd import Model


def write_lora(path: Path, model: Model, seed: int = 0, width: int | None = None) -> Path:
    """A LoRA of rank 2 on the queries and values of all self-attention; `width` is that of another model."""
    drawn = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in model.pipe.unet.named_modules():
        if name.endswith(("attn1.to_q", "attn1.to_v")):
            out, inner = module.weight.shape
            weights[f"unet.{name}.lora_A.weight"] = torch.randn(2, width or inner, generator=drawn)
            weights[f"unet.{name}.lora_B.weight"] = torch.randn(out, 2, generator=drawn)
    save_file(weights, path)
    return path
