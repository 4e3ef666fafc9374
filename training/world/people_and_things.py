"""People (robot, girl, doctor) and things (bus, gift box, teapot) as cartoon figures with faces and arms."""

from __future__ import annotations

from training.world.animals import DARK, _arm
from training.world.brush import Brush, Color, darker, lighter, mix
from training.world.pose import Look, Mounts, Pose, eyes, pattern

METAL = (176, 184, 194)


def robot(b: Brush, look: Look, pose: Pose) -> Mounts:
    c, s, w, limb = look.body, look.second, 18 * look.wide, 6.5 * look.limb
    y = -58 + pose.sink
    for side, (x, foot) in ((-1, pose.left_foot), (1, pose.right_foot)):
        b.limb([(side * 9, y + 36), (x, foot - 6)], METAL, limb)
        b.rect(x - 8, foot - 8, x + 8, foot, darker(METAL, 0.3), 3)
    _arm(b, -w, y + 12, -1, pose.left_arm, METAL, limb)
    body = b.rect(-w, y, w, y + 40, c, 5)
    pattern(b, look, body, y, y + 40, w, 3)
    b.rect(-w * 0.55, y + 12, w * 0.55, y + 28, s, 2)
    for k, color in enumerate(((240, 80, 80), (250, 210, 80), (110, 210, 120))):
        b.ellipse(-6 + 6 * k, y + 20, 2.1, 2.1, color, outline=False)
    _arm(b, w, y + 12, 1, pose.right_arm, METAL, limb)
    hw, top = 19 * look.head, y - 34 * look.head
    b.line([(0, top), (0, top - 12 * look.ear)], METAL, 3)
    b.ellipse(0, top - 13 * look.ear, 4, 4, s)
    for side in (-1, 1):
        b.rect(side * hw - 4, top + 10, side * hw + 4, top + 22, METAL, 2)
    b.rect(-hw, top, hw, y - 2, c, 6)
    b.rect(-hw * 0.8, top + 6, hw * 0.8, y - 8, mix(c, (230, 240, 246), 0.72), 4, shade=0.05)
    for k in range(-2, 3):
        b.rect(k * 4 - 1.6, y - 15, k * 4 + 1.6, y - 11, DARK, outline=False)
    points = ((-hw * 0.4, top + 14), (hw * 0.4, top + 14))
    eyes(b, look, points, 4.5, pose.asleep)
    return Mounts((0, top + 1), 15 * look.head, (0, y + 1), w * 0.9, points, 4.5)


def _person_head(b: Brush, look: Look, y: float, r: float, asleep: bool) -> tuple:
    b.ellipse(0, y, r, r * 1.02, look.who.skin)
    for side in (-1, 1):
        b.ellipse(side * r * 0.55, y + r * 0.34, 3, 2.2, (240, 130, 130), outline=False, shade=0, alpha=120)
    b.line([(-4, y + r * 0.5), (0, y + r * 0.68), (4, y + r * 0.5)], (150, 60, 60), 1.7)
    points = ((-r * 0.38, y + r * 0.02), (r * 0.38, y + r * 0.02))
    eyes(b, look, points, 3.9, asleep)
    return points


def _feet(b: Brush, look: Look, pose: Pose, hip: float, leg: Color, shoe: Color) -> None:
    for side, (x, y) in ((-1, pose.left_foot), (1, pose.right_foot)):
        b.limb([(side * 7, hip), (x, y - 6)], leg, 7 * look.limb)
        b.ellipse(x + side * 2, y - 4, 8, 4.4, shoe)


def girl(b: Brush, look: Look, pose: Pose) -> Mounts:
    """The main colour is her dress."""
    c, s, hair, skin = look.body, look.second, look.who.hair_color, look.who.skin
    y, r = -60 + pose.sink, 19 * look.head
    head = y - r * 0.82
    if look.who.hair_style == 0:
        for side in (-1, 1):
            b.ellipse(side * r * 1.22, head + r * 0.4, r * 0.36, r * 0.78, hair)
    elif look.who.hair_style == 1:
        b.rect(-r * 1.12, head - r * 0.4, r * 1.12, head + r * 1.7, hair, r * 0.8)
    else:
        b.ellipse(0, head - r * 1.14, r * 0.5, r * 0.45, hair)
    _feet(b, look, pose, y + 36, skin, s)
    _arm(b, -9, y + 8, -1, pose.left_arm, skin, 6.5 * look.limb)
    wide = 25 * look.wide
    dress = b.polygon([(-8, y), (8, y), (12, y + 14), (wide, y + 42), (-wide, y + 42), (-12, y + 14)], c)
    pattern(b, look, dress, y + 4, y + 42, wide, 4)
    b.polygon(
        [(-wide, y + 42), (wide, y + 42), (wide * 0.93, y + 37), (-wide * 0.93, y + 37)], s, outline=False
    )
    _arm(b, 9, y + 8, 1, pose.right_arm, skin, 6.5 * look.limb)
    b.ellipse(0, head - r * 0.1, r * 1.1, r * 1.06, hair)
    points = _person_head(b, look, head + 2, r * 0.92, pose.asleep)
    b.polygon(
        [
            (-r * 1.0, head - r * 0.1),
            (-r * 0.8, head - r * 0.95),
            (0, head - r * 1.12),
            (r * 0.8, head - r * 0.95),
            (r * 1.0, head - r * 0.1),
            (r * 0.5, head - r * 0.52),
            (-r * 0.2, head - r * 0.42),
        ],
        hair,
        outline=False,
    )
    return Mounts((0, head - r * 0.88), r * 0.76, (0, y + 2), 12, points, 3.9)


