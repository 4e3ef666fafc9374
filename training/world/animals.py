"""Animals: one mascot figure with an animal's ears, snout, tail and marks; the fish has a figure of its own.

Figure units: feet at the origin, y upwards is negative, a standing figure about 110 high.
"""

from __future__ import annotations

import math

from training.world.brush import Brush, Color, lighter, mix
from training.world.faces import PINK, contrast, ears, face, ink, smile
from training.world.pose import Look, Mounts, Pose, eyes, pattern


def arm(
    b: Brush, x: float, y: float, side: int, angle: float, color: Color, width: float, length: float = 25
) -> None:
    """An arm from the shoulder (x, y), `angle` degrees away from hanging down."""
    b.part = "limb"
    rad = math.radians(angle)
    hand = (x + side * math.sin(rad) * length, y + math.cos(rad) * length)
    elbow = ((x + hand[0]) / 2 + side * 3, (y + hand[1]) / 2 + 2)
    b.limb([(x, y), elbow, hand], color, width)


def _tail(b: Brush, look: Look, hip: float) -> None:
    b.part = "limb"
    c, s = look.body, look.second
    match look.who.subject:
        case "cat":
            b.limb([(8, hip - 4), (46, hip + 6), (38, hip - 32)], c, 7)
        case "rabbit":
            b.ellipse(19, hip - 4, 9, 9, lighter(s, 0.35))
        case "fox":
            brush = [
                (6, hip - 2),
                (26, hip + 6),
                (48, hip - 6),
                (52, hip - 38),
                (36, hip - 22),
                (18, hip - 12),
            ]
            b.polygon(brush, c, smooth=True)
            b.polygon(
                [(40, hip - 16), (51, hip - 16), (51, hip - 40), (40, hip - 26)], lighter(s, 0.2), smooth=True
            )
        case "dog":
            b.limb([(10, hip - 2), (30, hip - 6), (34, hip - 26)], c, 8)
        case "mouse":
            b.limb([(8, hip), (52, hip + 10), (46, hip - 24)], PINK, 4)
        case "leopard":
            b.limb([(8, hip - 4), (52, hip + 8), (44, hip - 36)], c, 8)
            b.ellipse(44, hip - 36, 5.5, 5.5, contrast(c, 0.6), outline=False, shade=0)
        case "dragon":
            tail = [(2, hip - 8), (30, hip + 10), (56, hip - 4), (60, hip - 20), (46, hip - 8), (26, hip - 6)]
            b.polygon(tail, c, smooth=True)
            b.polygon([(52, hip - 14), (72, hip - 22), (58, hip - 36)], s)


def _wings(b: Brush, look: Look, shoulder: float) -> None:
    b.part = "limb"
    for side in (-1, 1):
        points = [(8, 4), (32, -26), (58, -20), (48, -2), (50, 12), (34, 8), (26, 18)]
        b.polygon([(side * x, shoulder + y) for x, y in points], mix(look.second, look.body, 0.2))


def _legs(b: Brush, look: Look, pose: Pose, body_y: float, width: float) -> None:
    b.part = "limb"
    for side, (x, y) in ((-1, pose.left_foot), (1, pose.right_foot)):
        if look.who.subject == "owl":
            b.limb([(side * 7, body_y + 14), (x * 0.8, y - 4)], (238, 160, 56), 4)
            b.ellipse(x * 0.85, y - 3, 9, 4, (238, 160, 56))
            continue
        b.limb([(side * 9, body_y + 12), (x, y - 6)], look.body, width)
        b.ellipse(x + side * 2, y - 5, 10 * look.limb, 6, look.body)


def _owl_wings(b: Brush, look: Look, pose: Pose, body_y: float, rx: float) -> None:
    b.part = "limb"
    for side, angle in ((-1, pose.left_arm), (1, pose.right_arm)):
        with b.moved(side * rx * 0.82, body_y - 10, -side * angle * 0.8):
            feathers = [(-side * 5, -4), (side * 10, 2), (side * 9, 20), (0, 34), (-side * 7, 18)]
            b.polygon(feathers, contrast(look.body, 0.2), smooth=True)


