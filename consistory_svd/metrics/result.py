"""The input and output of metrics, and the pairwise means that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

Better = Literal["higher", "lower"]
# The metric that summarises a story's consistency, and its prompt alignment: the first that is available.
CONSISTENCY = ("DreamSim (subject only)", "DreamSim", "Identity agreement by the storybook reader")
ALIGNMENT = ("CLIPScore", "Scaled CLIP-T", "Storybook CLIP alignment")
ONE_IMAGE = "it compares images, and there is only one"


@dataclass(frozen=True)
class Frames:
    """The images to score.

    Attributes:
        images: n images.
        prompts: n prompts.
        masks: n subject masks, white on the subject; None if unknown.
        storybook: whether the embedded storybook model generated them; only these can be scored by its
            attribute reader.

    Raises:
        ValueError: the numbers differ, or there are no images.
    """

    images: tuple[Image.Image, ...]
    prompts: tuple[str, ...]
    masks: tuple[Image.Image | None, ...] = ()
    storybook: bool = False

    def __post_init__(self) -> None:
        for name in ("images", "prompts", "masks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.images:
            raise ValueError("images: there are none; give at least one image")
        if len(self.prompts) != len(self.images):
            raise ValueError(f"prompts: {len(self.prompts)} for {len(self.images)} images; give one for each")
        if not self.masks:
            object.__setattr__(self, "masks", (None,) * len(self.images))
        if len(self.masks) != len(self.images):
            raise ValueError(f"masks: {len(self.masks)} for {len(self.images)} images; give one for each")


@dataclass(frozen=True)
class Result:
    """A score and how it was computed.

    Attributes:
        per_frame: a number for each image, or empty.
        matrix: a number for each pair of images, [n][n], or empty.
        table: a row for each attribute: its name, its class in each image, the share of pairs that agree.
        published: values of the literature by method, only if model and protocol are the same.
        source: where those values are from.
        unlike: how the literature's protocol differs, if it does.
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
    """A score that is not available: its name, why, and what to do.

    `fetch` names the weights to download if only these are missing: "dreamsim", "clip" or "dino".
    """

    name: str
    why: str
    remedy: str = ""
    fetch: str = ""

    def __str__(self) -> str:
        return " ".join(f"{self.name} unavailable: {self.why}. {self.remedy}".split())


class MetricUnavailable(Exception):
    """A metric cannot be computed: why, and what to do, as in `MissingScore`."""

    def __init__(self, why: str, remedy: str = "", fetch: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.fetch = fetch


class Score(Protocol):
    """A metric. Weights are loaded when they are first needed and released by `free`."""

    name: str

    def measure(self, frames: Frames) -> Sequence[Result | MissingScore]:
        """All scores of this metric. Raises MetricUnavailable if there are none."""

    def free(self) -> None:
        """Release the weights; the next `measure` loads them again."""


def cosine_matrix(embeddings: Tensor) -> Tensor:
    """Cosines of all pairs, [n, d] -> [n, n]: symmetric, with a diagonal of exactly 1."""
    unit = embeddings.double()
    unit = unit / unit.norm(dim=1, keepdim=True).clamp(min=1e-12)
    cosines = (unit @ unit.T).clamp(-1, 1)
    cosines = (cosines + cosines.T) / 2
    return cosines.fill_diagonal_(1.0)


def check_pairs(frames: Frames) -> None:
    """MetricUnavailable unless there are at least two images."""
    if len(frames.images) < 2:
        raise MetricUnavailable(ONE_IMAGE)


def mean_of_pairs(matrix: Tensor) -> float:
    """The mean of [n, n] over all pairs of different images, n at least 2."""
    count = len(matrix)
    return float((matrix.sum() - matrix.diagonal().sum()) / (count * (count - 1)))


def means_per_frame(matrix: Tensor) -> tuple[float, ...]:
    """The mean of each image's pairs with the others: [n, n] -> n numbers."""
    return tuple(((matrix.sum(1) - matrix.diagonal()) / (len(matrix) - 1)).tolist())


def rows(matrix: Tensor) -> tuple[tuple[float, ...], ...]:
    """A matrix as tuples of numbers."""
    return tuple(tuple(row) for row in matrix.tolist())
