"""How much the backgrounds of a story's scenes leak into each other: two numbers of pictures and masks.

`confusion` knows what each scene should look like, from the renderer that drew the model's training pictures;
`likeness` only compares a story's backgrounds with each other. Neither looks at the subject: what its mask
covers is left out.
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
RENDERS = 40  # a scene's average picture is stable to a hundredth of the colours' range by then
# Masks come from attention a few pixels wide; what lies just beyond one may still be the subject.
MARGIN = 17

# A background: colours [cells, cells, 3] in 0..1, and how much of each cell is background, [cells, cells].
Background = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Seen(figures.GeneratedRow):
    """A told story, the group of the suite that it is of, and how far its backgrounds leak."""

    group: str
    confusion: float
    likeness: float


def background(image: Image.Image, mask: Image.Image | None) -> Background:
    """What lies outside of the subject's mask (white: the subject; None: nothing does)."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    outside = np.ones(pixels.shape[:2])
    if mask is not None:
        wide = mask.convert("L").resize(image.size).filter(ImageFilter.MaxFilter(MARGIN))
        outside = (np.asarray(wide) < 128).astype(np.float64)
    share = _cells(outside[..., None])
    colors = _cells(pixels * outside[..., None]) / np.maximum(share, 1e-9)
    return colors, share[..., 0]


def _cells(values: np.ndarray) -> np.ndarray:
    """Means over CELLS x CELLS cells of [height, width, channels]."""
    rows, columns = (np.arange(CELLS) * side // CELLS for side in values.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights = np.diff([*rows, values.shape[0]])
    widths = np.diff([*columns, values.shape[1]])
    return sums / (heights[:, None] * widths)[..., None]


def distance(one: Background, other: Background) -> float:
    """Root mean square difference of colours where both show background, in 0..1; 1 where nowhere both do."""
    weight = one[1] * other[1]
    if weight.sum() < 1e-6:
        return 1.0
    squares = ((one[0] - other[0]) ** 2).mean(-1)
    return float(np.sqrt((squares * weight).sum() / weight.sum()))


def scene_backgrounds(scenes: Sequence[str], style: str) -> dict[str, Background]:
    """The average background of each scene of the storybook world, of RENDERS renders of known masks."""
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


def confusion(shown: Sequence[Background], scenes: Sequence[str], known: dict[str, Background]) -> float:
    """How near a story's backgrounds are to those of its *other* scenes: d / (d + d'), mean over frames.

    d is a frame's distance to its own scene's average, d' that to the story's other scenes', averaged. 0:
    each frame shows its own scene alone; 0.5: it is no nearer to its own than to the others.
    """
    shares = []
    for frame, scene in zip(shown, scenes, strict=True):
        others = [distance(frame, known[other]) for other in scenes if other != scene]
        if others:
            own = distance(frame, known[scene])
            shares.append(own / (own + float(np.mean(others))))
    return float(np.mean(shares)) if shares else float("nan")


def likeness(shown: Sequence[Background]) -> float:
    """How alike a story's backgrounds are: 1 minus the mean distance over frame pairs; higher is worse."""
    pairs = list(combinations(shown, 2))
    return 1 - float(np.mean([distance(one, other) for one, other in pairs])) if pairs else float("nan")
