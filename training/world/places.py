"""Scenes among people: streets and rooms. Same contract as `nature`."""

from __future__ import annotations

import numpy as np

from training.world.brush import Brush, Color, darker, lighter
from training.world.nature import Span, clouds, ground, tint

_BOOKS = (
    (176, 62, 58),
    (62, 104, 160),
    (70, 134, 96),
    (214, 162, 66),
    (132, 84, 146),
    (216, 206, 186),
    (92, 74, 66),
)


def city_street(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (170, 204, 230))), (0.6, tint(rng, (238, 232, 226)))])
    horizon, x = rng.uniform(168, 178), -rng.uniform(0, 60)
    while x < 256:
        top = rng.uniform(34, 80)
        wall = [(186, 140, 116), (150, 160, 178), (204, 186, 156)][rng.integers(3)]
        b.rect(x, top, x + 62, horizon + 4, wall)
        for wx in (x + 9, x + 36):
            for wy in np.arange(top + 12, horizon - 22, 30):
                b.rect(wx, wy, wx + 17, wy + 19, (255, 236, 160), outline=False, shade=0)
        x += 62
    b.rect(-5, horizon, 261, horizon + 14, (198, 196, 192), outline=False)
    ground(b, horizon + 14, tint(rng, (104, 106, 114), 8))
    for x in np.arange(rng.uniform(-60, 0), 256, 64):
        b.rect(x, 242, x + 36, 248, (240, 238, 226), outline=False, shade=0)
    return 204, 236


def parking_lot(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (186, 208, 224))), (0.5, tint(rng, (232, 236, 236)))])
    clouds(b, rng, 1, 18, 40)
    horizon = rng.uniform(138, 148)
    b.rect(-5, horizon - 44, 261, horizon, tint(rng, (206, 198, 184)), outline=False)
    ground(b, horizon, tint(rng, (132, 134, 140), 8))
    for x in np.arange(rng.uniform(-30, 0), 300, 58):
        b.polygon(
            [(x, horizon + 24), (x + 4, horizon + 24), (x - 16, 262), (x - 23, 262)],
            (248, 244, 226),
            outline=False,
            shade=0,
        )
    for x in rng.choice(np.arange(20, 256, 58), 2, replace=False) + rng.uniform(-8, 8):
        _car(b, x, horizon + 12, _BOOKS[rng.integers(5)])
    return 206, 240


def _car(b: Brush, x: float, y: float, color: Color) -> None:
    b.rect(x - 15, y - 25, x + 15, y - 8, color, 7)
    b.rect(x - 11, y - 22, x + 11, y - 14, (196, 222, 236), 3, outline=False)
    b.rect(x - 22, y - 14, x + 22, y - 1, color, 5)
    for dx in (-13, 13):
        b.ellipse(x + dx, y, 5, 5, (44, 44, 50), outline=False)


def cafe(b: Brush, rng: np.random.Generator) -> Span:
    wall = tint(rng, [(240, 214, 184), (226, 206, 190), (214, 222, 200)][rng.integers(3)], 8)
    b.gradient([(0, lighter(wall, 0.1)), (0.8, darker(wall, 0.06))])
    floor = rng.uniform(168, 178)
    ground(b, floor, tint(rng, (160, 108, 76)))
    x = rng.uniform(60, 150)
    b.rect(x, 32, x + 62, 108, (188, 226, 246), 3)
    b.line([(x + 31, 32), (x + 31, 108)], (250, 250, 248), 4)
    b.line([(x, 70), (x + 62, 70)], (250, 250, 248), 4)
    for lx in (rng.uniform(20, 60), rng.uniform(190, 236)):
        b.line([(lx, 0), (lx, 30)], (80, 66, 60), 2)
        b.glow(lx, 44, 30, (255, 240, 190), 130)
        b.polygon([(lx - 7, 28), (lx + 7, 28), (lx + 15, 44), (lx - 15, 44)], (196, 84, 70))
    for tx in (rng.uniform(2, 40), rng.uniform(214, 254)):
        top = floor + 4
        b.rect(tx - 3, top, tx + 3, top + 42, (98, 72, 58))
        b.ellipse(tx, top + 42, 17, 4, (98, 72, 58))
        b.ellipse(tx, top, 34, 8, (250, 246, 238))
        b.rect(tx - 6, top - 13, tx + 6, top - 1, (214, 62, 60), 3)
    return 206, 240


def library(b: Brush, rng: np.random.Generator) -> Span:
    wood = tint(rng, (126, 84, 56), 10)
    b.gradient([(0, darker(wood, 0.2)), (0.8, wood)])
    floor = rng.uniform(172, 182)
    for row, y in enumerate(np.arange(10, floor - 20, 54)):
        for k, x in enumerate(np.arange(rng.uniform(-20, 0), 256, 20)):
            color = _BOOKS[(k + 2 * row) % len(_BOOKS)]
            b.rect(x, y + 6, x + 19, y + 46, color, 1, outline=False)
        b.rect(-5, y + 46, 261, y + 54, lighter(wood, 0.22), outline=False)
    ground(b, floor, tint(rng, (150, 62, 66), 10))
    b.rect(-5, floor, 261, floor + 5, darker(wood, 0.25), outline=False, shade=0)
    return 208, 240


def kitchen(b: Brush, rng: np.random.Generator) -> Span:
    tile = tint(rng, [(214, 236, 232), (248, 236, 206), (226, 226, 244)][rng.integers(3)], 6)
    b.gradient([(0, lighter(tile, 0.3)), (0.8, tile)])
    front = tint(rng, [(120, 172, 168), (226, 170, 110), (150, 152, 190)][rng.integers(3)], 8)
    floor = rng.uniform(184, 192)
    for x in np.arange(rng.uniform(-40, 0), 256, 64):
        b.rect(x, -8, x + 62, 46, front, 3)
        b.rect(x + 26, 32, x + 38, 38, (240, 240, 236), 2, outline=False)
        b.rect(x, 142, x + 62, floor, front, 3)
        b.rect(x + 24, 152, x + 40, 158, (240, 240, 236), 2, outline=False)
    b.rect(-5, 132, 261, 143, (236, 230, 220), outline=False)
    x = rng.uniform(24, 210)
    b.rect(x, 108, x + 32, 132, (120, 124, 134), 4)
    b.line([(x + 32, 116), (x + 46, 112)], (80, 82, 92), 4)
    b.rect(-5, floor, 261, 261, (214, 208, 200), outline=False)
    return 212, 242


PLACES = {
    "city street": city_street,
    "cafe": cafe,
    "library": library,
    "parking lot": parking_lot,
    "kitchen": kitchen,
}
