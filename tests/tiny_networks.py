"""Tiny networks of metrics, saved to disk, and images to score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from consistory_svd.metrics.result import Frames, Result
from tests.tiny_models import make_tokenizer

# isort: split
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WHO, PLACES = ("cat", "robot", "owl"), ("kitchen", "beach", "snow")
PROMPTS = ("a cat in the forest", "a fox on the beach", "a cat in the snow")


def save_clip(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = SMALL | special | {"vocab_size": len(tokenizer), "initializer_range": 0.5}
    vision = SMALL | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)


def save_dino(folder: Path) -> None:
    torch.manual_seed(0)
    config = ViTConfig(**SMALL, image_size=32, patch_size=8)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(pixels).resize((48, 40), Image.NEAREST)


def half_mask() -> Image.Image:
    return Image.fromarray(np.pad(np.full((20, 24), 255, np.uint8), ((10, 10), (12, 12))))


def frames(count: int = 3, **changes: object) -> Frames:
    return replace(Frames([picture(k) for k in range(count)], PROMPTS[:count]), **changes)


def by_name(entries) -> dict[str, Result]:
    return {entry.name: entry for entry in entries if isinstance(entry, Result)}


def model_cosines(folder: Path, pictures, texts) -> np.ndarray:
    """Cosines [pictures, texts] out of the model's own forward pass, by hand."""
    processor, tokenizer = CLIPImageProcessorPil.from_pretrained(folder), make_tokenizer()
    pixels = processor(list(pictures), return_tensors="pt").pixel_values
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.inference_mode():
            out = CLIPModel.from_pretrained(folder).eval()(input_ids=ids, pixel_values=pixels)
        rows.append((out.image_embeds @ out.text_embeds.T)[:, 0].numpy())
    return np.stack(rows, 1)


def number(name: str, value: float) -> Result:
    return Result(name, value, "", "higher", "m", "p")
