"""What goes into a score and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from consistory_svd.metrics.headline import Better


@dataclass(frozen=True)
class Frames:
    """What is scored: n pictures, their n prompts, and n masks (white: the subject; None: not known).

    `storybook` says that the embedded storybook model drew them: only of its world does its reader know
    anything. Raises ValueError, naming the field, where the numbers do not fit.
    """

    images: tuple[Image.Image, ...]
    prompts: tuple[str, ...]
    masks: tuple[Image.Image | None, ...] = ()
    storybook: bool = False

    def __post_init__(self) -> None:
        for name in ("images", "prompts", "masks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.images:
            raise ValueError("images: there are none; give at least one picture")
        if len(self.prompts) != len(self.images):
            raise ValueError(
                f"prompts: {len(self.prompts)} for {len(self.images)} pictures; give one for each"
            )
        if not self.masks:
            object.__setattr__(self, "masks", (None,) * len(self.images))
        if len(self.masks) != len(self.images):
            raise ValueError(f"masks: {len(self.masks)} for {len(self.images)} pictures; give one for each")


@dataclass(frozen=True)
class Result:
    """One number of a story and how it came about.

    `per_frame` has a number a frame, `matrix` one for each pair of frames [n][n]; both may be empty. `table`
    holds words: a row for each attribute, its name, what each frame shows, and the share of pairs that agree.
    `published` holds values of the literature by method, and only where model and protocol are theirs;
    `source` says whose. Where there are values of another protocol, `unlike` says what differs from it.
    """

    name: str
    value: float
    unit: str
    better: Better
    model: str
    protocol: str
    per_frame: tuple[float, ...] = ()
    matrix: tuple[tuple[float, ...], ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    unlike: str = ""


@dataclass(frozen=True)
class MissingScore:
    """A score that is not shown: its name, why, and how to get it.

    `fetch` is what brings it where only weights are missing: "dreamsim", "clip" or "dino".
    """

    name: str
    why: str
    remedy: str = ""
    fetch: str = ""

    def __str__(self) -> str:
        return " ".join(f"{self.name} is not shown: {self.why}. {self.remedy}".split())


class MetricUnavailable(Exception):
    """A score cannot be computed here: why, and how to get it, as `Absent` says them."""

    def __init__(self, why: str, remedy: str = "", fetch: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.fetch = fetch


class Score(Protocol):
    """Measures frames. Weights are loaded when they are first needed and go with `free`."""

    name: str

    def measure(self, frames: Frames) -> Sequence[Result | MissingScore]:
        """All numbers of this score. Raises Unavailable where there are none."""

    def free(self) -> None:
        """Let the weights go; the next `measure` loads them again."""


def cosine_matrix(embeddings: Tensor) -> Tensor:
    """Cosines of all pairs: [n, d] to [n, n], symmetric, and exactly one on the diagonal."""
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    cosines = (unit @ unit.T).clamp(-1, 1)
    cosines = (cosines + cosines.T) / 2
    return cosines.fill_diagonal_(1.0)


def check_pairs(frames: Frames) -> None:
    """Unavailable unless there are pairs of pictures."""
    if len(frames.images) < 2:
        raise MetricUnavailable("it compares pictures, and there is only one")


def mean_of_pairs(matrix: Tensor) -> float:
    """The mean over all pairs of different frames of [n, n], n at least 2."""
    count = len(matrix)
    return float((matrix.sum() - matrix.diagonal().sum()) / (count * (count - 1)))


def means_per_frame(matrix: Tensor) -> tuple[float, ...]:
    """For each frame the mean over its pairs with the others: [n, n] to n numbers."""
    return tuple(((matrix.sum(1) - matrix.diagonal()) / (len(matrix) - 1)).tolist())


def rows(matrix: Tensor) -> tuple[tuple[float, ...], ...]:
    """A matrix as plain numbers."""
    return tuple(tuple(row) for row in matrix.tolist())
