"""Animals: one mascot figure with an animal's ears, snout, tail and marks; the fish has a figure of its own.

Figure units: feet at the origin, y upwards is negative, a standing figure about 100 high.
"""

from __future__ import annotations

import math

from training.world.brush import Brush, Color, darker, lighter, mix
from training.world.pose import Look, Mounts, Pose, eyes, pattern

PINK = (246, 176, 186)
DARK = (44, 38, 42)


def _arm(
    b: Brush, x: float, y: float, side: int, angle: float, color: Color, width: float, length: float = 25
) -> None:
    rad = math.radians(angle)
    hand = (x + side * math.sin(rad) * length, y + math.cos(rad) * length)
    elbow = ((x + hand[0]) / 2 + side * 3, (y + hand[1]) / 2 + 2)
    b.limb([(x, y), elbow, hand], color, width)


def _tail(b: Brush, look: Look, hip: float, asleep: bool) -> None:
    c, s = look.body, look.second
    match look.who.subject:
        case "cat":
            b.limb([(8, hip - 4), (44, hip + 8), (34, hip - 34)], c, 5.5)
        case "rabbit":
            b.ellipse(17, hip - 4, 8, 8, lighter(s, 0.35))
        case "fox":
            b.polygon(
                [(6, hip - 2), (24, hip + 8), (44, hip - 4), (46, hip - 34), (34, hip - 20), (18, hip - 12)],
                c,
                smooth=True,
            )
            b.polygon(
                [(40, hip - 12), (47, hip - 14), (46, hip - 36), (37, hip - 22)], lighter(s, 0.2), smooth=True
            )
        case "dog":
            b.limb([(10, hip - 2), (28, hip - 6), (32, hip - 24)], c, 7)
        case "mouse":
            b.limb([(8, hip), (50, hip + 12), (44, hip - 22)], PINK, 2.6)
        case "leopard":
            b.limb([(8, hip - 4), (50, hip + 12), (42, hip - 36)], c, 6.5)
            for t in (0.45, 0.65, 0.85):
                x = (1 - t) ** 2 * 8 + 2 * t * (1 - t) * 50 + t * t * 42
                y = (1 - t) ** 2 * (hip - 4) + 2 * t * (1 - t) * (hip + 12) + t * t * (hip - 36)
                b.ellipse(x, y, 3.6, 2.4, darker(c, 0.6), outline=False, shade=0)
        case "dragon":
            b.polygon(
                [(2, hip - 8), (30, hip + 12), (56, hip - 4), (60, hip - 20), (46, hip - 8), (26, hip - 6)],
                c,
                smooth=True,
            )
            b.polygon([(54, hip - 14), (70, hip - 22), (60, hip - 32)], s)


def _wings(b: Brush, look: Look, shoulder: float) -> None:
    for side in (-1, 1):
        points = [
            (side * 8, shoulder + 4),
            (side * 30, shoulder - 26),
            (side * 52, shoulder - 20),
            (side * 44, shoulder - 6),
            (side * 46, shoulder + 8),
            (side * 32, shoulder + 4),
            (side * 26, shoulder + 16),
        ]
        b.polygon(points, mix(look.second, look.body, 0.2))


