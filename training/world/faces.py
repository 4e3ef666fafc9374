"""Marks, snouts, noses and mouths of the animals; the head is a circle of radius r around (0, y)."""

from __future__ import annotations

from training.world.brush import Brush, Color, darker, lighter, mix
from training.world.pose import Look

PINK = (246, 176, 186)
DARK = (44, 38, 42)
NOSE_PINK = (236, 104, 124)


def contrast(color: Color, amount: float) -> Color:
    """A tone of `color` that can be told from it: darker, or lighter where the colour is nearly black."""
    return darker(color, amount) if sum(color) > 210 else lighter(color, amount)


def ink(color: Color) -> Color:
    """The colour of lines on `color`."""
    return DARK if sum(color) > 210 else (226, 222, 226)


def smile(b: Brush, x: float, y: float, half: float, color: Color = DARK, width: float = 2.4) -> None:
    """A mouth: a curve `half` units to each side of x, whose ends are at y."""
    b.line([(x - half, y), (x, y + half), (x + half, y)], color, width)


def _pale(look: Look) -> Color:
    return lighter(look.second, 0.45)


def _whiskers(b: Brush, look: Look, y: float, r: float) -> None:
    for side in (-1, 1):
        for dy in (-4, 4):
            b.line([(side * r * 0.62, y + dy * 0.4), (side * r * 1.3, y + dy)], ink(look.body), 1.9)


def _cat(b: Brush, look: Look, y: float, r: float) -> None:
    b.polygon([(-4.5, y + r * 0.26), (4.5, y + r * 0.26), (0, y + r * 0.42)], NOSE_PINK, outline=False)
    for side in (-1, 1):
        smile(b, side * 4, y + r * 0.5, 4, ink(look.body))
    _whiskers(b, look, y + r * 0.42, r)


def _rabbit(b: Brush, look: Look, y: float, r: float) -> None:
    b.ellipse(0, y + r * 0.48, r * 0.42, r * 0.27, _pale(look), outline=False)
    b.rect(-4.6, y + r * 0.48, 4.6, y + r * 0.86, (255, 255, 255), 1)
    b.ellipse(0, y + r * 0.34, 4.6, 3.2, NOSE_PINK, outline=False)


def _bear(b: Brush, look: Look, y: float, r: float) -> None:
    b.ellipse(0, y + r * 0.48, r * 0.46, r * 0.36, _pale(look))
    b.ellipse(0, y + r * 0.34, r * 0.2, r * 0.14, DARK, outline=False)
    smile(b, 0, y + r * 0.58, 5)


def _fox(b: Brush, look: Look, y: float, r: float) -> None:
    for side in (-1, 1):
        cheek = [
            (0, y + r * 0.98),
            (side * r * 0.98, y + r * 0.34),
            (side * r * 0.6, y + r * 0.14),
            (0, y + r * 0.3),
        ]
        b.polygon(cheek, _pale(look), outline=False)
    b.ellipse(0, y + r * 0.42, r * 0.18, r * 0.13, DARK, outline=False)
    smile(b, 0, y + r * 0.66, 4.5)


def _dog(b: Brush, look: Look, y: float, r: float) -> None:
    b.ellipse(0, y + r * 0.5, r * 0.44, r * 0.34, _pale(look))
    b.rect(-4.2, y + r * 0.6, 4.2, y + r * 1.0, NOSE_PINK, 4)
    b.ellipse(0, y + r * 0.34, r * 0.22, r * 0.15, DARK, outline=False)
    b.part = "head"
    for side in (-1, 1):
        ear = [
            (side * r * 0.62, y - r * 0.92),
            (side * r * 1.36, y - r * 0.55),
            (side * r * 1.38, y + r * 0.6 * look.ear),
            (side * r * 0.96, y + r * 0.55),
            (side * r * 0.8, y - r * 0.3),
        ]
        b.polygon(ear, contrast(look.body, 0.3), smooth=True)


def _mouse(b: Brush, look: Look, y: float, r: float) -> None:
    b.ellipse(0, y + r * 0.36, 5.4, 4.4, NOSE_PINK, outline=False)
    smile(b, 0, y + r * 0.58, 5, ink(look.body))


def _owl(b: Brush, look: Look, y: float, r: float) -> None:
    b.part = "head"
    for side in (-1, 1):
        b.ellipse(side * r * 0.42, y - r * 0.06, r * 0.5, r * 0.5, _pale(look), outline=False)
    b.part = "mouth"
    b.polygon([(-r * 0.22, y + r * 0.16), (r * 0.22, y + r * 0.16), (0, y + r * 0.64)], (244, 168, 50))


