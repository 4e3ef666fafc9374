"""Line charts as SVG: they follow the page's colours, light and dark, and need no script and no network.

The page's own plots have no logarithmic axis, which singular values need.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 44
# Up to so many points, each gets a dot; a line of one point would not be seen at all.
MOST_DOTS = 12


@dataclass(frozen=True)
class Polyline:
    """Points (x, y) joined in order; `looks` are its CSS classes, `name` is said when it is pointed at."""

    points: Sequence[tuple[float, float]]
    looks: str
    name: str


@dataclass(frozen=True)
class Axis:
    """What an axis shows, from `low` to `high`; with `log` both must be above 0."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def place(self, value: float) -> float:
        """Where a value is: 0 at `low`, 1 at `high`."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return 0.5 if high == low else (value - low) / (high - low)

    def shows(self, value: float) -> bool:
        """Whether a value is on the axis; rounding may put an end a hair beyond it."""
        return (value > 0 or not self.log) and -1e-9 <= self.place(value) <= 1 + 1e-9

    def ticks(self) -> list[float]:
        """Round values to be written at the axis: 1, 2 or 5 times a power of ten."""
        return [tick for tick in (self._log_ticks() if self.log else self._even_ticks()) if self.shows(tick)]

    def _log_ticks(self) -> list[float]:
        lowest, highest = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = range(lowest, highest + 1)
        few = math.log10(self.high / self.low) < 2
        if few:
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
    """A figure with its caption. `mark` is an x that a thin upright line points out."""
    parts = [_upright(x, mark)] if mark is not None and x.shows(mark) else []
    for line in lines:
        points = [_at(x, y, *point) for point in line.points if x.shows(point[0]) and y.shows(point[1])]
        said = f"<title>{escape(line.name)}</title>"
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in points)
        dots = points if len(points) <= MOST_DOTS else ()
        circles = "".join(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="2.5"/>' for left, top in dots)
        parts.append(f'<g class="{line.looks}">{said}<polyline points="{path}"/>{circles}</g>')
    label = f"{title}. {y.label} against {x.label}."
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{_x_axis(x)}{_y_axis(y)}{"".join(parts)}</svg></figure>'
    )


def _at(x: Axis, y: Axis, across: float, up: float) -> tuple[float, float]:
    left = LEFT + x.place(across) * (WIDTH - LEFT - RIGHT)
    top = HEIGHT - BOTTOM - y.place(up) * (HEIGHT - TOP - BOTTOM)
    return left, top


def _upright(x: Axis, value: float) -> str:
    left = LEFT + x.place(value) * (WIDTH - LEFT - RIGHT)
    return f'<line class="mark" x1="{left:.1f}" x2="{left:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'


def _x_axis(x: Axis) -> str:
    floor = HEIGHT - BOTTOM
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>']
    for tick in x.ticks():
        left = LEFT + x.place(tick) * (WIDTH - LEFT - RIGHT)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text x="{left:.1f}" y="{floor + 16}" text-anchor="middle">{tick:.6g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>')
    return "".join(parts)


def _y_axis(y: Axis) -> str:
    floor = HEIGHT - BOTTOM
    parts = [f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{floor}"/>']
    for tick in y.ticks():
        top = floor - y.place(tick) * (floor - TOP)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{top + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    middle = (TOP + floor) / 2
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        f"{escape(y.label)}</text>"
    )
    return "".join(parts)