def _ears(b: Brush, look: Look, y: float, r: float) -> None:
    """Behind the head, which is a circle of radius r around (0, y)."""
    c, e = look.body, look.ear
    inner = mix(PINK, look.second, 0.45)
    for side in (-1, 1):
        match look.who.subject:
            case "cat":
                b.polygon(
                    [
                        (side * r * 0.92, y - r * 0.2),
                        (side * r * 0.82, y - r * 1.48 * e),
                        (side * r * 0.12, y - r * 0.8),
                    ],
                    c,
                )
                b.polygon(
                    [
                        (side * r * 0.8, y - r * 0.5),
                        (side * r * 0.74, y - r * 1.22 * e),
                        (side * r * 0.36, y - r * 0.8),
                    ],
                    inner,
                    outline=False,
                )
            case "fox":
                b.polygon(
                    [
                        (side * r * 1.0, y - r * 0.1),
                        (side * r * 0.92, y - r * 1.72 * e),
                        (side * r * 0.1, y - r * 0.8),
                    ],
                    c,
                )
                b.polygon(
                    [
                        (side * r * 0.97, y - r * 1.1 * e),
                        (side * r * 0.92, y - r * 1.7 * e),
                        (side * r * 0.58, y - r * 1.24 * e),
                    ],
                    DARK,
                    outline=False,
                )
            case "rabbit":
                with b.moved(side * r * 0.42, y - r * 0.7, side * 9):
                    b.ellipse(0, -r * 0.9 * e, r * 0.27, r * 1.08 * e, c)
                    b.ellipse(0, -r * 0.9 * e, r * 0.13, r * 0.82 * e, inner, outline=False)
            case "bear":
                b.ellipse(side * r * 0.74, y - r * 0.76, r * 0.36 * e, r * 0.36 * e, c)
                b.ellipse(
                    side * r * 0.74, y - r * 0.74, r * 0.19 * e, r * 0.19 * e, look.second, outline=False
                )
            case "mouse":
                b.ellipse(side * r * 0.98, y - r * 0.74, r * 0.64 * e, r * 0.64 * e, c)
                b.ellipse(side * r * 0.98, y - r * 0.74, r * 0.42 * e, r * 0.42 * e, inner, outline=False)
            case "leopard":
                b.ellipse(side * r * 0.8, y - r * 0.68, r * 0.32 * e, r * 0.36 * e, c)
                b.ellipse(side * r * 0.8, y - r * 0.68, r * 0.17 * e, r * 0.2 * e, DARK, outline=False)
            case "owl":
                b.polygon(
                    [
                        (side * r * 0.95, y - r * 0.3),
                        (side * r * 0.96, y - r * 1.38 * e),
                        (side * r * 0.25, y - r * 0.85),
                    ],
                    c,
                )
            case "dragon":
                b.polygon(
                    [
                        (side * r * 0.66, y - r * 0.62),
                        (side * r * 0.9, y - r * 1.6 * e),
                        (side * r * 0.26, y - r * 0.88),
                    ],
                    look.second,
                )


