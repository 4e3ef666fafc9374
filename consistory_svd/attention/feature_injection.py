"""Matching places of the subject in different frames, and the copying of features between them (spec 5.2 to
5.4). Pure tensor functions.

Features are DIFT's (Tang et al. 2023): what an up block says at timestep 261. Donors are all pixels of the
subjects that a frame may take from, in a row: the nearest of the row is the nearest match of the nearest
donor, ties included, so that no map a pair of frames is ever kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from consistory_svd.attention.subject_masks import otsu_threshold

STRENGTH = 0.8  # of the donor in what is injected
SIGMA = 1.0
CHUNK = 2**26  # distances held at a time


def smooth(features: Tensor) -> Tensor:
    """Each channel through a 3 x 3 Gaussian of sigma 1, zeros outside: float32 [frames, channels, h, w]."""
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
    """Where a frame takes from: `targets` [n] are pixels of its own, `sources` [n] indices among the
    donors."""

    targets: Tensor
    sources: Tensor


def match(targets: Tensor, mask: Tensor, donors: Tensor) -> Matches | None:
    """The matches of one frame that are worth taking; None where there is no donor.

    targets: the frame's unit vectors [pixels, channels]; mask: its subject, bool [pixels]; donors: unit
    vectors [m, channels]. Taken are pixels of the subject whose distance is below Otsu's threshold of the
    distances of all the frame's pixels. Source: spec 5.4.
    """
    if not len(donors):
        return None
    distance, index = nearest(targets, donors)
    chosen = (mask & (distance < otsu_threshold(distance[None]))).nonzero().squeeze(-1)
    return Matches(chosen, index[chosen])


def blend_into(values: Tensor, matches: Matches, donors: Tensor) -> None:
    """Inject, in place: values [pixels, channels] of a frame, donors [m, channels]."""
    own = values[matches.targets]
    values[matches.targets] = STRENGTH * donors[matches.sources] + (1 - STRENGTH) * own
