"""Pictures rendered ahead of training, in shards.

A shard is `images-0000.npy` (n, 256, 256, 3) uint8, `cover-0000.npy` (n, 16, 16) uint8 (how much of each
cell of 16 x 16 pixels the subject covers, 255: all) and `truth-0000.json` (what is in each picture).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.world import render_random

SHARD = 1000


def render_shard(folder: Path, index: int, count: int = SHARD) -> None:
    """Write shard `index` of `count` pictures, unless it is there; they depend on the index alone."""
    truth_file = folder / f"truth-{index:04d}.json"
    if truth_file.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([20261, index])
    images, cover = np.empty((count, 256, 256, 3), np.uint8), np.empty((count, 16, 16), np.uint8)
    truth = []
    for k in range(count):
        picture = render_random(rng)
        images[k] = picture.image
        cover[k] = picture.mask.reshape(16, 16, 16, 16).mean((1, 3)) * 255
        truth.append(picture.attributes)
    np.save(folder / f"images-{index:04d}.npy", images)
    np.save(folder / f"cover-{index:04d}.npy", cover)
    # The truth is written last: its presence says that the shard is whole.
    truth_file.write_text(json.dumps(truth))


def shards(folder: Path) -> list[int]:
    """The indices of the shards that are whole."""
    return sorted(int(p.stem.split("-")[1]) for p in folder.glob("truth-*.json"))


def load_images(folder: Path, index: int) -> np.ndarray:
    """The pictures of a shard, read from disk as they are needed."""
    return np.load(folder / f"images-{index:04d}.npy", mmap_mode="r")


def load_cover(folder: Path, index: int) -> np.ndarray:
    return np.load(folder / f"cover-{index:04d}.npy")


def load_truth(folder: Path, index: int) -> list[dict[str, str]]:
    return json.loads((folder / f"truth-{index:04d}.json").read_text())
