"""Write DreamSim, CLIP and DINO with random weights in the file layout and shapes of the published ones.

Their scores mean nothing; loading, speed and memory are those of the real networks.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from consistory_svd.downloads import MANIFEST
from consistory_svd.metrics.storybook import CLIP_FOLDER

BACKBONE = "clip_vitb32"
WIDTH, DEPTH, RANK = 768, 12, 16
Draw = Callable[..., Tensor]


def full_weights(generator: torch.Generator) -> Draw:
    """Draw every weight separately, in float32: as large on disk and in memory as the real ones."""
    return lambda *shape: torch.randn(shape, generator=generator) * 0.05


def shared_weights(generator: torch.Generator) -> Draw:
    """Return weights of any shape as views of one small tensor: the file has 5 MB instead of 350."""
    stock = (torch.randn(4 * WIDTH * WIDTH, generator=generator) * 0.05).half()
    return lambda *shape: stock[: math.prod(shape)].view(*shape)


def write_dreamsim(folder: Path, random: Draw, rank: int = RANK) -> None:
    """Write a DreamSim checkpoint of BACKBONE, with the layout of the published archive of dreamsim 0.2.1."""
    weights = {
        "proj": random(WIDTH, 512).float(),
        "cls_token": random(1, 1, WIDTH),
        "pos_embed": random(1, 50, WIDTH),
        "patch_embed.proj.weight": random(WIDTH, 3, 32, 32),
        "patch_embed.proj.bias": random(WIDTH),
    }
    for norm in ("norm", "pos_drop", *(f"blocks.{k}.norm{n}" for k in range(DEPTH) for n in (1, 2))):
        weights |= {f"{norm}.weight": 1 + random(WIDTH), f"{norm}.bias": random(WIDTH)}
    adapter = {}
    for k in range(DEPTH):
        sizes = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for name, (out, inner) in sizes.items():
            weights[f"blocks.{k}.{name}.weight"] = random(out * WIDTH, inner * WIDTH)
            weights[f"blocks.{k}.{name}.bias"] = random(out * WIDTH)
        layer = f"base_model.model.extractor_list.0.model.blocks.{k}.attn.qkv"
        adapter[f"{layer}.lora_A.weight"] = random(rank, WIDTH).float().clone()
        adapter[f"{layer}.lora_B.weight"] = random(3 * WIDTH, rank).float().clone()
    folder.mkdir(parents=True)
    torch.save({"state_dict": weights}, folder / f"{BACKBONE}_pretrain.pth.tar")
    lora = folder / f"{BACKBONE}_single_lora"
    lora.mkdir()
    config = {"r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0, "bias": "none"}
    config |= {"target_modules": ["qkv"], "peft_type": "LORA"}
    (lora / "adapter_config.json").write_text(json.dumps(config))
    save_file(adapter, lora / "adapter_model.safetensors")


def write_manifest(folder: Path) -> None:
    """Write the list of files and sizes that marks a downloaded folder as complete."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    (folder / MANIFEST).write_text(json.dumps(sizes))


def write_networks(clip: Path, dino: Path) -> None:
    """Write a CLIP of the size of OpenAI's ViT-B/32, with the storybook's tokenizer, and a DINO ViT-S/16."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPTokenizer,
        ViTConfig,
        ViTImageProcessorPil,
        ViTModel,
    )

    tokenizer = CLIPTokenizer.from_pretrained(CLIP_FOLDER)
    # CLIP takes a text's embedding at its end token: with a wrong id all texts would have the same embedding.
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    CLIPModel(CLIPConfig(text_config=special)).save_pretrained(clip)
    CLIPImageProcessorPil().save_pretrained(clip)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CLIP_FOLDER / name, clip / name)
    small = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
    ViTModel(small, add_pooling_layer=False).save_pretrained(dino)
    ViTImageProcessorPil().save_pretrained(dino)
