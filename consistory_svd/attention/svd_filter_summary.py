"""A small log of the spectral filter: enough to draw what it did, a few megabytes also for a large model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from consistory_svd.attention.svd_filter import FilterReport
from consistory_svd.attention.svd_filter_log import FilterLog

CURVE_POINTS = 64
CURVE_STEPS = 10
MOST_ANCHORS = 8


@dataclass(frozen=True)
class SingularValues:
    """Some of a matrix's singular values before and after the filter: the `ranks`-th largest, from 1.

    `after` is zero where a value was dropped.
    """

    ranks: tuple[int, ...]
    before: tuple[float, ...] = field(repr=False)
    after: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class FilterStats:
    """What the filter did to one matrix: of `rank` singular values, `kept` hold `energy`, a share of the sum
    of squares. `unchanged` says that nothing was left to rescale. `curve` is there at chosen steps only.
    `zeroed` of those kept became zero when they were rescaled, as log makes of values up to 1."""

    kept: int
    rank: int
    energy: float
    unchanged: bool
    curve: SingularValues | None = None
    zeroed: int = 0


class FilterSummary(FilterLog):
    """A `FilterLog` that keeps little: the conditional half, of the first MOST_ANCHORS anchors.

    A layer that is run again at a step, in a second pass or for the next frames, replaces what it said
    before. Singular values are kept at about CURVE_STEPS steps, thinned to about CURVE_POINTS of them.

    Args:
        steps: how many steps the story has.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        last = max(1, steps - 1)  # step 0 shares nothing
        self.curve_steps = {1 + round(k * (last - 1) / max(1, CURVE_STEPS - 1)) for k in range(CURVE_STEPS)}
        # By matrix, layer and step, then by anchor.
        self.filter_summaries: dict[tuple[Literal["K", "V"], str, int], dict[int, FilterStats]] = {}

    def add(
        self, matrix: Literal["K", "V"], layer: str, step: int, anchors: Sequence[int], report: FilterReport
    ) -> None:
        """Take a report of leading shape [anchors, halves], of which the last half is kept."""
        kept, energy, unchanged = (
            values[:, -1].tolist() for values in (report.kept, report.energy, report.unchanged)
        )
        there, shared = (
            (values[:, -1] > 0).sum(-1).tolist()
            for values in (report.singular_values, report.filtered_values)
        )
        found = self.filter_summaries.setdefault((matrix, layer, step), {})
        for position, anchor in enumerate(anchors[:MOST_ANCHORS]):
            before, after = report.singular_values[position, -1], report.filtered_values[position, -1]
            curve = _curve(before, after, kept[position]) if step in self.curve_steps else None
            zeroed = 0 if unchanged[position] else min(kept[position], there[position]) - shared[position]
            found[anchor] = FilterStats(
                kept[position], before.shape[-1], energy[position], unchanged[position], curve, zeroed
            )

    @property
    def layers(self) -> list[str]:
        """The layers that were recorded, in the order in which the U-Net runs them."""
        return list(dict.fromkeys(layer for _, layer, _ in self.filter_summaries))

    @property
    def whole_steps(self) -> list[int]:
        """The steps, from 0, at which singular values are kept."""
        return sorted({step for _, _, step in self.filter_summaries} & self.curve_steps)


def _curve(before: Tensor, after: Tensor, kept: int) -> SingularValues:
    rank = len(before)
    ranks = {*range(1, min(rank, 8) + 1), kept, min(kept + 1, rank)}
    spread = torch.logspace(0, torch.log10(torch.tensor(float(rank))), CURVE_POINTS // 2).round()
    ranks |= {int(one) for one in spread} | {int(one) for one in torch.linspace(1, rank, CURVE_POINTS // 2)}
    chosen = sorted(ranks & set(range(1, rank + 1)))
    places = torch.tensor(chosen, device=before.device) - 1
    return SingularValues(tuple(chosen), tuple(before[places].tolist()), tuple(after[places].tolist()))
