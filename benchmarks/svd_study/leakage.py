"""Measure how far the backgrounds of a story's scenes leak into each other, from images and masks.

`confusion` knows what each scene should look like, from the renderer of the model's training images.
`likeness` only compares a story's backgrounds with each other. Both leave out the pixels of the subject's
mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from PIL import Image, ImageFilter

from benchmarks import figures
from training.world import render
from training.world.vocabulary import SUBJECTS

CELLS = 16  # a side: coarse enough for hills to move, fine enough for sky and ground to differ
RENDERS = 40  # enough for a scene's average to be stable to a hundredth of the colours' range
# In pixels. Masks come from a coarse attention grid; pixels just outside may still be the subject.
MARGIN = 17

# Colours [cells, cells, 3] in 0..1, and the fraction of each cell that is background [cells, cells].
Background = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class MeasuredStory(figures.GeneratedRow):
    """A generated story with its group in the suite and how far its backgrounds leak."""

    group: str
    confusion: float
    likeness: float


def background(image: Image.Image, mask: Image.Image | None) -> Background:
    """Return the background of an image: all that is outside the mask (white: subject; None: no subject)."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    outside = np.ones(pixels.shape[:2])
    if mask is not None:
        wide = mask.convert("L").resize(image.size).filter(ImageFilter.MaxFilter(MARGIN))
        outside = (np.asarray(wide) < 128).astype(np.float64)
    share = _cells(outside[..., None])
    colors = _cells(pixels * outside[..., None]) / np.maximum(share, 1e-9)
    return colors, share[..., 0]


def _cells(values: np.ndarray) -> np.ndarray:
    """Average [height, width, channels] over CELLS x CELLS cells."""
    rows, columns = (np.arange(CELLS) * side // CELLS for side in values.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights = np.diff([*rows, values.shape[0]])
    widths = np.diff([*columns, values.shape[1]])
    return sums / (heights[:, None] * widths)[..., None]


def distance(one: Background, other: Background) -> float:
    """Return the root mean square colour difference of the backgrounds, in 0..1; 1 without overlap."""
    weight = one[1] * other[1]
    if weight.sum() < 1e-6:
        return 1.0
    squares = ((one[0] - other[0]) ** 2).mean(-1)
    return float(np.sqrt((squares * weight).sum() / weight.sum()))


def scene_backgrounds(scenes: Sequence[str], style: str) -> dict[str, Background]:
    """Return the average background of each scene, over RENDERS renders with known masks."""
    found = {}
    for scene in scenes:
        rng = np.random.default_rng([2026, *scene.encode()])
        drawn = [render(SUBJECTS[i % len(SUBJECTS)], scene, "standing", style, rng) for i in range(RENDERS)]
        each = [
            background(Image.fromarray(p.image), Image.fromarray(p.mask.astype(np.uint8) * 255))
            for p in drawn
        ]
        share = sum(one[1] for one in each)
        colors = sum(one[0] * one[1][..., None] for one in each) / np.maximum(share, 1e-9)[..., None]
        found[scene] = colors, share / RENDERS
    return found


def confusion(
    backgrounds: Sequence[Background], scenes: Sequence[str], known: dict[str, Background]
) -> float:
    """Return how near a story's backgrounds are to those of its *other* scenes: mean d / (d + d').

    d is a frame's distance to the average of its own scene, d' its mean distance to those of the story's
    other scenes. 0: every frame shows its own scene; 0.5: no nearer to its own than to the others. NaN for
    a story of one scene.
    """
    shares = []
    for frame, scene in zip(backgrounds, scenes, strict=True):
        others = [distance(frame, known[other]) for other in scenes if other != scene]
        if others:
            own = distance(frame, known[scene])
            shares.append(own / (own + float(np.mean(others))))
    return float(np.mean(shares)) if shares else float("nan")


def likeness(backgrounds: Sequence[Background]) -> float:
    """Return how alike a story's backgrounds are: 1 minus their mean distance. Lower is better."""
    pairs = list(combinations(backgrounds, 2))
    return 1 - float(np.mean([distance(one, other) for one, other in pairs])) if pairs else float("nan")
