"""Feature injection: pixels of the subject matched between frames by DIFT features, and features blended.

DIFT features (Tang et al. 2023) are the output of an up block at timestep 261. Donors are the pixels of all
subjects that a frame may take from, in one row: the nearest donor of the row is the nearest match in the
nearest frame, ties included, so that no map per pair of frames is needed.
Source: Tewel et al. 2024, section 3.4; docs/method.md, section 5.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from consistory_svd.attention.subject_masks import otsu_threshold

STRENGTH = 0.8  # weight of the donor in the blend
SIGMA = 1.0
CHUNK = 2**26  # distances held at a time


def smooth(features: Tensor) -> Tensor:
    """Smooth each channel by a 3 x 3 Gaussian of sigma 1, zero-padded: float32 [frames, channels, h, w]."""
    features = features.float()
    line = torch.exp(-torch.tensor([1.0, 0.0, 1.0], device=features.device) / (2 * SIGMA**2))
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum()).expand(features.shape[1], 1, 3, 3)
    return functional.conv2d(features, kernel, padding=1, groups=features.shape[1])


def directions(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Unit vectors at the pixels of a grid: [frames, channels, h, w] -> [frames, pixels, channels]."""
    if tuple(features.shape[-2:]) != grid:
        features = functional.interpolate(features, size=grid, mode="bilinear", align_corners=False)
    return functional.normalize(features.flatten(2).transpose(1, 2), dim=-1)


def nearest(targets: Tensor, donors: Tensor) -> tuple[Tensor, Tensor]:
    """For each target the cosine distance to its nearest donor and that donor's index, the first on ties.

    targets: unit vectors [n, channels]; donors: [m, channels], m > 0. Returns float32 [n] and int64 [n].
    """
    rows = max(1, CHUNK // len(donors))
    found = [(1 - part @ donors.T).min(-1) for part in targets.split(rows)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


@dataclass(frozen=True)
class Matches:
    """Matched pixels of a frame: `targets` [n] are its own pixels, `sources` [n] indices of donors."""

    targets: Tensor
    sources: Tensor


def match(targets: Tensor, mask: Tensor, donors: Tensor) -> Matches | None:
    """The close matches of one frame; None if there is no donor.

    targets: the frame's unit vectors [pixels, channels]; mask: its subject, bool [pixels]; donors: unit
    vectors [m, channels]. Matched are pixels of the subject whose distance is below Otsu's threshold of the
    distances of all the frame's pixels. Source: docs/method.md, section 5.2.
    """
    if not len(donors):
        return None
    distance, index = nearest(targets, donors)
    chosen = (mask & (distance < otsu_threshold(distance[None]))).nonzero().squeeze(-1)
    return Matches(chosen, index[chosen])


def blend_into(values: Tensor, matches: Matches, donors: Tensor) -> None:
    """Blend matched donors, [m, channels], into a frame's values, [pixels, channels], in place."""
    own = values[matches.targets]
    values[matches.targets] = STRENGTH * donors[matches.sources] + (1 - STRENGTH) * own


class FeatureInjection:
    """Matches of a batch over its two passes: the first captures features, the second injects.

    Args:
        frames: number of frames in the batch.
        anchors: number of anchors, the first frames; frames take from the anchors other than themselves.
        grid: height and width of the layers that features are injected into.
        feature_step: the step at which features are captured.
    """

    def __init__(self, frames: int, anchors: int, grid: tuple[int, int], feature_step: int) -> None:
        self._frames, self._anchors, self._grid = frames, anchors, grid
        self._feature_step = feature_step
        self._captured: Tensor | None = None
        self._features: Tensor | None = None
        self._matches: list[Matches | None] | None = None
        self._anchor_pixels: Tensor | None = None

    @property
    def matched(self) -> bool:
        """Whether the first pass is over."""
        return self._matches is not None

    def capture(self, step: int, features: Tensor) -> None:
        """Take the features of a step, [halves * frames, channels, h, w], if it is the features' step."""
        if step == self._feature_step and not self.matched:
            self._captured = features

    def end_step(self) -> None:
        """Smooth the features that were captured in this step."""
        if self._captured is not None:
            self._features = smooth(self._captured[-self._frames :])
            self._captured = None

    def find_matches(self, masks: Tensor, cached: Tensor | None = None) -> Tensor:
        """Match the frames' subjects, and return the unit vectors of the anchors' subjects.

        Args:
            masks: the frames' subjects at the grid, bool [frames, pixels].
            cached: unit vectors of cached anchors, [m, channels], to take from instead of the batch's.

        Raises:
            RuntimeError: no features were captured yet.
        """
        if self._features is None:
            raise RuntimeError(f"step {self._feature_step}, which captures the features, was not done yet")
        vectors = directions(self._features, self._grid)
        self._features = None
        flat = vectors.flatten(0, 1)
        self._anchor_pixels = masks[: self._anchors].flatten().nonzero().squeeze(-1)
        if cached is not None:
            donors = cached.to(vectors)
            self._matches = [match(*one, donors) for one in zip(vectors, masks, strict=True)]
        else:
            self._matches = [self._match_in_batch(i, flat, masks) for i in range(len(masks))]
        return flat[self._anchor_pixels]

    def _match_in_batch(self, frame: int, vectors: Tensor, masks: Tensor) -> Matches | None:
        """Matches of a frame with the other anchors; vectors: [frames * pixels, channels]."""
        pixels = masks.shape[1]
        places = self._anchor_pixels
        if frame < self._anchors:
            places = places[places // pixels != frame]
        found = match(vectors[frame * pixels : (frame + 1) * pixels], masks[frame], vectors[places])
        return found and Matches(found.targets, places[found.sources])

    def inject(self, values: Tensor, cached: Tensor | None = None) -> None:
        """Blend matched features into values, [frames, pixels, channels], in place.

        One frame after the other: later frames take the values that earlier ones have received.
        `cached` holds the cached anchors' values, [m, channels], if they are the donors.
        Source: docs/method.md, section 5.3.
        """
        donors = values.flatten(0, 1) if cached is None else cached  # a view, which changes with the frames
        for frame, matches in zip(values, self._matches, strict=True):
            if matches is not None:
                blend_into(frame, matches, donors)

    def at_anchors(self, values: Tensor) -> Tensor:
        """Values of the anchors' subjects: [frames, pixels, channels] -> [m, channels]."""
        return values.flatten(0, 1)[self._anchor_pixels]
