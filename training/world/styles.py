"""The three styles, as filters on a finished picture (float arrays in 0..1, height x width x 3)."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

SIZE = 256


@cache
def _noise(scale: int, seed: int) -> np.ndarray:
    """Smooth noise around 0 with features `scale` pixels wide, 512 x 512, so that crops of it look
    unrelated."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(512 // scale, 512 // scale)).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((512, 512), Image.BICUBIC))
    return fine / fine.std()


def _crop(scale: int, seed: int, rng: np.random.Generator) -> np.ndarray:
    y, x = rng.integers(0, 512 - SIZE, 2)
    return _noise(scale, seed)[y : y + SIZE, x : x + SIZE]


def _edges(image: np.ndarray) -> np.ndarray:
    """Strength of brightness edges in 0..1."""
    gray = image @ np.float32([0.35, 0.4, 0.25])
    dx = np.abs(np.roll(gray, -1, 1) - gray)
    dy = np.abs(np.roll(gray, -1, 0) - gray)
    dx[:, -1], dy[-1] = 0, 0
    return np.clip((dx + dy) * 4.0, 0, 1)


def photo(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flat colours with soft light from one side and darker corners."""
    yy, xx = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / (SIZE - 1) - 0.5
    side = rng.uniform(-0.1, 0.1)
    light = 1.03 + side * xx - 0.06 * yy - 0.24 * np.clip(xx * xx + yy * yy - 0.16, 0, None)
    return image * light[..., None]


def watercolor(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wandering edges, pigment that pools and thins, paper that shines through."""
    ys, xs = np.mgrid[0:SIZE, 0:SIZE]
    dy, dx = 1.6 * _crop(16, 1, rng), 1.6 * _crop(16, 2, rng)
    ys, xs = np.clip(ys + dy, 0, SIZE - 1).astype(int), np.clip(xs + dx, 0, SIZE - 1).astype(int)
    image = image[ys, xs]
    wash = 1 + 0.085 * _crop(32, 3, rng) + 0.03 * _crop(8, 4, rng)
    paper = np.float32([0.985, 0.97, 0.93])
    thin = np.clip(0.2 + 0.06 * _crop(64, 5, rng), 0.06, 0.4)[..., None]
    image = image * (1 - thin) + paper * thin
    image = paper - (paper - image) * wash[..., None]
    return image * (1 - 0.22 * _edges(image))[..., None]


def pencil(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coloured pencil: dark contours, hatched, paler fills on white paper."""
    ys, xs = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    angle = rng.uniform(0.5, 1.0)
    hatch = 0.5 + 0.5 * np.sin((xs * np.sin(angle) + ys * np.cos(angle)) * 1.5 + 2.2 * _crop(32, 6, rng))
    cover = np.clip(0.56 + 0.2 * hatch + 0.05 * _crop(8, 7, rng), 0, 1)[..., None]
    paper = np.float32([0.985, 0.98, 0.965])
    drawn = image * cover + paper * (1 - cover)
    return drawn * (1 - 0.75 * _edges(image))[..., None]


STYLE_FILTERS = {"photo": photo, "watercolor": watercolor, "pencil": pencil}
