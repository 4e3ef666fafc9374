"""The SVD filter applied to the anchors' keys and values, and a log of its effect."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from consistory_svd.attention.svd_filter import FilterReport, filter_matrix, filter_with_report
from consistory_svd.settings import SVDFilter

CURVE_POINTS = 64
CURVE_STEPS = 10
MAX_ANCHORS = 8  # of a summary

Kind = Literal["K", "V"]


class FilterLog(ABC):
    """Receives a report of every filtered matrix; filtering is the same with and without a log."""

    @abstractmethod
    def add(self, matrix: Kind, layer: str, step: int, anchors: Sequence[int], report: FilterReport) -> None:
        """Log a report of leading shape [anchors, halves]; `anchors` are their numbers, from 0."""


@dataclass(frozen=True)
class SingularValues:
    """Some singular values of a matrix before and after the filter: the `ranks`-th largest, from 1.

    `after` is zero where a value was dropped.
    """

    ranks: tuple[int, ...]
    before: tuple[float, ...] = field(repr=False)
    after: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class FilterStats:
    """Effect of the filter on one matrix: of `rank` singular values, `kept` hold `energy`, a share of the sum
    of squares. `unchanged`: nothing was left to rescale. `curve` exists at some steps only. `zeroed` of the
    kept values became zero by reweighting, as log does with values up to 1."""

    kept: int
    rank: int
    energy: float
    unchanged: bool
    curve: SingularValues | None = None
    zeroed: int = 0


class FilterSummary(FilterLog):
    """A small log, enough for plots: the conditional half of the first MAX_ANCHORS anchors.

    A later call of a layer at a step, in a second pass or for the next frames, replaces the earlier entry.
    Singular values are kept at about CURVE_STEPS steps, thinned to about CURVE_POINTS of them: a few
    megabytes for a large model.

    Args:
        steps: number of steps of the story.
    """

    def __init__(self, steps: int) -> None:
        last = max(1, steps - 1)  # step 0 shares nothing
        self.curve_steps = {1 + round(k * (last - 1) / max(1, CURVE_STEPS - 1)) for k in range(CURVE_STEPS)}
        # By matrix, layer and step, then by anchor.
        self.stats: dict[tuple[Kind, str, int], dict[int, FilterStats]] = {}

    def add(self, matrix: Kind, layer: str, step: int, anchors: Sequence[int], report: FilterReport) -> None:
        """Log a report of leading shape [anchors, halves], of which the last half is kept."""
        kept, energy, unchanged = (
            values[:, -1].tolist() for values in (report.kept, report.energy, report.unchanged)
        )
        nonzero_before, nonzero_after = (
            (values[:, -1] > 0).sum(-1).tolist()
            for values in (report.singular_values, report.filtered_values)
        )
        found = self.stats.setdefault((matrix, layer, step), {})
        for i, anchor in enumerate(anchors[:MAX_ANCHORS]):
            before, after = report.singular_values[i, -1], report.filtered_values[i, -1]
            curve = _curve(before, after, kept[i]) if step in self.curve_steps else None
            zeroed = 0 if unchanged[i] else min(kept[i], nonzero_before[i]) - nonzero_after[i]
            found[anchor] = FilterStats(kept[i], before.shape[-1], energy[i], unchanged[i], curve, zeroed)

    @property
    def layers(self) -> list[str]:
        """The logged layers, in the order in which the U-Net runs them."""
        return list(dict.fromkeys(layer for _, layer, _ in self.stats))

    @property
    def logged_curve_steps(self) -> list[int]:
        """The logged steps, from 0, that have singular values."""
        return sorted({step for _, _, step in self.stats} & self.curve_steps)


def _curve(before: Tensor, after: Tensor, kept: int) -> SingularValues:
    rank = len(before)
    ranks = {*range(1, min(rank, 8) + 1), kept, min(kept + 1, rank)}
    spread = torch.logspace(0, torch.log10(torch.tensor(float(rank))), CURVE_POINTS // 2).round()
    ranks |= {int(one) for one in spread} | {int(one) for one in torch.linspace(1, rank, CURVE_POINTS // 2)}
    chosen = sorted(ranks & set(range(1, rank + 1)))
    indices = torch.tensor(chosen, device=before.device) - 1
    return SingularValues(tuple(chosen), tuple(before[indices].tolist()), tuple(after[indices].tolist()))


@dataclass(frozen=True)
class AnchorFilter:
    """The filters for the anchors' keys and values, and the log that they write to, if any."""

    keys: SVDFilter
    values: SVDFilter
    log: FilterLog | None = None

    @property
    def acts(self) -> bool:
        """Whether anything is filtered or logged."""
        return not (self.keys.identity and self.values.identity) or self.log is not None

    def __call__(
        self, layer: str, step: int, anchors: Mapping[int, tuple[Tensor, Tensor]]
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Filter keys and values by anchor: [halves, tokens, inner_dim] each, before the split into heads.

        The halves are separate matrices; the numbers of tokens may differ.
        """
        numbers = list(anchors)
        keys, values = ([pair[i] for pair in anchors.values()] for i in (0, 1))
        if self.log is None and self.keys == self.values:
            # One batch: most of the time is overhead of many small eigenproblems.
            both = self._filter("K", self.keys, (layer, step, [*numbers, *numbers]), [*keys, *values])
            keys, values = both[: len(numbers)], both[len(numbers) :]
        else:
            keys = self._filter("K", self.keys, (layer, step, numbers), keys)
            values = self._filter("V", self.values, (layer, step, numbers), values)
        return dict(zip(numbers, zip(keys, values, strict=True), strict=True))

    def _filter(
        self, matrix: Kind, svd_filter: SVDFilter, place: tuple[str, int, list[int]], matrices: list[Tensor]
    ) -> list[Tensor]:
        """Filter matrices, [halves, tokens, inner_dim] each; `place` is layer, step and anchors."""
        if svd_filter.identity and self.log is None:
            return matrices
        if len({one.shape for one in matrices}) == 1 and matrices[0].shape[1]:
            return list(self._filter_batch(matrix, svd_filter, place, torch.stack(matrices)))
        # Masks leave the anchors different numbers of tokens, perhaps none.
        layer, step, anchors = place
        return [
            self._filter_batch(matrix, svd_filter, (layer, step, [anchor]), one[None])[0]
            if one.shape[1]
            else one
            for anchor, one in zip(anchors, matrices, strict=True)
        ]

    def _filter_batch(
        self, matrix: Kind, svd_filter: SVDFilter, place: tuple[str, int, list[int]], matrices: Tensor
    ) -> Tensor:
        """Filter matrices of one shape: [anchors, halves, tokens, inner_dim]."""
        if self.log is None:
            return filter_matrix(matrices, svd_filter)
        filtered, report = filter_with_report(matrices, svd_filter)
        layer, step, anchors = place
        if not report.finite.all():
            raise ValueError(f"matrices: {matrix} of {layer} at step {step} has NaN or infinity")
        self.log.add(matrix, layer, step, anchors, report)
        return filtered
