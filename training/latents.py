"""Latents of the rendered pictures, made once and drawn from in random batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.captions import caption
from training.dataset import load_cover, load_images, load_truth, shards
from training.vae import Components, to_tensor


def encode_shard(components: Components, pictures: Path, latents: Path, index: int, batch: int = 50) -> None:
    """Latents of a shard, (n, 6, 32, 32) float16, unscaled."""
    target = latents / f"latents-{index:04d}.npy"
    if target.exists():
        return
    latents.mkdir(parents=True, exist_ok=True)
    images = load_images(pictures, index)
    parts = [
        components(to_tensor(images[k : k + batch])).half().numpy() for k in range(0, len(images), batch)
    ]
    part = target.with_suffix(".part.npy")
    np.save(part, np.concatenate(parts))
    part.rename(target)


# How often a picture is drawn, relative to others: a story asks for these more often than for what is hard.
OFTEN = {"action": ("standing", "sitting", "waving"), "pattern": ("plain",), "accessory": ("none",)}


@dataclass
class Latents:
    """Random batches of latents, subject coverage and captions out of the shards that are there."""

    pictures: Path
    folder: Path
    scale: float
    seed: int

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.latents: list[np.ndarray] = []
        self.cover: list[np.ndarray] = []
        self.truth: list[dict[str, str]] = []
        self.often = np.empty(0)
        self.known: set[int] = set()
        self.look()

    def look(self) -> None:
        """Take in shards that have come since."""
        for index in shards(self.pictures):
            path = self.folder / f"latents-{index:04d}.npy"
            if (
                index in self.known
                or not path.exists()
                or not (self.pictures / f"cover-{index:04d}.npy").exists()
            ):
                continue
            self.known.add(index)
            self.latents += list(np.load(path))
            self.cover += list(load_cover(self.pictures, index))
            self.truth += load_truth(self.pictures, index)
            weights = [2.0 ** sum(t[key] in some for key, some in OFTEN.items()) for t in self.truth]
            self.often = np.cumsum(weights)

    def batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Scaled latents (n, 6, 32, 32), coverage (n, 1, 16, 16) in 0..1, captions."""
        picks = np.searchsorted(self.often, self.rng.random(count) * self.often[-1], side="right")
        latents = torch.from_numpy(np.stack([self.latents[i] for i in picks])).float() * self.scale
        cover = torch.from_numpy(np.stack([self.cover[i] for i in picks])).float()[:, None] / 255
        return latents, cover, [caption(self.truth[i], self.rng) for i in picks]