def _face(b: Brush, look: Look, y: float, r: float) -> None:
    """Marks, snout, nose and mouth; the eyes come later."""
    c, s = look.body, look.second
    pale = lighter(s, 0.45)
    match look.who.subject:
        case "cat":
            b.polygon(
                [(-2.6, y + r * 0.24), (2.6, y + r * 0.24), (0, y + r * 0.42)], (232, 110, 124), outline=False
            )
            b.line([(-4.4, y + r * 0.6), (-2.2, y + r * 0.68), (0, y + r * 0.44)], DARK, 1.3)
            b.line([(4.4, y + r * 0.6), (2.2, y + r * 0.68), (0, y + r * 0.44)], DARK, 1.3)
            _whiskers(b, y + r * 0.42, r)
        case "rabbit":
            b.ellipse(0, y + r * 0.46, r * 0.42, r * 0.3, pale, outline=False)
            b.ellipse(0, y + r * 0.3, 2.6, 1.8, (236, 116, 134), outline=False)
            b.rect(-2.6, y + r * 0.5, 2.6, y + r * 0.8, (255, 255, 255), 1)
        case "bear":
            b.ellipse(0, y + r * 0.4, r * 0.48, r * 0.4, pale)
            b.ellipse(0, y + r * 0.24, r * 0.2, r * 0.14, DARK, outline=False)
            b.line([(0, y + r * 0.34), (0, y + r * 0.58)], DARK, 1.4)
        case "fox":
            for side in (-1, 1):
                b.polygon(
                    [
                        (0, y + r * 0.98),
                        (side * r * 0.98, y + r * 0.3),
                        (side * r * 0.55, y + r * 0.02),
                        (side * 1.5, y + r * 0.3),
                    ],
                    pale,
                    outline=False,
                )
            b.ellipse(0, y + r * 0.74, r * 0.16, r * 0.13, DARK, outline=False)
        case "dog":
            b.ellipse(r * 0.42, y - r * 0.1, r * 0.38, r * 0.42, s, outline=False, shade=0.05)
            b.ellipse(0, y + r * 0.45, r * 0.44, r * 0.36, pale)
            b.rect(-3.2, y + r * 0.62, 3.2, y + r * 1.0, (236, 110, 120), 3)
            b.ellipse(0, y + r * 0.28, r * 0.22, r * 0.16, DARK, outline=False)
            for side in (-1, 1):
                b.polygon(
                    [
                        (side * r * 0.62, y - r * 0.86),
                        (side * r * 1.3, y - r * 0.5),
                        (side * r * 1.28, y + r * 0.55 * look.ear),
                        (side * r * 0.92, y + r * 0.5),
                        (side * r * 0.72, y - r * 0.3),
                    ],
                    darker(c, 0.3) if sum(c) > 210 else lighter(c, 0.22),
                    smooth=True,
                )
        case "mouse":
            b.ellipse(0, y + r * 0.5, r * 0.26, r * 0.3, pale, outline=False)
            b.ellipse(0, y + r * 0.34, 3.4, 2.9, (238, 110, 134), outline=False)
            _whiskers(b, y + r * 0.46, r)
        case "owl":
            for side in (-1, 1):
                b.ellipse(side * r * 0.42, y - r * 0.08, r * 0.47, r * 0.5, pale, outline=False)
            b.polygon(
                [(-r * 0.17, y + r * 0.14), (r * 0.17, y + r * 0.14), (0, y + r * 0.58)], (244, 168, 50)
            )
        case "leopard":
            b.ellipse(0, y + r * 0.46, r * 0.46, r * 0.34, pale, outline=False)
            b.polygon([(-3.6, y + r * 0.2), (3.6, y + r * 0.2), (0, y + r * 0.44)], DARK, outline=False)
            for x, dy in (
                (-0.62, -0.5),
                (-0.3, -0.72),
                (0.04, -0.62),
                (0.34, -0.74),
                (0.64, -0.5),
                (-0.78, 0.22),
                (0.78, 0.22),
            ):
                b.ellipse(
                    x * r,
                    y + dy * r,
                    2.2,
                    2.2,
                    darker(c, 0.62) if sum(c) > 210 else lighter(c, 0.45),
                    outline=False,
                    shade=0,
                )
            _whiskers(b, y + r * 0.46, r)
        case "dragon":
            b.ellipse(0, y + r * 0.48, r * 0.62, r * 0.42, lighter(c, 0.16))
            for side in (-1, 1):
                b.ellipse(side * r * 0.22, y + r * 0.36, 1.9, 2.4, DARK, outline=False)
                b.polygon(
                    [
                        (side * r * 0.4, y + r * 0.74),
                        (side * r * 0.2, y + r * 0.8),
                        (side * r * 0.3, y + r * 1.02),
                    ],
                    (255, 255, 255),
                )
            for k in (-1, 0, 1):
                b.polygon([(k * 5 - 3, y - r * 0.9), (k * 5 + 3, y - r * 0.9), (k * 5, y - r * 1.2)], s)


def _whiskers(b: Brush, y: float, r: float) -> None:
    for side in (-1, 1):
        for dy in (-2.6, 1.2):
            b.line([(side * r * 0.4, y), (side * r * 1.18, y + dy * 1.6)], (70, 66, 72), 1.0)


def mascot(b: Brush, look: Look, pose: Pose) -> Mounts:
    """Any animal that stands on two legs."""
    name, c = look.who.subject, look.body
    sink = pose.sink
    body_y, rx, ry = -37 + sink, 17.5 * look.wide, 22.0
    head_r = 23.5 * look.head
    head_y = body_y - 20 - head_r * 0.72
    width = 9.5 * look.limb
    if name == "dragon":
        _wings(b, look, body_y - 12)
    _tail(b, look, body_y + 14, pose.asleep)
    legs_first = pose.action != "sitting"
    if legs_first:
        _legs(b, look, pose, body_y, width)
    if name != "owl":
        _arm(b, -rx * 0.75, body_y - 11, -1, pose.left_arm, c, width * 0.85)
    body = b.ellipse(0, body_y, rx, ry, c)
    pattern(b, look, body, body_y - ry, body_y + ry, rx, 7)
    belly = b.ellipse(0, body_y + 6, rx * 0.5, ry * 0.58, lighter(look.second, 0.3), outline=False)
    if name == "dragon":
        with b.clipped(belly):
            for y in range(int(body_y - 8), int(body_y + 22), 5):
                b.line([(-20, y), (20, y)], darker(look.second, 0.15), 1.2)
    if not legs_first:
        _legs(b, look, pose, body_y, width)
    if name == "owl":
        _owl_wings(b, look, pose, body_y, rx)
    else:
        _arm(b, rx * 0.75, body_y - 11, 1, pose.right_arm, c, width * 0.85)
    _ears(b, look, head_y, head_r)
    head = b.ellipse(0, head_y, head_r * 1.06, head_r, c)
    if look.who.pattern == "striped":
        with b.clipped(head):
            for x in (-7, 0, 7):
                b.line([(x, head_y - head_r), (x * 0.8, head_y - head_r * 0.58)], look.second, 2.8)
    elif look.who.pattern == "spotted":
        for x, dy in ((-8, -0.7), (1, -0.76), (9, -0.66)):
            b.ellipse(x, head_y + head_r * dy, 2.5, 2.5, look.second, outline=False, shade=0)
    _face(b, look, head_y, head_r)
    points = ((-head_r * 0.4, head_y - head_r * 0.1), (head_r * 0.4, head_y - head_r * 0.1))
    radius = (5.6 if name == "owl" else 4.3) * look.head
    eyes(b, look, points, radius, pose.asleep)
    return Mounts((0, head_y - head_r * 0.84), head_r * 0.72, (0, body_y - 19), rx * 0.95, points, radius)


