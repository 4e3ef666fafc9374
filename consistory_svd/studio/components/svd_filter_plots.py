"""What the spectral filter did to a story, as figures: spectra before and after, and what was kept."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from consistory_svd.attention import FilterSummary
from consistory_svd.attention.svd_filter_summary import FilterStats
from consistory_svd.studio.components.charts import Axis, Polyline, chart

MATRICES = {"K": "Keys (K)", "V": "Values (V)"}
# Values so far below the largest are left out: they are rounding, and would flatten all others.
DEPTH = 1e-6
ByAnchor = Mapping[int, FilterStats]


def nothing_recorded() -> str:
    """Said where spectra were asked for and no picture looked at another one."""
    return '<div class="note" data-say>Nothing was recorded: no picture looked at another one.</div>'


def layer_in_words(name: str) -> str:
    """A layer's place, with the numbers that it has in the model: "up block 0, attention 1, layer 0"."""
    place = re.match(
        r"(down|mid|up)_block(?:s\.(\d+))?\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.", name
    )
    if place is None:
        return name
    part, block, attention, layer = place.groups()
    where = "middle block" if block is None else f"{part} block {block}"
    return f"{where}, attention {attention}, layer {layer}"


def figures(log: FilterSummary, layer: str, step: int) -> str:
    """Both matrices at a layer, their spectra at a step, from 0; a note where nothing was recorded."""
    columns = [_column(log, matrix, layer, step) for matrix in MATRICES]
    if not any(columns):
        return nothing_recorded()
    anchors = sorted(
        {a for (_, where, _), found in log.filter_summaries.items() if where == layer for a in found}
    )
    return (
        f'<section class="spectra">{_legend(anchors)}<div class="columns">{"".join(columns)}</div></section>'
    )


def _column(log: FilterSummary, matrix: str, layer: str, step: int) -> str:
    by_step = {
        at: found
        for (kind, where, at), found in sorted(log.filter_summaries.items())
        if (kind, where) == (matrix, layer)
    }
    if not by_step:
        return ""
    parts = [f"<h3>{MATRICES[matrix]}</h3>", _filter_log(matrix, by_step.get(step, {}), step)]
    parts += [
        _kept(matrix, by_step, step),
        _energy(matrix, by_step, step),
        _numbers(by_step.get(step, {}), step),
    ]
    return f"<div>{''.join(parts)}</div>"


def _filter_log(matrix: str, found: ByAnchor, step: int) -> str:
    """Singular values before and after the filter, both axes logarithmic."""
    lines = []
    for kind in ("before", "after"):
        for anchor, filter_summary in found.items():
            if filter_summary.curve is None:
                continue
            points = zip(filter_summary.curve.ranks, getattr(filter_summary.curve, kind), strict=True)
            lines.append(
                Polyline(
                    [(rank, value) for rank, value in points if value > 0],
                    f"{kind} anchor-{anchor}",
                    f"Anchor {anchor + 1}, {kind}",
                )
            )
    values = [value for line in lines for _, value in line.points]
    if not values:
        return f"<p>The singular values of {matrix} were not recorded at step {step + 1}, or all are 0.</p>"
    lowest = max(min(values), max(values) * DEPTH)
    rank = max(rank for line in lines for rank, _ in line.points)
    drawn = chart(
        f"Singular values of {matrix} at step {step + 1}",
        Axis("Rank of the singular value (log)", 1, max(rank, 2), log=True),
        Axis("Singular value (log)", lowest / 1.2, max(values) * 1.2, log=True),
        lines,
    )
    return drawn + _zeroed(found)


def _zeroed(found: ByAnchor) -> str:
    """What of the kept values no logarithmic axis shows, in words; empty where all are shown."""
    counts = [
        f"{filter_summary.zeroed} of anchor {anchor + 1}"
        for anchor, filter_summary in sorted(found.items())
        if filter_summary.zeroed
    ]
    if not counts:
        return ""
    return (
        f'<p class="zeroed">Not drawn, though kept: {", ".join(counts)} become zero, as the logarithm makes '
        "of values up to 1.</p>"
    )


def _kept(matrix: str, by_step: Mapping[int, ByAnchor], step: int) -> str:
    rank = max(filter_summary.rank for found in by_step.values() for filter_summary in found.values())
    lines = _over_steps(by_step, "kept")
    most = max(kept for line in lines for _, kept in line.points)
    return chart(
        f"Components of {matrix} kept, of at most {rank}",
        _steps_axis(by_step),
        Axis("Components kept", 0, max(1, most * 1.05), whole=True),
        lines,
        mark=step + 1,
    )


def _energy(matrix: str, by_step: Mapping[int, ByAnchor], step: int) -> str:
    lines = _over_steps(by_step, "energy")
    least = min(share for line in lines for _, share in line.points)
    return chart(
        f"Energy of {matrix} that they hold",
        _steps_axis(by_step),
        Axis("Share of squared energy", max(0.0, min(least - 0.02, 0.9)), 1.0),
        lines,
        mark=step + 1,
    )


def _over_steps(by_step: Mapping[int, ByAnchor], what: str) -> list[Polyline]:
    anchors = sorted({anchor for found in by_step.values() for anchor in found})
    return [
        Polyline(
            [(at + 1, getattr(found[anchor], what)) for at, found in by_step.items() if anchor in found],
            f"after anchor-{anchor}",
            f"Anchor {anchor + 1}",
        )
        for anchor in anchors
    ]


def _steps_axis(by_step: Mapping[int, ByAnchor]) -> Axis:
    return Axis("Step", 1, max(*by_step, 1) + 1, whole=True)


def _numbers(found: ByAnchor, step: int) -> str:
    """The chosen step in words, also for whoever does not see the figures."""
    rows = "".join(
        f"<li>{_in_words(anchor, filter_summary)}</li>" for anchor, filter_summary in sorted(found.items())
    )
    return f"<p>At step {step + 1}:</p><ul>{rows}</ul>" if rows else ""


def _in_words(anchor: int, filter_summary: FilterStats) -> str:
    said = (
        f"Anchor {anchor + 1}: {filter_summary.kept} of {filter_summary.rank} kept, "
        f"with {filter_summary.energy:.1%} of the energy"
    )
    return (
        f"{said}; nothing was left to reweight, so it was lent as it is" if filter_summary.unchanged else said
    )


def _legend(anchors: Sequence[int]) -> str:
    entries = [(f"after anchor-{anchor}", f"Anchor {anchor + 1}") for anchor in anchors]
    entries += [("before", "before the filter"), ("after", "after it")]
    items = "".join(
        f'<li><svg viewBox="0 0 28 8" aria-hidden="true"><g class="{looks}"><polyline points="0,4 28,4"/>'
        f"</g></svg>{escape(words)}</li>"
        for looks, words in entries
    )
    return f'<ul class="legend">{items}</ul>'
