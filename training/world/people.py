"""People (robot, girl, doctor) as cartoon figures. Figure units as for animals."""

from __future__ import annotations

from training.world.animals import arm
from training.world.brush import Brush, Color, darker, lighter, mix
from training.world.faces import DARK, contrast, smile
from training.world.pose import Look, Mounts, Pose, eyes, pattern

METAL = (176, 184, 194)


def robot(b: Brush, look: Look, pose: Pose) -> Mounts:
    c, s, w, limb = look.body, look.second, 20 * look.wide, 8 * look.limb
    y = -50 + pose.sink
    b.part = "limb"
    for side, (x, foot) in ((-1, pose.left_foot), (1, pose.right_foot)):
        b.limb([(side * 9, y + 32), (x, foot - 6)], METAL, limb)
        b.rect(x - 10, foot - 9, x + 10, foot, darker(METAL, 0.3), 3)
    for side, angle in ((-1, pose.left_arm), (1, pose.right_arm)):
        arm(b, side * w, y + 9, side, angle, METAL, limb)
    b.part = "body"
    body = b.rect(-w, y, w, y + 36, c, 5)
    pattern(b, look, body, y, y + 36, w)
    if look.who.pattern == "plain":
        b.rect(-w * 0.6, y + 14, w * 0.6, y + 29, s, 2)
    b.part = "head"
    hw, top = 28 * look.head, y - 43 * look.head
    b.line([(0, top), (0, top - 8 * look.ear)], METAL, 5)
    b.ellipse(0, top - 10 * look.ear, 6, 6, s)
    for side in (-1, 1):
        b.rect(side * hw - 5, top + 14, side * hw + 5, top + 28, METAL, 2)
    b.rect(-hw, top, hw, y - 2, c, 7)
    b.rect(-hw * 0.82, top + 6, hw * 0.82, y - 8, mix(c, (230, 240, 246), 0.72), 4)
    b.part = "mouth"
    b.rect(-12, y - 17, 12, y - 11, DARK, 2, outline=False)
    points = ((-hw * 0.42, top + 18), (hw * 0.42, top + 18))
    eyes(b, look, points, 7.2, pose.asleep)
    return Mounts((0, top + 2), 21 * look.head, (0, y), w * 0.95, points, 7.2)


def _head(b: Brush, look: Look, y: float, r: float, asleep: bool) -> tuple:
    """A face on skin, and the fringe's place is left free; returns where the eyes are."""
    b.part = "head"
    b.ellipse(0, y, r, r * 1.02, look.who.skin)
    b.part = "mouth"
    smile(b, 0, y + r * 0.5, 6, (150, 50, 56), 2.6)
    points = ((-r * 0.4, y + r * 0.06), (r * 0.4, y + r * 0.06))
    eyes(b, look, points, 6.4, asleep)
    return points


def _fringe(b: Brush, y: float, r: float, color: Color) -> None:
    b.part = "head"
    points = [
        (-1.04, -0.1),
        (-0.82, -0.95),
        (0, -1.14),
        (0.82, -0.95),
        (1.04, -0.1),
        (0.55, -0.48),
        (-0.2, -0.44),
    ]
    b.polygon([(x * r, y + dy * r) for x, dy in points], color, outline=False)


def _feet(b: Brush, look: Look, pose: Pose, hip: float, leg: Color, shoe: Color) -> None:
    b.part = "limb"
    for side, (x, y) in ((-1, pose.left_foot), (1, pose.right_foot)):
        b.limb([(side * 7, hip), (x, y - 6)], leg, 8 * look.limb)
        b.ellipse(x + side * 2, y - 5, 9.5, 5.5, shoe)


def _hair(b: Brush, look: Look, head: float, r: float) -> None:
    b.part = "head"
    hair = look.who.hair_color
    if look.who.hair_style == 0:
        for side in (-1, 1):
            b.ellipse(side * r * 1.22, head + r * 0.35, r * 0.36, r * 0.72, hair)
    elif look.who.hair_style == 1:
        b.rect(-r * 1.16, head - r * 0.4, r * 1.16, head + r * 1.35, hair, r * 0.6)
    else:
        b.ellipse(0, head - r * 1.14, r * 0.5, r * 0.4, hair)