def _legs(b: Brush, look: Look, pose: Pose, body_y: float, width: float) -> None:
    for side, (x, y) in ((-1, pose.left_foot), (1, pose.right_foot)):
        if look.who.subject == "owl":
            b.limb([(side * 7, body_y + 16), (x * 0.8, y - 4)], (238, 160, 56), 3.2)
            b.ellipse(x * 0.85, y - 2.5, 7, 3, (238, 160, 56))
            continue
        b.limb([(side * 9, body_y + 14), (x, y - 6)], look.body, width)
        b.ellipse(x + side * 2, y - 4, 8.5 * look.limb, 5, look.body)


def _owl_wings(b: Brush, look: Look, pose: Pose, body_y: float, rx: float) -> None:
    shade = darker(look.body, 0.2) if sum(look.body) > 210 else lighter(look.body, 0.18)
    for side, angle in ((-1, pose.left_arm), (1, pose.right_arm)):
        with b.moved(side * rx * 0.82, body_y - 12, -side * angle * 0.8):
            b.polygon(
                [(-side * 5, -4), (side * 8, 2), (side * 7, 20), (0, 34), (-side * 6, 18)], shade, smooth=True
            )


def fish(b: Brush, look: Look, pose: Pose) -> Mounts:
    """A fish seen from the side; it hovers, and its fin does the waving."""
    c, s = look.body, look.second
    cy, rx, ry = -44 + pose.sink, 38 * look.wide, 25 * look.head
    swing = 0.35 * (pose.right_arm - 20)
    b.polygon(
        [
            (-rx * 0.8, cy),
            (-rx * 1.55, cy - 24 * look.ear),
            (-rx * 1.32, cy),
            (-rx * 1.55, cy + 24 * look.ear),
        ],
        s,
    )
    b.polygon(
        [(-14, cy - ry * 0.8), (-4, cy - ry * 1.55), (16, cy - ry * 1.3), (18, cy - ry * 0.8)],
        s,
        smooth=False,
    )
    b.polygon([(-6, cy + ry * 0.8), (-14, cy + ry * 1.4), (8, cy + ry * 0.9)], s)
    body = b.ellipse(0, cy, rx, ry, c)
    pattern(b, look, body, cy - ry, cy + ry, rx, 5)
    with b.clipped(body):
        b.ellipse(4, cy + ry * 0.95, rx * 0.7, ry * 0.5, lighter(s, 0.4), outline=False)
        b.line(
            [(rx * 0.3, cy - ry), (rx * 0.12, cy), (rx * 0.3, cy + ry)],
            darker(c, 0.3) if sum(c) > 210 else lighter(c, 0.3),
            2,
        )
    with b.moved(-2, cy + 4, -swing):
        b.polygon([(2, -4), (-20, -1), (-18, 13), (0, 6)], s, smooth=False)
    b.line([(rx * 0.94, cy + 6), (rx * 0.78, cy + 9), (rx * 0.66, cy + 5)], DARK, 1.6)
    points = ((rx * 0.48, cy - 6), (rx * 0.82, cy - 7))
    eyes(b, look, points, 5.0, pose.asleep)
    return Mounts((rx * 0.4, cy - ry * 0.88), 14, (rx * 0.34, cy + ry * 0.62), 17, points, 5.0)
