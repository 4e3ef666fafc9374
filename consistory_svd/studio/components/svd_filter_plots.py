"""Plots of what the SVD filter did to a story: singular values before and after it, and how many it kept.

The plots are SVG: they follow the page's colours and need no script. Gradio's plots have no logarithmic axis.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from consistory_svd.studio import html as view
from consistory_svd.studio.components.fields import NO_QUEUE, RAW, on_user_input

if TYPE_CHECKING:
    from consistory_svd.attention import FilterSummary
    from consistory_svd.attention.svd_filter_log import FilterStats
    from consistory_svd.studio.session import Sessions

MATRICES = {"K": "Keys (K)", "V": "Values (V)"}
# Smaller singular values relative to the largest are rounding errors, and would flatten the plot.
SMALLEST = 1e-6
WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 44
# Up to this many points, each gets a dot; a line of one point would be invisible.
MOST_DOTS = 12
ByAnchor = Mapping[int, "FilterStats"]


class SVDFilterPlots:
    """The folded part below the images."""

    def __init__(self, sessions: "Sessions") -> None:
        self._sessions = sessions
        with gr.Accordion("Singular values", open=False, visible=False, elem_id="svd-plots") as self.part:
            with gr.Row():
                self.layer = gr.Dropdown([], label="Layer", filterable=False, scale=2, elem_id="layer")
                self.step = gr.Dropdown([], label="Step", filterable=False, min_width=100, elem_id="step")
            self.plots = gr.HTML("", padding=False)

    @property
    def outputs(self) -> list[Any]:
        """The components that `show` updates."""
        return [self.part, self.layer, self.step, self.plots]

    def connect(self) -> None:
        """Connect the events. Call it inside the page's Blocks."""
        chosen = [self.layer, self.step]
        gr.on([on_user_input(choice) for choice in chosen], self.draw, chosen, self.plots, **RAW, **NO_QUEUE)

    def show(self, request: gr.Request) -> dict[Any, Any]:
        """Return updates for the visitor's story: hidden unless its singular values were recorded."""
        session = self._sessions.find(request)
        log = session and session.generated and not session.is_generating and session.generated.filter_log
        if not log:
            return {self.part: gr.update(visible=False), self.plots: ""}
        layers, steps = log.layers, log.logged_curve_steps
        if not layers:
            empty = gr.update(choices=[], value=None, interactive=False)
            return {
                self.part: gr.update(visible=True),
                self.layer: empty,
                self.step: empty,
                self.plots: nothing_recorded(),
            }
        layer, step = layers[len(layers) // 2], steps[len(steps) // 2]
        choices = [(layer_label(name), name) for name in layers]
        return {
            self.part: gr.update(visible=True),
            self.layer: gr.update(choices=choices, value=layer, interactive=True),
            self.step: gr.update(choices=[(str(at + 1), at) for at in steps], value=step, interactive=True),
            self.plots: plots(log, layer, step),
        }

    def draw(self, layer: str, step: int, request: gr.Request) -> Any:
        """Return the plots of the chosen layer and step."""
        generated = self._sessions.story_of(request)
        if generated is None or generated.filter_log is None:
            return gr.skip()
        return plots(generated.filter_log, layer, step)


def nothing_recorded() -> str:
    """Return the note for a recorded story in which no image attended to another."""
    return view.said("Nothing was recorded: no image attended to another one.")


def layer_label(name: str) -> str:
    """Return a layer's place in the U-Net: "up block 0, attention 1, layer 0"."""
    place = re.match(
        r"(down|mid|up)_block(?:s\.(\d+))?\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.", name
    )
    if place is None:
        return name
    part, block, attention, layer = place.groups()
    where = "middle block" if block is None else f"{part} block {block}"
    return f"{where}, attention {attention}, layer {layer}"


def plots(log: "FilterSummary", layer: str, step: int) -> str:
    """Return the plots of K and V at a layer and a step (from 0); a note if nothing was recorded there."""
    columns = [_column(log, matrix, layer, step) for matrix in MATRICES]
    if not any(columns):
        return nothing_recorded()
    anchors = sorted({a for (_, where, _), stats in log.stats.items() if where == layer for a in stats})
    body = f'{_legend(anchors)}<div class="columns">{"".join(columns)}</div>'
    return f'<section class="svd-plots">{body}</section>'


def _column(log: "FilterSummary", matrix: str, layer: str, step: int) -> str:
    by_step = {
        at: stats
        for (kind, where, at), stats in sorted(log.stats.items())
        if (kind, where) == (matrix, layer)
    }
    if not by_step:
        return ""
    at_step = by_step.get(step, {})
    parts = (
        f"<h3>{MATRICES[matrix]}</h3>",
        _singular_values(matrix, at_step, step),
        _kept(matrix, by_step, step),
        _energy(matrix, by_step, step),
        _numbers(at_step, step),
    )
    return f"<div>{''.join(parts)}</div>"


def _singular_values(matrix: str, at_step: ByAnchor, step: int) -> str:
    """Return singular values before and after the filter, both axes logarithmic."""
    lines = [
        Polyline(
            [
                (rank, value)
                for rank, value in zip(stats.curve.ranks, getattr(stats.curve, kind), strict=True)
                if value > 0
            ],
            f"{kind} anchor-{anchor}",
            f"Anchor {anchor + 1}, {kind}",
        )
        for kind in ("before", "after")
        for anchor, stats in at_step.items()
        if stats.curve is not None
    ]
    values = [value for line in lines for _, value in line.points]
    if not values:
        return f"<p>The singular values of {matrix} were not recorded at step {step + 1}, or all are 0.</p>"
    rank = max(rank for line in lines for rank, _ in line.points)
    plot = chart(
        f"Singular values of {matrix} at step {step + 1}",
        Axis("Rank (log)", 1, max(rank, 2), log=True),
        Axis(
            "Singular value (log)",
            max(min(values), max(values) * SMALLEST) / 1.2,
            max(values) * 1.2,
            log=True,
        ),
        lines,
    )
    zeros = [
        f"{stats.zeroed} of anchor {anchor + 1}" for anchor, stats in sorted(at_step.items()) if stats.zeroed
    ]
    if not zeros:
        return plot
    return (
        f'{plot}<p class="zeroed">Not drawn: {", ".join(zeros)} are kept but become zero, because the '
        "logarithm maps values up to 1 to zero.</p>"
    )


def _kept(matrix: str, by_step: Mapping[int, ByAnchor], step: int) -> str:
    rank = max(stats.rank for at_step in by_step.values() for stats in at_step.values())
    lines = _over_steps(by_step, "kept")
    most = max(kept for line in lines for _, kept in line.points)
    return chart(
        f"Singular values of {matrix} kept, of at most {rank}",
        _steps_axis(by_step),
        Axis("Number kept", 0, max(1, most * 1.05), whole=True),
        lines,
        mark=step + 1,
    )


def _energy(matrix: str, by_step: Mapping[int, ByAnchor], step: int) -> str:
    lines = _over_steps(by_step, "energy")
    least = min(share for line in lines for _, share in line.points)
    return chart(
        f"Share of the energy of {matrix} kept",
        _steps_axis(by_step),
        Axis("Share of the energy", max(0.0, min(least - 0.02, 0.9)), 1.0),
        lines,
        mark=step + 1,
    )


def _over_steps(by_step: Mapping[int, ByAnchor], name: str) -> list["Polyline"]:
    anchors = sorted({anchor for at_step in by_step.values() for anchor in at_step})
    return [
        Polyline(
            [(at + 1, getattr(stats[anchor], name)) for at, stats in by_step.items() if anchor in stats],
            f"after anchor-{anchor}",
            f"Anchor {anchor + 1}",
        )
        for anchor in anchors
    ]


def _steps_axis(by_step: Mapping[int, ByAnchor]) -> "Axis":
    return Axis("Step", 1, max(*by_step, 1) + 1, whole=True)


def _numbers(at_step: ByAnchor, step: int) -> str:
    """Return the numbers of the chosen step as text, also for those who cannot see the plots."""
    rows = []
    for anchor, stats in sorted(at_step.items()):
        row = f"Anchor {anchor + 1}: {stats.kept} of {stats.rank} kept, {stats.energy:.1%} of the energy"
        unchanged = "; reweighting would leave nothing, so the anchor is shared unfiltered"
        rows.append(f"<li>{row}{unchanged if stats.unchanged else ''}</li>")
    return f"<p>At step {step + 1}:</p><ul>{''.join(rows)}</ul>" if rows else ""


def _legend(anchors: Sequence[int]) -> str:
    entries = [(f"after anchor-{anchor}", f"Anchor {anchor + 1}") for anchor in anchors]
    entries += [("before", "before the filter"), ("after", "after the filter")]
    items = "".join(
        f'<li><svg viewBox="0 0 28 8" aria-hidden="true"><g class="{css}"><polyline points="0,4 28,4"/>'
        f"</g></svg>{escape(text)}</li>"
        for css, text in entries
    )
    return f'<ul class="legend">{items}</ul>'


@dataclass(frozen=True)
class Polyline:
    """Points (x, y) joined in order; `css` are its CSS classes, `name` is its tooltip."""

    points: Sequence[tuple[float, float]]
    css: str
    name: str


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`; with `log` both must be positive."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def place(self, value: float) -> float:
        """Return the position of a value: 0 at `low`, 1 at `high`."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return 0.5 if high == low else (value - low) / (high - low)

    def shows(self, value: float) -> bool:
        """Return whether a value is on the axis; rounding may put an end slightly beyond it."""
        return (value > 0 or not self.log) and -1e-9 <= self.place(value) <= 1 + 1e-9

    def ticks(self) -> list[float]:
        """Return round values to label: 1, 2 or 5 times a power of ten."""
        return [tick for tick in (self._log_ticks() if self.log else self._even_ticks()) if self.shows(tick)]

    def _log_ticks(self) -> list[float]:
        lowest, highest = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = range(lowest, highest + 1)
        if math.log10(self.high / self.low) < 2:
            return [factor * 10.0**power for power in decades for factor in (1, 2, 5)]
        return [10.0**power for power in decades[:: math.ceil(len(decades) / 7)]]

    def _even_ticks(self) -> list[float]:
        rough = (self.high - self.low) / 5 or 1.0
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        step = max(step, 1.0) if self.whole else step
        first = math.ceil(self.low / step)
        return [(first + k) * step for k in range(math.floor(self.high / step) - first + 1)]


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Polyline], mark: float | None = None) -> str:
    """Return a line chart with a caption. `mark` is an x value with a thin vertical line."""
    floor = HEIGHT - BOTTOM

    def left(value: float) -> float:
        return LEFT + x.place(value) * (WIDTH - LEFT - RIGHT)

    def top(value: float) -> float:
        return floor - y.place(value) * (floor - TOP)

    parts = []
    for tick in x.ticks():
        at = f"{left(tick):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text x="{at}" y="{floor + 16}" text-anchor="middle">{tick:.6g}</text>')
    for tick in y.ticks():
        at = top(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + floor) / 2
    parts.append(f'<text x="{middle[0]}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>')
    parts.append(
        f'<text x="14" y="{middle[1]}" text-anchor="middle" transform="rotate(-90 14 {middle[1]})">'
        f"{escape(y.label)}</text>"
    )
    if mark is not None and x.shows(mark):
        at = f"{left(mark):.1f}"
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{floor}"/>')
    for line in lines:
        points = [(left(a), top(b)) for a, b in line.points if x.shows(a) and y.shows(b)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        dots = points if len(points) <= MOST_DOTS else ()
        circles = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in dots)
        name = f"<title>{escape(line.name)}</title>"
        parts.append(f'<g class="{line.css}">{name}<polyline points="{path}"/>{circles}</g>')
    label = escape(f"{title}. {y.label} against {x.label}.")
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg></figure>'
    )