def doctor(b: Brush, look: Look, pose: Pose) -> Mounts:
    """The main colour is the coat; the stethoscope and the cross say who it is."""
    c, s, hair = look.body, look.second, look.who.hair_color
    y, r, w = -63 + pose.sink, 18 * look.head, 16.5 * look.wide
    head = y - r * 0.84
    _feet(b, look, pose, y + 42, (70, 78, 100), DARK)
    _arm(b, -w * 0.8, y + 9, -1, pose.left_arm, c, 8.5 * look.limb)
    coat = b.polygon(
        [(-w * 0.7, y), (w * 0.7, y), (w, y + 12), (w * 1.12, y + 48), (-w * 1.12, y + 48), (-w, y + 12)], c
    )
    pattern(b, look, coat, y + 6, y + 48, w * 1.1, 9)
    b.polygon([(-6, y), (6, y), (0, y + 18)], lighter(s, 0.35), outline=False)
    b.line([(0, y + 18), (0, y + 48)], darker(c, 0.4) if sum(c) > 210 else lighter(c, 0.4), 1.5)
    b.line([(-7, y + 1), (-9, y + 20), (0, y + 25)], DARK, 2.2)
    b.line([(7, y + 1), (9, y + 20), (0, y + 25)], DARK, 2.2)
    b.ellipse(0, y + 27, 4, 4, (200, 208, 218))
    b.rect(w * 0.28, y + 30, w * 0.28 + 9, y + 39, (255, 255, 255), 1.5)
    b.rect(w * 0.28 + 3.4, y + 31.5, w * 0.28 + 5.6, y + 37.5, (220, 40, 40), outline=False, shade=0)
    b.rect(w * 0.28 + 1.5, y + 33.4, w * 0.28 + 7.5, y + 35.6, (220, 40, 40), outline=False, shade=0)
    _arm(b, w * 0.8, y + 9, 1, pose.right_arm, c, 8.5 * look.limb)
    b.ellipse(0, head - r * 0.16, r * 1.06, r * 1.02, hair)
    points = _person_head(b, look, head + 2, r * 0.94, pose.asleep)
    top = [
        (-r * 1.0, head - r * 0.2),
        (-r * 0.7, head - r * 1.02),
        (r * 0.7, head - r * 1.02),
        (r * 1.0, head - r * 0.2),
        (r * 0.6, head - r * 0.6),
        (-r * 0.6, head - r * 0.6),
    ]
    b.polygon(top, hair, outline=False)
    if look.who.accessory != "hat":
        b.line(
            [(-r * 0.98, head - r * 0.42), (0, head - r * 0.62), (r * 0.98, head - r * 0.42)],
            (90, 96, 110),
            2.4,
        )
        b.ellipse(0, head - r * 0.6, 5, 5, (222, 234, 244))
    return Mounts((0, head - r * 0.84), r * 0.74, (0, y + 2), 12, points, 3.9)


def _thing_arms(b: Brush, pose: Pose, x: float, y: float, limb: float) -> None:
    for side, angle in ((-1, pose.left_arm), (1, pose.right_arm)):
        _arm(b, side * x, y, side, angle + 12, (70, 66, 74), 3.4 * limb, 19)


def _thing_mouth(b: Brush, x: float, y: float) -> None:
    b.line([(x - 5, y), (x, y + 5), (x + 5, y)], DARK, 1.8)


