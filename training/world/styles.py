"""The three styles, as filters on a finished picture (float arrays in 0..1, height x width x 3).

None of them is random: grain that differs from picture to picture cannot be predicted, so a model that is
trained on it spends its capacity on an average of it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageFilter

SIZE = 256


@cache
def _wash() -> np.ndarray:
    """Smooth noise around 1, the same in every picture: where a wash is thicker or thinner."""
    coarse = np.random.default_rng(3).normal(size=(8, 8)).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.BICUBIC))
    return 1 + 0.09 * (fine / fine.std())[..., None]


@cache
def _light() -> np.ndarray:
    """Darker corners."""
    yy, xx = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / (SIZE - 1) - 0.5
    return (1.02 - 0.22 * np.clip(xx * xx + yy * yy - 0.16, 0, None))[..., None]


def _filtered(image: np.ndarray, *filters: ImageFilter.Filter) -> np.ndarray:
    whole = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    for one in filters:
        whole = whole.filter(one)
    return np.asarray(whole).astype(np.float32) / 255


def _edges(image: np.ndarray) -> np.ndarray:
    """Strength of brightness edges in 0..1."""
    gray = image @ np.float32([0.35, 0.4, 0.25])
    dx = np.abs(np.roll(gray, -1, 1) - gray)
    dy = np.abs(np.roll(gray, -1, 0) - gray)
    dx[:, -1], dy[-1] = 0, 0
    return np.clip((dx + dy) * 3.0, 0, 1)


def photo(image: np.ndarray) -> np.ndarray:
    """Full colours with darker corners."""
    return image * _light()


def watercolor(image: np.ndarray) -> np.ndarray:
    """Thin, soft outlines and pale washes of uneven thickness on cream paper."""
    paper = np.float32([0.99, 0.965, 0.9])
    soft = _filtered(image, ImageFilter.MaxFilter(3), ImageFilter.GaussianBlur(0.7))
    image = (0.25 * image + 0.75 * soft) * 0.78 + paper * 0.22
    return paper - (paper - image) * _wash()


def pencil(image: np.ndarray) -> np.ndarray:
    """Dark contours and pale fills on white paper."""
    paper = np.float32([0.985, 0.98, 0.965])
    drawn = image * 0.58 + paper * 0.42
    return drawn * (1 - 0.7 * _edges(image))[..., None]


STYLE_FILTERS = {"photo": photo, "watercolor": watercolor, "pencil": pencil}
