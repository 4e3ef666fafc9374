"""Renders that the U-Net has denoised: what the decoder and the reader meet when the model is used."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.captions import caption
from training.dataset import load_truth
from training.model import TextToNoise, build_scheduler
from training.text import tokenize
from training.vae import to_images

LEVELS = (80, 520)  # noise to start from: the layout stays, the details are the U-Net's
GUIDANCES = (1.0, 4.0)
STEPS = 5


@dataclass
class Denoiser:
    """Denoises latents under their captions by a few steps of DDIM (Song et al. 2021).

    model: the U-Net and its text encoders; scale: the latents' scaling factor.
    """

    model: TextToNoise
    tokenizer: object
    scale: float

    @torch.no_grad()
    def __call__(self, latents: Tensor, texts: list[str], level: int, guidance: float, generator) -> Tensor:
        """Unscaled latents (n, c, h, w), with noise of timestep `level` added and taken away again."""
        device = next(self.model.parameters()).device
        alphas = build_scheduler().alphas_cumprod.to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        ids = tokenize(self.tokenizer, texts).to(device)
        steps = torch.linspace(level, 0, STEPS + 1).long().tolist()
        alpha, sigma = alphas[level].sqrt(), (1 - alphas[level]).sqrt()
        x = alpha * latents.to(device) * self.scale + sigma * noise
        for step, following in itertools.pairwise(steps):
            velocity = self._velocity(x, step, ids, guidance)
            alpha, sigma = alphas[step].sqrt(), (1 - alphas[step]).sqrt()
            clean, noise = alpha * x - sigma * velocity, sigma * x + alpha * velocity
            last = following == 0
            x = clean if last else alphas[following].sqrt() * clean + (1 - alphas[following]).sqrt() * noise
        return x / self.scale

    def _velocity(self, x: Tensor, step: int, ids: Tensor, guidance: float) -> Tensor:
        count = len(x)
        steps = torch.full((count,), step, device=x.device)
        keep = torch.ones(count, device=x.device)
        given = self.model(x, steps, ids, keep)[0].float()
        if guidance == 1:
            return given
        free = self.model(x, steps, ids, 0 * keep)[0].float()
        return free + guidance * (given - free)


def denoise_shard(
    denoiser: Denoiser, pictures: Path, latents: Path, out: Path, index: int, count: int
) -> None:
    """Write the latents of the first `count` pictures of a shard, denoised, (count, c, 16, 16) float16."""
    target = out / f"latents-{index:04d}.npy"
    if target.exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    clean = torch.from_numpy(np.array(np.load(latents / target.name, mmap_mode="r")[:count, 0])).float()
    truth = load_truth(pictures, index)[:count]
    generator, rng = torch.Generator().manual_seed(index), np.random.default_rng(index)
    rows = []
    for k in range(0, len(clean), 10):
        texts = [caption(one, rng) for one in truth[k : k + 10]]
        level, guidance = int(rng.integers(*LEVELS)), float(rng.choice(GUIDANCES))
        rows.append(denoiser(clean[k : k + 10], texts, level, guidance, generator).half().cpu().numpy())
    part = target.with_suffix(".part.npy")
    np.save(part, np.concatenate(rows))
    part.rename(target)


@torch.no_grad()
def decode_shard(vae, pictures: Path, denoised: Path, index: int) -> None:
    """Decode the denoised latents of a shard to pictures in the same folder, with their truth beside."""
    latents = torch.from_numpy(np.load(denoised / f"latents-{index:04d}.npy")).float()
    device = next(vae.parameters()).device
    images = [
        to_images(vae.decode(latents[k : k + 10].to(device)).sample) for k in range(0, len(latents), 10)
    ]
    np.save(denoised / f"images-{index:04d}.npy", np.concatenate(images))
    truth = load_truth(pictures, index)[: len(latents)]
    (denoised / f"truth-{index:04d}.json").write_text(json.dumps(truth))