def bus(b: Brush, look: Look, pose: Pose) -> Mounts:
    c, s, w, h = look.body, look.second, 52 * look.wide, 52 * look.head
    top, sag = -h - 9 + pose.sink * 0.5, pose.sink * 0.5
    body = b.rect(-w, top, w, -9 + sag, c, 9)
    with b.clipped(body):
        pattern(b, look, body, top + h * 0.48, -10 + sag, w, 6)
        b.rect(-w, top + h * 0.52, w, top + h * 0.62, s, outline=False, shade=0)
    for k in range(3):
        left = -w + 6 + k * w * 0.42
        b.rect(left, top + 8, left + w * 0.34, top + h * 0.46, (186, 222, 242), 3)
    b.rect(w * 0.36, top + 7, w - 5, top + h * 0.5, (206, 234, 248), 4)
    b.rect(w - 4, -24 + sag, w + 3, -18 + sag, (255, 240, 150), 2)
    b.rect(-w - 2, -15 + sag, w + 3, -10 + sag, darker(s, 0.2), 2)
    for x in (-w * 0.58, w * 0.58):
        b.ellipse(x, -10, 11 * look.limb, 10, (48, 48, 54))
        b.ellipse(x, -10, 5 * look.limb, 4.6, (190, 194, 202), outline=False)
    if pose.action == "waving":
        _arm(b, w * 0.2, top + h * 0.7, 1, 160, (70, 66, 74), 3.6, 22)
    points = ((w * 0.53, top + h * 0.3), (w * 0.78, top + h * 0.3))
    eyes(b, look, points, 4.6, pose.asleep)
    _thing_mouth(b, w * 0.66, top + h * 0.66)
    return Mounts((w * 0.3, top + 1), 15, (w * 0.64, top + h * 0.84), 17, points, 4.6)


def gift_box(b: Brush, look: Look, pose: Pose) -> Mounts:
    c, s, w, h = look.body, look.second, 31 * look.wide, 50 * look.head
    top = -h + pose.sink
    _thing_arms(b, pose, w, top + h * 0.5, look.limb)
    if pose.action == "running":
        for side in (-1, 1):
            b.limb([(side * 12, -8), (side * 20, 6)], (70, 66, 74), 4)
    for side in (-1, 1):
        b.ellipse(side * 11, top - 19, 11 * look.ear, 8, s)
        b.ellipse(side * 11, top - 19, 5, 3.4, darker(s, 0.3), outline=False)
    body = b.rect(-w, top, w, 0, c, 3)
    pattern(b, look, body, top + 4, 0, w, 8)
    b.rect(-6, top, 6, 0, s, outline=False)
    lid = b.rect(-w - 4, top - 12, w + 4, top + 4, c, 3)
    with b.clipped(lid):
        b.rect(-6, top - 12, 6, top + 4, s, outline=False)
    b.ellipse(0, top - 15, 5.5, 5.5, lighter(s, 0.15))
    points = ((-w * 0.5, top + h * 0.36), (w * 0.5, top + h * 0.36))
    eyes(b, look, points, 4.8, pose.asleep)
    _thing_mouth(b, 0, top + h * 0.55)
    return Mounts((0, top - 20), 15, (0, top + h * 0.82), w * 0.96, points, 4.8)


def teapot(b: Brush, look: Look, pose: Pose) -> Mounts:
    c, s, rx, ry = look.body, look.second, 33 * look.wide, 27 * look.head
    cy = -ry - 3 + pose.sink * 0.4
    handle = b.curve([(-rx * 0.8, cy - 14), (-rx * 1.85, cy), (-rx * 0.8, cy + 14)])
    b.stroke(handle, darker(c, 0.4) if sum(c) > 210 else lighter(c, 0.3), 8.4)
    b.stroke(handle, c, 5.6)
    b.polygon(
        [
            (rx * 0.7, cy + 12),
            (rx * 1.22, cy - 4),
            (rx * 1.45, cy - 24),
            (rx * 1.72, cy - 24),
            (rx * 1.5, cy + 4),
            (rx * 0.7, cy + 22),
        ],
        c,
    )
    if pose.action in ("waving", "jumping"):
        _thing_arms(b, pose, rx * 0.8, cy + 6, look.limb)
    b.rect(-rx * 0.5, -6, rx * 0.5, 0, s, 2)
    body = b.ellipse(0, cy, rx, ry, c)
    pattern(b, look, body, cy - ry, cy + ry, rx, 2)
    b.polygon(
        [(-rx * 0.62, cy - ry * 0.72), (0, cy - ry * 1.36), (rx * 0.62, cy - ry * 0.72)], s, smooth=False
    )
    b.ellipse(0, cy - ry * 1.34, 5, 5, c)
    points = ((-rx * 0.36, cy - 4), (rx * 0.36, cy - 4))
    eyes(b, look, points, 4.8, pose.asleep)
    _thing_mouth(b, 0, cy + 7)
    return Mounts((0, cy - ry * 1.3), 14, (0, cy + ry * 0.66), rx * 0.72, points, 4.8)
