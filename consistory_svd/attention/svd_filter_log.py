"""The spectral filter on what anchors lend: which matrices it sees, and a log of what it did to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from consistory_svd.attention.svd_filter import FilterReport, filter_matrix, filter_with_report
from consistory_svd.settings import SVDFilter

AnchorPlace = tuple[str, int, Sequence[int]]  # layer, step, the numbers of the anchors


@dataclass(frozen=True)
class FilterRecord:
    """What the filter did to one matrix, K or V of an anchor, at a layer and a step.

    `half` is "conditional" or, with classifier-free guidance, also "unconditional". `kept` components hold
    `energy`, a share of the sum of squares; `unchanged` says that nothing was left to rescale and the matrix
    was lent as it is. `before` and `after` are all singular values, for the chosen layer and step only.
    """

    matrix: Literal["K", "V"]
    layer: str
    step: int
    anchor: int
    half: Literal["unconditional", "conditional"]
    kept: int
    energy: float
    unchanged: bool
    before: Tensor | None = field(default=None, repr=False)
    after: Tensor | None = field(default=None, repr=False)


class FilterLog:
    """What the spectral filter did during a story, for whoever asks for it; nothing is done where it is off.

    Kept components and their energy are recorded at every layer and step, the singular values themselves at
    the steps and layers that are asked for (None: at all).
    """

    def __init__(self, layer: str | None = None, step: int | None = None) -> None:
        self.records: list[FilterRecord] = []
        self._layer, self._step = layer, step

    def add(
        self, matrix: Literal["K", "V"], layer: str, step: int, anchors: Sequence[int], report: FilterReport
    ) -> None:
        """Take a report of leading shape [anchors, halves]; `anchors` says which ones, from 0."""
        whole = self._layer in (None, layer) and self._step in (None, step)
        halves = report.kept.shape[1]
        for position, anchor in enumerate(anchors):
            for half in range(halves):
                at = position, half
                self.records.append(
                    FilterRecord(
                        matrix,
                        layer,
                        step,
                        anchor,
                        "conditional" if half == halves - 1 else "unconditional",
                        int(report.kept[at]),
                        float(report.energy[at]),
                        bool(report.unchanged[at]),
                        report.singular_values[at].float().cpu() if whole else None,
                        report.filtered_values[at].float().cpu() if whole else None,
                    )
                )


@dataclass(frozen=True)
class AnchorFilter:
    """The filter of a story: a spectrum each for keys and values, and the log that it writes, if any."""

    keys: SVDFilter
    values: SVDFilter
    log: FilterLog | None = None

    @property
    def acts(self) -> bool:
        """Whether anything is filtered or logged."""
        return not (self.keys.identity and self.values.identity) or self.log is not None

    def __call__(
        self, layer: str, step: int, shared: Mapping[int, tuple[Tensor, Tensor]]
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Keys and values by lender, filtered: [halves, heads, tokens, d] each, tokens may differ.

        All heads stand side by side in a matrix, tokens x inner_dim; halves are matrices of their own.
        Lenders are numbered as attention numbers them: those of the batch from 0 up, a bank's from -1 down.
        """
        anchors = [anchor if anchor >= 0 else -1 - anchor for anchor in shared]
        keys = [key for key, _ in shared.values()]
        values = [value for _, value in shared.values()]
        place = layer, step, anchors
        if self.log is None and self.keys == self.values:
            # One batch: most of the time goes into many small eigenproblems' overhead.
            done = self._filtered("K", self.keys, (layer, step, [*anchors, *anchors]), [*keys, *values])
            keys, values = done[: len(shared)], done[len(shared) :]
        else:
            keys = self._filtered("K", self.keys, place, keys)
            values = self._filtered("V", self.values, place, values)
        return dict(zip(shared, zip(keys, values, strict=True), strict=True))

    def _filtered(
        self, matrix: Literal["K", "V"], svd_filter: SVDFilter, place: AnchorPlace, shared: Sequence[Tensor]
    ) -> list[Tensor]:
        if svd_filter.identity and self.log is None:
            return list(shared)
        heads = shared[0].shape[1]
        sides = [one.transpose(1, 2).flatten(2) for one in shared]  # [halves, tokens, heads * d]
        if len({one.shape for one in sides}) == 1 and sides[0].shape[1]:
            done = list(self._apply(matrix, svd_filter, place, torch.stack(sides)))
        else:  # masks leave the anchors different numbers of tokens, perhaps none
            layer, step, anchors = place
            done = [
                self._apply(matrix, svd_filter, (layer, step, [anchor]), one[None])[0]
                if one.shape[1]
                else one
                for anchor, one in zip(anchors, sides, strict=True)
            ]
        return [one.unflatten(2, (heads, -1)).transpose(1, 2) for one in done]

    def _apply(
        self, matrix: Literal["K", "V"], svd_filter: SVDFilter, place: AnchorPlace, matrices: Tensor
    ) -> Tensor:
        if self.log is None:
            return filter_matrix(matrices, svd_filter)
        filtered, report = filter_with_report(matrices, svd_filter)
        if not report.finite.all():
            layer, step, _ = place
            raise ValueError(f"matrices: {matrix} of {layer} at step {step} has NaN or infinity")
        self.log.add(matrix, *place, report)
        return filtered
