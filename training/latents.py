"""Latents of the rendered pictures, made once and drawn from in random batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.captions import caption
from training.dataset import load_images, load_parts, load_truth, part_shares, shards
from training.vae import LATENT_SIDE, Components, to_tensor


def encode_shard(components: Components, pictures: Path, latents: Path, index: int, batch: int = 50) -> None:
    """Latents of a shard and of its mirror images, (n, 2, channels, 16, 16) float16, unscaled, and what every
    part covers of each cell, (n, parts, 16, 16) uint8."""
    target = latents / f"latents-{index:04d}.npy"
    if target.exists():
        return
    latents.mkdir(parents=True, exist_ok=True)
    np.save(latents / f"shares-{index:04d}.npy", part_shares(load_parts(pictures, index), LATENT_SIDE))
    images = load_images(pictures, index)
    rows = []
    for k in range(0, len(images), batch):
        some = to_tensor(images[k : k + batch])
        rows.append(torch.stack([components(some), components(some.flip(3))], 1).half().numpy())
    part = target.with_suffix(".part.npy")
    np.save(part, np.concatenate(rows))
    part.rename(target)


def encoded(latents: Path) -> list[int]:
    """The indices of the shards whose latents are there."""
    return sorted(int(p.stem.split("-")[1]) for p in latents.glob("latents-????.npy"))


@dataclass
class Latents:
    """Random batches of latents, parts and captions out of the shards that are there.

    With `held_out` only of the first one, which is otherwise left out unless it is the only one.
    """

    pictures: Path
    folder: Path
    scale: float
    seed: int
    held_out: bool = False

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.latents: list[np.ndarray] = []  # one a picture, read from disk as they are needed
        self.shares: list[np.ndarray] = []
        self.truth: list[dict] = []
        self.known: set[int] = set()
        self.look()

    def look(self) -> None:
        """Take in shards that have come since."""
        first, *others = [index for index in encoded(self.folder) if index in shards(self.pictures)]
        for index in [first] if self.held_out or not others else others:
            if index in self.known:
                continue
            self.known.add(index)
            self.latents += list(np.load(self.folder / f"latents-{index:04d}.npy", mmap_mode="r"))
            self.shares += list(np.load(self.folder / f"shares-{index:04d}.npy", mmap_mode="r"))
            self.truth += load_truth(self.pictures, index)

    def batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Scaled latents (n, channels, 16, 16), parts (n, parts, 16, 16) in 0..1, captions. Half of the
        pictures are mirrored, but for sleepers, whose Zs must not be."""
        picks = self.rng.integers(0, len(self.latents), count)
        mirrored = self.rng.random(count) < 0.5
        mirrored &= np.array([self.truth[i]["action"] != "sleeping" for i in picks])
        latents = np.stack([self.latents[i][int(m)] for i, m in zip(picks, mirrored, strict=True)])
        shares = [
            self.shares[i][:, :, ::-1] if m else self.shares[i] for i, m in zip(picks, mirrored, strict=True)
        ]
        return (
            torch.from_numpy(latents).float() * self.scale,
            torch.from_numpy(np.stack(shares)).float() / 255,
            [caption(self.truth[i], self.rng) for i in picks],
        )
