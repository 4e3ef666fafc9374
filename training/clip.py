"""Train the storybook CLIP: how well does a picture of the storybook world fit a text?"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from consistory_svd.compat import cure_torchvision

import numpy as np
import torch
import torch.nn.functional as F

from training.captions import caption
from training.checkpoint import Average, Checkpoint, Schedule
from training.dataset import load_images, load_truth, shards
from training.parallel import average_gradients, rank
from training.precision import autocast, faster_in_bfloat16
from training.reader import corrupt
from training.text import MAX_TOKENS, tokenize
from training.unet import Length

cure_torchvision()

from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer  # noqa: E402

log = logging.getLogger(__name__)
SIDE = 128


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """CLIP (Radford et al. 2021) at tiny size: a vision transformer on 8 x 8 patches of 16 pixels."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "image_size": SIDE,
        "patch_size": 16,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


class Pairs:
    """Random batches of pictures and captions out of the rendered shards."""

    def __init__(self, folder: Path, seed: int, most: int = 16):
        self.rng = np.random.default_rng(seed)
        self.images, self.truth = [], []
        for index in shards(folder)[:most]:
            full = torch.from_numpy(np.array(load_images(folder, index))).permute(0, 3, 1, 2)
            self.images.append(F.avg_pool2d(full.float(), 2).round().byte())
            self.truth += load_truth(folder, index)
        self.images = torch.cat(self.images)

    def batch(self, count: int) -> tuple[torch.Tensor, list[str]]:
        picks = self.rng.integers(0, len(self.images), count)
        images = corrupt(self.images[torch.from_numpy(picks)].float() / 127.5 - 1, self.rng)
        return images, [caption(self.truth[i], self.rng) for i in picks]


def clip_loss(
    model: CLIPModel, tokenizer: CLIPTokenizer, data: Pairs, batch: int, reduced: bool
) -> tuple[torch.Tensor, float]:
    """The contrastive loss of a batch, and the share of captions whose picture is found."""
    images, texts = data.batch(batch)
    ids = tokenize(tokenizer, texts).to(model.device)
    with autocast(model.device.type, reduced):
        result = model(input_ids=ids, pixel_values=images.to(model.device))
    logits = result.logits_per_text.float()
    target = torch.arange(len(texts), device=model.device)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, (logits.argmax(1) == target).float().mean().item()


def train_clip(
    pictures: Path,
    tokenizer: CLIPTokenizer,
    out: Path,
    state: Path,
    length: Length,
    device: str = "cpu",
) -> CLIPModel:
    """Train by the contrastive loss, going on from `state` if it is there, and write model and processors to
    `out`. Each of several processes contrasts its own batch."""
    torch.manual_seed(0)
    model = build_clip(tokenizer).to(device)
    if device == "cpu":
        model.set_attn_implementation("eager")  # the fused attention's backward pass is slow on a CPU
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    average = Average(model.parameters(), 0.995)
    checkpoint = Checkpoint(state, model, [optimizer], [average])
    step = checkpoint.load()
    data = Pairs(pictures, seed=100 * step + rank() + 9)
    reduced = faster_in_bfloat16(
        lambda r: clip_loss(model, tokenizer, data, length.batch, r)[0].backward(), device
    )
    mark = time.monotonic()
    schedule = Schedule([optimizer], length.steps, length.seconds, first=step)
    while schedule.goes_on(step):
        loss, right = clip_loss(model, tokenizer, data, length.batch, reduced)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=float(np.log(100)))
        step += 1
        average.update(step)
        if step % 50 == 0 and rank() == 0:
            pace = (time.monotonic() - mark) / 50
            log.info("clip step %d loss %.3f right %.2f, %.2f s", step, loss.item(), right, pace)
            mark = time.monotonic()
        if step % 250 == 0:
            checkpoint.save(step)
    checkpoint.save(step)
    average.copy_to_model()
    if rank() > 0:
        return model
    model.cpu().save_pretrained(out)
    tokenizer.save_pretrained(out)
    processor = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size=SIDE, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor.save_pretrained(out)
    return model
