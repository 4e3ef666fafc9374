"""Pictures rendered ahead of training, in shards.

A shard is `images-0000.npy` (n, 256, 256, 3) uint8, `parts-0000.npy` (n, 128, 128) uint8 (the part of every
second pixel, a number of `world.brush.PARTS`) and `truth-0000.json` (what is in each picture).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.world import render_random
from training.world.brush import PARTS

SHARD = 1000
PARTS_SIDE = 128


def render_shard(folder: Path, index: int, count: int = SHARD) -> None:
    """Write shard `index` of `count` pictures, unless it is there; they depend on the index alone."""
    truth_file = folder / f"truth-{index:04d}.json"
    if truth_file.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([20262, index])
    images = np.empty((count, 256, 256, 3), np.uint8)
    parts = np.empty((count, PARTS_SIDE, PARTS_SIDE), np.uint8)
    truth = []
    for k in range(count):
        picture = render_random(rng)
        images[k], parts[k] = picture.image, picture.parts[::2, ::2]
        truth.append(picture.attributes)
    np.save(folder / f"images-{index:04d}.npy", images)
    np.save(folder / f"parts-{index:04d}.npy", parts)
    # The truth is written last: its presence says that the shard is whole.
    truth_file.write_text(json.dumps(truth))


def shards(folder: Path) -> list[int]:
    """The indices of the shards that are whole."""
    return sorted(int(p.stem.split("-")[1]) for p in folder.glob("truth-*.json"))


def load_images(folder: Path, index: int) -> np.ndarray:
    """The pictures of a shard, read from disk as they are needed."""
    return np.load(folder / f"images-{index:04d}.npy", mmap_mode="r")


def load_parts(folder: Path, index: int) -> np.ndarray:
    """The part maps of a shard, (n, 128, 128) uint8, read from disk as they are needed."""
    return np.load(folder / f"parts-{index:04d}.npy", mmap_mode="r")


def part_shares(parts: np.ndarray, side: int) -> np.ndarray:
    """How much of each cell every part covers, 255: all; (n, 128, 128) to uint8 (n, parts, side, side)."""
    n, size = len(parts), PARTS_SIDE // side
    cells = np.asarray(parts).reshape(n, side, size, side, size)
    shares = [(cells == number).mean((2, 4)) for number in range(len(PARTS))]
    return (np.stack(shares, 1) * 255).astype(np.uint8)


def load_truth(folder: Path, index: int) -> list[dict]:
    """What is in each picture of a shard; see `world.Picture.attributes`."""
    return json.loads((folder / f"truth-{index:04d}.json").read_text())
