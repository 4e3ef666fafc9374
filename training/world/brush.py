"""A small layer over skia: shapes with soft light and an outline, in whatever coordinates the canvas is set
to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager

import numpy as np
import skia

Color = tuple[int, int, int]
Point = tuple[float, float]


def mix(a: Color, b: Color, amount: float) -> Color:
    """`a` moved towards `b` by `amount` in 0..1."""
    return tuple(round(x + (y - x) * amount) for x, y in zip(a, b, strict=True))


def lighter(color: Color, amount: float = 0.25) -> Color:
    return mix(color, (255, 255, 255), amount)


def darker(color: Color, amount: float = 0.25) -> Color:
    return mix(color, (0, 0, 0), amount)


# What a pixel of the figure belongs to; the position is the number in a part map.
PARTS = ("scene", "body", "limb", "head", "eye", "mouth", "accessory", "mark")
LABEL_STEP = 24  # grey levels between two parts on the label canvas


def rim(color: Color) -> Color:
    """Outline colour: much darker than the fill, but lighter for near-black fills, which would vanish at
    night."""
    return mix(color, (255, 255, 255), 0.42) if sum(color) < 210 else darker(color, 0.62)


def _argb(color: Color, alpha: int = 255) -> int:
    return skia.Color(*color, alpha)


class Brush:
    """Draws on one skia canvas. Units are those of the canvas; `line_width` is the outline's width in
    them.

    Where a canvas `labels` is given, every shape is drawn there too, in the grey level of the current `part`
    (one of PARTS) and without smoothing, so that it ends up as a part map.
    """

    def __init__(self, canvas: skia.Canvas, line_width: float = 2.0, labels: skia.Canvas | None = None):
        self.canvas = canvas
        self.line_width = line_width
        self.part = PARTS[0]
        self._labels = labels
        self._canvases = [canvas] if labels is None else [canvas, labels]

    def _label(self, path: skia.Path, width: float | None = None) -> None:
        if self._labels is None:
            return
        level = PARTS.index(self.part) * LABEL_STEP
        paint = skia.Paint(AntiAlias=False, Color=_argb((level, level, level)))
        if width is not None:
            paint.setStyle(skia.Paint.kStroke_Style)
            paint.setStrokeWidth(width)
        self._labels.drawPath(path, paint)

    def path(self, points: Sequence[Point], smooth: bool = False) -> skia.Path:
        """A closed path through `points`; `smooth` rounds it by quadratic curves through the mid points."""
        out = skia.Path()
        if not smooth:
            out.addPoly([skia.Point(*p) for p in points], True)
            return out
        mids = [
            ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
            for a, b in zip(points, [*points[1:], points[0]], strict=True)
        ]
        out.moveTo(*mids[-1])
        for point, mid in zip(points, mids, strict=True):
            out.quadTo(*point, *mid)
        out.close()
        return out

    def oval(self, cx: float, cy: float, rx: float, ry: float) -> skia.Path:
        out = skia.Path()
        out.addOval(skia.Rect(cx - rx, cy - ry, cx + rx, cy + ry))
        return out

    def box(self, left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> skia.Path:
        out = skia.Path()
        out.addRoundRect(skia.Rect(left, top, right, bottom), radius, radius)
        return out

    def fill(
        self, path: skia.Path, color: Color, outline: bool = True, shade: float = 0.05, alpha: int = 255
    ) -> None:
        """Fill with light from above (`shade` is its strength) and, if asked, an outline in the rim
        colour."""
        bounds = path.getBounds()
        paint = skia.Paint(AntiAlias=True, Color=_argb(color, alpha))
        if shade:
            top, bottom = _argb(lighter(color, shade), alpha), _argb(darker(color, shade), alpha)
            ends = [skia.Point(bounds.centerX(), bounds.top()), skia.Point(bounds.centerX(), bounds.bottom())]
            paint.setShader(skia.GradientShader.MakeLinear(ends, [top, bottom]))
        self.canvas.drawPath(path, paint)
        self._label(path)
        if outline:
            self.stroke(path, rim(color), self.line_width)

    def stroke(self, path: skia.Path, color: Color, width: float, alpha: int = 255) -> None:
        paint = skia.Paint(
            AntiAlias=True,
            Color=_argb(color, alpha),
            Style=skia.Paint.kStroke_Style,
            StrokeWidth=width,
            StrokeCap=skia.Paint.kRound_Cap,
            StrokeJoin=skia.Paint.kRound_Join,
        )
        self.canvas.drawPath(path, paint)
        self._label(path, width)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, color: Color, **style) -> skia.Path:
        path = self.oval(cx, cy, rx, ry)
        self.fill(path, color, **style)
        return path

    def rect(
        self, left: float, top: float, right: float, bottom: float, color: Color, radius: float = 0, **style
    ):
        path = self.box(left, top, right, bottom, radius)
        self.fill(path, color, **style)
        return path

    def polygon(self, points: Sequence[Point], color: Color, smooth: bool = False, **style) -> skia.Path:
        path = self.path(points, smooth)
        self.fill(path, color, **style)
        return path

    def curve(self, points: Sequence[Point]) -> skia.Path:
        """An open curve through three points or a poly-line through any other number."""
        out = skia.Path()
        out.moveTo(*points[0])
        if len(points) == 3:
            out.quadTo(*points[1], *points[2])
        else:
            for point in points[1:]:
                out.lineTo(*point)
        return out

    def line(self, points: Sequence[Point], color: Color, width: float, alpha: int = 255) -> None:
        self.stroke(self.curve(points), color, width, alpha)

    def limb(self, points: Sequence[Point], color: Color, width: float) -> None:
        """A round, thick, outlined line: arms, legs, tails."""
        path = self.curve(points)
        self.stroke(path, rim(color), width + 2 * self.line_width)
        self.stroke(path, color, width)

    def gradient(self, stops: Sequence[tuple[float, Color]], top: float = 0, bottom: float = 256) -> None:
        """Fill the whole canvas with a vertical gradient; stops are (place in 0..1, colour)."""
        ends = [skia.Point(0, top), skia.Point(0, bottom)]
        shader = skia.GradientShader.MakeLinear(ends, [_argb(c) for _, c in stops], [p for p, _ in stops])
        self.canvas.drawPaint(skia.Paint(Shader=shader))

    def glow(self, cx: float, cy: float, radius: float, color: Color, alpha: int = 120) -> None:
        shader = skia.GradientShader.MakeRadial(
            skia.Point(cx, cy), radius, [_argb(color, alpha), _argb(color, 0)]
        )
        self.canvas.drawCircle(cx, cy, radius, skia.Paint(AntiAlias=True, Shader=shader))

    @contextmanager
    def _saved(self):
        for canvas in self._canvases:
            canvas.save()
        try:
            yield
        finally:
            for canvas in self._canvases:
                canvas.restore()

    @contextmanager
    def clipped(self, path: skia.Path):
        """Everything drawn inside stays within `path`."""
        with self._saved():
            for canvas in self._canvases:
                canvas.clipPath(path, doAntiAlias=canvas is self.canvas)
            yield

    @contextmanager
    def moved(self, dx: float = 0, dy: float = 0, degrees: float = 0, sx: float = 1, sy: float = 1):
        """A local coordinate system: scaled, then turned, then moved."""
        with self._saved():
            for canvas in self._canvases:
                canvas.translate(dx, dy)
                canvas.rotate(degrees)
                canvas.scale(sx, sy)
            yield


def scatter(rng: np.random.Generator, count: int, x: Point, y: Point) -> Iterable[Point]:
    """`count` random points in a box, the farthest (smallest y) first, so that near things cover far ones."""
    points = np.stack([rng.uniform(*x, count), rng.uniform(*y, count)], 1)
    return [tuple(p) for p in points[np.argsort(points[:, 1])]]