def _arms(b: Brush, look: Look, pose: Pose, body_y: float, rx: float, width: float) -> None:
    if look.who.subject == "owl":
        _owl_wings(b, look, pose, body_y, rx)
        return
    for side, angle in ((-1, pose.left_arm), (1, pose.right_arm)):
        arm(b, side * rx * 0.78, body_y - 8, side, angle, look.body, width * 0.9)


def _head(b: Brush, look: Look, y: float, r: float) -> None:
    ears(b, look, y, r)
    head = b.ellipse(0, y, r * 1.08, r, look.body)
    if look.who.pattern == "striped":
        with b.clipped(head):
            for x in (-10, 0, 10):
                b.line([(x, y - r), (x * 0.8, y - r * 0.55)], look.second, 4.2)
    elif look.who.pattern == "spotted":
        for x, dy in ((-11, -0.66), (0, -0.76), (11, -0.66)):
            b.ellipse(x, y + r * dy, 3.6, 3.6, look.second, outline=False, shade=0)
    face(b, look, y, r)


def mascot(b: Brush, look: Look, pose: Pose) -> Mounts:
    """Any animal that stands on two legs."""
    name, c = look.who.subject, look.body
    body_y, rx, ry = -32 + pose.sink, 19 * look.wide, 20.0
    r = 28 * look.head
    head_y, width = body_y - 13 - r * 0.78, 10 * look.limb
    if name == "dragon":
        _wings(b, look, body_y - 8)
    _tail(b, look, body_y + 12)
    sits = pose.action in ("sitting", "sleeping")
    if not sits:
        _legs(b, look, pose, body_y, width)
    b.part = "body"
    body = b.ellipse(0, body_y, rx, ry, c)
    pattern(b, look, body, body_y - ry, body_y + ry, rx)
    if look.who.pattern == "plain":
        b.ellipse(0, body_y + 4, rx * 0.56, ry * 0.6, lighter(look.second, 0.2), outline=False)
    if sits:
        _legs(b, look, pose, body_y, width)
    _arms(b, look, pose, body_y, rx, width)
    _head(b, look, head_y, r)
    points = ((-r * 0.42, head_y - r * 0.08), (r * 0.42, head_y - r * 0.08))
    radius = (8.2 if name == "owl" else 7.0) * look.head
    eyes(b, look, points, radius, pose.asleep)
    return Mounts((0, head_y - r * 0.8), r * 0.78, (0, head_y + r * 0.94), rx * 0.95, points, radius)


def fish(b: Brush, look: Look, pose: Pose) -> Mounts:
    """A fish seen from the side; it hovers, and its fin does the waving."""
    c, s = look.body, look.second
    cy, rx, ry = -46 + pose.sink, 40 * look.wide, 30 * look.head
    e = look.ear
    b.part = "limb"
    b.polygon([(-rx * 0.8, cy), (-rx * 1.55, cy - 26 * e), (-rx * 1.32, cy), (-rx * 1.55, cy + 26 * e)], s)
    b.polygon([(-14, cy - ry * 0.8), (-4, cy - ry * 1.5), (16, cy - ry * 1.3), (18, cy - ry * 0.8)], s)
    b.polygon([(-6, cy + ry * 0.8), (-14, cy + ry * 1.4), (8, cy + ry * 0.9)], s)
    b.part = "body"
    body = b.ellipse(0, cy, rx, ry, c)
    pattern(b, look, body, cy - ry, cy + ry, rx)
    b.part = "head"
    with b.clipped(body):
        b.ellipse(rx * 0.95, cy, rx * 0.8, ry * 1.2, c)
    b.part = "limb"
    with b.moved(-6, cy + 4, -0.45 * (pose.right_arm - 20)):
        b.polygon([(2, -6), (-24, -4), (-22, 16), (0, 8)], s)
    b.part = "mouth"
    smile(b, rx * 0.62, cy + ry * 0.34, 6, ink(c))
    points = ((rx * 0.4, cy - ry * 0.14), (rx * 0.84, cy - ry * 0.14))
    eyes(b, look, points, 7.0, pose.asleep)
    return Mounts((rx * 0.45, cy - ry * 0.82), 17, (rx * 0.45, cy + ry * 0.82), 19, points, 7.0)