def _leopard(b: Brush, look: Look, y: float, r: float) -> None:
    b.ellipse(0, y + r * 0.5, r * 0.44, r * 0.3, _pale(look), outline=False)
    b.polygon([(-5, y + r * 0.26), (5, y + r * 0.26), (0, y + r * 0.48)], DARK, outline=False)
    smile(b, 0, y + r * 0.58, 4.5)
    b.part = "head"
    for x, dy in ((-0.55, -0.6), (0, -0.74), (0.55, -0.6), (-0.84, 0.2), (0.84, 0.2)):
        b.ellipse(x * r, y + dy * r, 3.8, 3.8, contrast(look.body, 0.6), outline=False, shade=0)


def _dragon(b: Brush, look: Look, y: float, r: float) -> None:
    b.ellipse(0, y + r * 0.52, r * 0.64, r * 0.38, lighter(look.body, 0.25))
    for side in (-1, 1):
        b.ellipse(side * r * 0.24, y + r * 0.4, 2.6, 3, DARK, outline=False)
        tooth = [
            (side * r * 0.44, y + r * 0.72),
            (side * r * 0.2, y + r * 0.76),
            (side * r * 0.32, y + r * 1.04),
        ]
        b.polygon(tooth, (255, 255, 255))
    smile(b, 0, y + r * 0.62, 6)
    b.part = "head"
    for k in (-1, 0, 1):
        b.polygon([(k * 8 - 5, y - r * 0.88), (k * 8 + 5, y - r * 0.88), (k * 8, y - r * 1.24)], look.second)


_FACES = {
    "cat": _cat,
    "rabbit": _rabbit,
    "bear": _bear,
    "fox": _fox,
    "dog": _dog,
    "mouse": _mouse,
    "owl": _owl,
    "leopard": _leopard,
    "dragon": _dragon,
}


def face(b: Brush, look: Look, y: float, r: float) -> None:
    """Everything of an animal's face but its eyes."""
    b.part = "mouth"
    _FACES[look.who.subject](b, look, y, r)


def _pair(b: Brush, points, color: Color, **style) -> None:
    """A polygon and its mirror image."""
    for side in (-1, 1):
        b.polygon([(side * x, y) for x, y in points], color, **style)


def ears(b: Brush, look: Look, y: float, r: float) -> None:
    """Ears or horns, drawn before the head covers their lower ends."""
    b.part = "head"
    c, e, inner = look.body, look.ear, mix(PINK, look.second, 0.45)
    round_ears = {"bear": (0.74, 0.78, 0.36), "mouse": (1.0, 0.74, 0.62), "leopard": (0.8, 0.72, 0.32)}
    match look.who.subject:
        case "cat":
            _pair(b, [(r * 0.95, y - r * 0.2), (r * 0.84, y - r * 1.5 * e), (r * 0.1, y - r * 0.8)], c)
            _pair(
                b,
                [(r * 0.8, y - r * 0.5), (r * 0.75, y - r * 1.2 * e), (r * 0.36, y - r * 0.8)],
                inner,
                outline=False,
            )
        case "fox":
            _pair(b, [(r * 1.0, y - r * 0.1), (r * 0.92, y - r * 1.75 * e), (r * 0.1, y - r * 0.8)], c)
            _pair(
                b,
                [(r * 0.96, y - r * 1.1 * e), (r * 0.92, y - r * 1.7 * e), (r * 0.56, y - r * 1.24 * e)],
                DARK,
            )
        case "rabbit":
            for side in (-1, 1):
                with b.moved(side * r * 0.42, y - r * 0.7, side * 9):
                    b.ellipse(0, -r * 0.72 * e, r * 0.27, r * 0.9 * e, c)
                    b.ellipse(0, -r * 0.72 * e, r * 0.13, r * 0.66 * e, inner, outline=False)
        case "bear" | "mouse" | "leopard":
            dx, dy, size = round_ears[look.who.subject]
            middle = {"bear": look.second, "mouse": inner, "leopard": DARK}[look.who.subject]
            for side in (-1, 1):
                b.ellipse(side * r * dx, y - r * dy, r * size * e, r * size * e, c)
                b.ellipse(
                    side * r * dx, y - r * dy, r * size * 0.6 * e, r * size * 0.6 * e, middle, outline=False
                )
        case "owl":
            _pair(b, [(r * 0.98, y - r * 0.3), (r * 0.98, y - r * 1.4 * e), (r * 0.25, y - r * 0.85)], c)
        case "dragon":
            _pair(
                b,
                [(r * 0.7, y - r * 0.62), (r * 0.95, y - r * 1.6 * e), (r * 0.24, y - r * 0.88)],
                look.second,
            )