def girl(b: Brush, look: Look, pose: Pose) -> Mounts:
    """The main colour is her dress."""
    c, s, hair, skin = look.body, look.second, look.who.hair_color, look.who.skin
    y, r = -52 + pose.sink, 26 * look.head
    head, wide = y - r * 0.78, 27 * look.wide
    _hair(b, look, head, r)
    _feet(b, look, pose, y + 34, skin, s)
    for side, angle in ((-1, pose.left_arm), (1, pose.right_arm)):
        arm(b, side * 10, y + 8, side, angle, skin, 7.5 * look.limb)
    b.part = "body"
    dress = b.polygon([(-9, y), (9, y), (14, y + 12), (wide, y + 38), (-wide, y + 38), (-14, y + 12)], c)
    pattern(b, look, dress, y + 4, y + 38, wide)
    if look.who.pattern == "plain":
        hem = [(-wide, y + 38), (wide, y + 38), (wide * 0.86, y + 30), (-wide * 0.86, y + 30)]
        b.polygon(hem, s, outline=False)
    b.part = "head"
    b.ellipse(0, head - r * 0.08, r * 1.1, r * 1.06, hair)
    points = _head(b, look, head + 2, r * 0.94, pose.asleep)
    _fringe(b, head, r, hair)
    return Mounts((0, head - r * 0.84), r * 0.8, (0, y + 3), 15, points, 6.4)


def doctor(b: Brush, look: Look, pose: Pose) -> Mounts:
    """The main colour is the coat; the stethoscope, the cross and the mirror say who it is."""
    c, s, hair = look.body, look.second, look.who.hair_color
    y, r, w = -54 + pose.sink, 25 * look.head, 18 * look.wide
    head = y - r * 0.8
    _feet(b, look, pose, y + 38, (70, 78, 100), DARK)
    for side, angle in ((-1, pose.left_arm), (1, pose.right_arm)):
        arm(b, side * w * 0.8, y + 9, side, angle, c, 9.5 * look.limb)
    b.part = "body"
    outline = [(-0.7, 0), (0.7, 0), (1, 12), (1.14, 43), (-1.14, 43), (-1, 12)]
    coat = b.polygon([(w * x, y + dy) for x, dy in outline], c)
    pattern(b, look, coat, y + 4, y + 43, w * 1.1)
    b.polygon([(-8, y), (8, y), (0, y + 17)], lighter(s, 0.2), outline=False)
    for side in (-1, 1):
        b.line([(side * 8, y + 1), (side * 10, y + 18), (0, y + 24)], contrast(c, 0.7), 3)
    b.ellipse(0, y + 25, 5, 5, (200, 208, 218))
    b.rect(w * 0.2, y + 27, w * 0.2 + 13, y + 40, (255, 255, 255), 1.5)
    b.rect(w * 0.2 + 5, y + 29, w * 0.2 + 8, y + 38, (220, 40, 40), outline=False, shade=0)
    b.rect(w * 0.2 + 2, y + 32, w * 0.2 + 11, y + 35, (220, 40, 40), outline=False, shade=0)
    b.part = "head"
    b.ellipse(0, head - r * 0.14, r * 1.08, r * 1.04, hair)
    points = _head(b, look, head + 2, r * 0.94, pose.asleep)
    _fringe(b, head, r, hair)
    if look.who.accessory != "hat":
        b.line([(-r, head - r * 0.44), (0, head - r * 0.6), (r, head - r * 0.44)], (90, 96, 110), 3.4)
        b.ellipse(0, head - r * 0.62, 7, 7, (222, 234, 244))
    return Mounts((0, head - r * 0.82), r * 0.8, (0, y + 3), 15, points, 6.4)
