"""Things (bus, gift box, teapot) as cartoon figures with faces and arms. Figure units as for animals."""

from __future__ import annotations

from training.world.animals import arm
from training.world.brush import Brush, darker, lighter
from training.world.faces import contrast, ink, smile
from training.world.pose import Look, Mounts, Pose, eyes, pattern

ARM = (70, 66, 74)


def _arms(b: Brush, pose: Pose, x: float, y: float, limb: float) -> None:
    for side, angle in ((-1, pose.left_arm), (1, pose.right_arm)):
        arm(b, side * x, y, side, angle + 12, ARM, 4.6 * limb, 21)


def _feet(b: Brush, pose: Pose) -> None:
    if pose.action != "running":
        return
    b.part = "limb"
    for x, y in (pose.left_foot, pose.right_foot):
        b.limb([(x * 0.7, -10), (x, y + 8)], ARM, 5)


def bus(b: Brush, look: Look, pose: Pose) -> Mounts:
    c, s, w, h = look.body, look.second, 50 * look.wide, 56 * look.head
    sag = pose.sink * 0.5
    top = -h - 9 + sag
    b.part = "body"
    body = b.rect(-w, top, w, -9 + sag, c, 9)
    pattern(b, look, body, top + h * 0.46, -10 + sag, w)
    if look.who.pattern == "plain":
        with b.clipped(body):
            b.rect(-w - 2, top + h * 0.6, w + 2, top + h * 0.74, s, outline=False, shade=0)
    for k in range(2):
        left = -w + 7 + k * w * 0.5
        b.rect(left, top + 8, left + w * 0.42, top + h * 0.46, (186, 222, 242), 3)
    b.part = "head"
    b.rect(w * 0.1, top + 6, w - 5, top + h * 0.52, (206, 234, 248), 4)
    b.part = "limb"
    for x in (-w * 0.58, w * 0.58):
        b.ellipse(x, -11, 12.5 * look.limb, 11, (48, 48, 54))
        b.ellipse(x, -11, 5.5 * look.limb, 5, (190, 194, 202), outline=False)
    if pose.action in ("waving", "jumping"):
        arm(b, w * 0.1, top + h * 0.7, 1, 160 if pose.action == "waving" else 120, ARM, 5, 26)
    b.part = "mouth"
    smile(b, w * 0.52, top + h * 0.64, 7, ink(c), 3)
    points = ((w * 0.31, top + h * 0.3), (w * 0.72, top + h * 0.3))
    eyes(b, look, points, 7.0, pose.asleep)
    return Mounts((w * 0.5, top + 2), 20, (w * 0.52, top + h * 0.86), 22, points, 7.0)


def gift_box(b: Brush, look: Look, pose: Pose) -> Mounts:
    c, s, w, h = look.body, look.second, 34 * look.wide, 56 * look.head
    top = -h + pose.sink
    _feet(b, pose)
    _arms(b, pose, w, top + h * 0.5, look.limb)
    b.part = "head"
    for side in (-1, 1):
        b.ellipse(side * 13, top - 20, 13 * look.ear, 9, s)
    b.part = "body"
    body = b.rect(-w, top, w, 0, c, 3)
    pattern(b, look, body, top + 2, 0, w)
    b.rect(-6, top, 6, 0, s, outline=False)
    lid = b.rect(-w - 5, top - 14, w + 5, top + 3, c, 3)
    with b.clipped(lid):
        b.rect(-6, top - 14, 6, top + 3, s, outline=False)
    b.ellipse(0, top - 17, 6.5, 6.5, lighter(s, 0.15))
    points = ((-w * 0.48, top + h * 0.3), (w * 0.48, top + h * 0.3))
    eyes(b, look, points, 7.4, pose.asleep)
    b.part = "mouth"
    smile(b, 0, top + h * 0.46, 7, ink(s), 3)
    return Mounts((0, top - 20), 19, (0, top + h * 0.78), w * 0.95, points, 7.4)


def teapot(b: Brush, look: Look, pose: Pose) -> Mounts:
    c, s, rx, ry = look.body, look.second, 35 * look.wide, 31 * look.head
    cy = -ry - 4 + pose.sink * 0.4
    b.part = "limb"
    handle = b.curve([(-rx * 0.8, cy - 16), (-rx * 1.85, cy), (-rx * 0.8, cy + 16)])
    b.stroke(handle, contrast(c, 0.6), 11)
    b.stroke(handle, c, 7)
    spout = [(0.7, 12), (1.22, -4), (1.45, -26), (1.74, -26), (1.5, 4), (0.7, 22)]
    b.polygon([(rx * x, cy + y) for x, y in spout], c)
    _feet(b, pose)
    if pose.action in ("waving", "jumping"):
        _arms(b, pose, rx * 0.8, cy + 6, look.limb)
    b.part = "body"
    b.rect(-rx * 0.5, -7, rx * 0.5, 0, s, 2)
    body = b.ellipse(0, cy, rx, ry, c)
    pattern(b, look, body, cy - ry, cy + ry, rx)
    b.part = "head"
    b.polygon([(-rx * 0.66, cy - ry * 0.7), (0, cy - ry * 1.36), (rx * 0.66, cy - ry * 0.7)], s)
    b.ellipse(0, cy - ry * 1.36, 6, 6, c if sum(c) > 210 else darker(s, 0.3))
    points = ((-rx * 0.36, cy - 5), (rx * 0.36, cy - 5))
    eyes(b, look, points, 7.2, pose.asleep)
    b.part = "mouth"
    smile(b, 0, cy + 9, 6, ink(c), 2.8)
    return Mounts((0, cy - ry * 1.26), 18, (0, cy + ry * 0.72), rx * 0.74, points, 7.2)
