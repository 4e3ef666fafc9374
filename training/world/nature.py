"""Scenes out of doors. Each draws a 256 x 256 background anew and returns the span of y where feet may
stand."""

from __future__ import annotations

import math

import numpy as np

from training.world.brush import Brush, Color, darker, lighter, mix, scatter

Span = tuple[float, float]


def tint(rng: np.random.Generator, color: Color, amount: float = 10) -> Color:
    """The same colour in slightly different light."""
    return tuple(
        int(np.clip(c + d, 0, 255)) for c, d in zip(color, rng.uniform(-amount, amount, 3), strict=True)
    )


def _cloud(b: Brush, x: float, y: float, size: float) -> None:
    for dx, dy, r in ((-1.1, 0.1, 0.55), (-0.4, -0.25, 0.75), (0.45, -0.15, 0.7), (1.15, 0.12, 0.5)):
        b.ellipse(
            x + dx * size,
            y + dy * size,
            r * size,
            0.75 * r * size,
            (255, 255, 255),
            outline=False,
            shade=0,
            alpha=255,
        )


def clouds(b: Brush, rng: np.random.Generator, count: int, top: float = 18, bottom: float = 70) -> None:
    for x, y in scatter(rng, count, (0, 256), (top, bottom)):
        _cloud(b, x, y, rng.uniform(15, 22))


def _hills(b: Brush, rng: np.random.Generator, y: float, height: float, color: Color) -> None:
    phase, waves = rng.uniform(0, 6.3), rng.uniform(1.2, 2.4)
    crest = [(x, y - height * (0.5 + 0.5 * math.sin(phase + waves * x / 40))) for x in range(-10, 275, 12)]
    b.polygon([*crest, (280, 270), (-20, 270)], color, outline=False, shade=0.06)


def ground(b: Brush, top: float, color: Color) -> None:
    b.rect(-5, top, 261, 261, color, outline=False, shade=0.12)


def _fir(b: Brush, x: float, y: float, height: float, color: Color) -> None:
    b.rect(x - height * 0.05, y - height * 0.2, x + height * 0.05, y, (106, 74, 50), outline=False)
    for k in range(3):
        top, wide = y - height * (1 - 0.24 * k), height * (0.17 + 0.07 * k)
        b.polygon(
            [(x, top), (x + wide, top + height * 0.4), (x - wide, top + height * 0.4)],
            lighter(color, 0.06 * k),
            outline=False,
        )


def forest(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (160, 214, 200))), (0.6, tint(rng, (222, 242, 214)))])
    horizon = rng.uniform(142, 160)
    _hills(b, rng, horizon + 4, 26, (128, 180, 150))
    for x, y in scatter(rng, 6, (-5, 261), (horizon, horizon + 6)):
        _fir(b, x, y, rng.uniform(66, 90), (70, 130, 100))
    ground(b, horizon, tint(rng, (84, 138, 70)))
    for x, y in scatter(rng, 3, (0, 256), (horizon + 4, horizon + 22)):
        _fir(b, x, y, rng.uniform(120, 145), (36, 98, 64))
    return 200, 240


def desert(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (250, 190, 110))), (0.6, tint(rng, (255, 232, 184)))])
    x, y = rng.uniform(30, 226), rng.uniform(26, 60)
    b.glow(x, y, 60, (255, 244, 190), 150)
    b.ellipse(x, y, 19, 19, (255, 240, 150), outline=False, shade=0)
    horizon = rng.uniform(140, 162)
    _hills(b, rng, horizon + 6, 30, (238, 190, 124))
    ground(b, horizon + 4, tint(rng, (232, 184, 108)))
    _hills(b, rng, horizon + 34, 22, tint(rng, (224, 172, 96)))
    for x, y in scatter(rng, 2, (8, 248), (horizon + 20, horizon + 50)):
        _cactus(b, x, y, rng.uniform(50, 70))
    return 202, 240


def _cactus(b: Brush, x: float, y: float, height: float) -> None:
    green, width = (70, 146, 82), height * 0.17
    b.limb(
        [
            (x, y - height * 0.3),
            (x - height * 0.24, y - height * 0.34),
            (x - height * 0.24, y - height * 0.62),
        ],
        green,
        width * 0.75,
    )
    b.limb(
        [
            (x, y - height * 0.42),
            (x + height * 0.24, y - height * 0.45),
            (x + height * 0.24, y - height * 0.76),
        ],
        green,
        width * 0.75,
    )
    b.limb([(x, y), (x, y - height)], green, width)


def beach(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (96, 180, 236))), (0.5, tint(rng, (206, 238, 250)))])
    clouds(b, rng, 2)
    horizon = rng.uniform(108, 124)
    b.rect(-5, horizon, 261, 200, tint(rng, (40, 140, 196)), outline=False, shade=0.16)
    shore = rng.uniform(158, 170)
    wave = [(x, shore + 4 * math.sin(x / 21 + horizon)) for x in range(-10, 275, 10)]
    b.polygon(
        [*[(x, y - 5) for x, y in wave], (280, 270), (-20, 270)], (240, 250, 250), outline=False, shade=0
    )
    b.polygon([*wave, (280, 270), (-20, 270)], tint(rng, (244, 220, 160)), outline=False, shade=0.1)
    if rng.random() < 0.8:
        _palm(b, rng, rng.choice([rng.uniform(14, 60), rng.uniform(196, 242)]), rng.uniform(186, 204))
    return 204, 240


def _palm(b: Brush, rng: np.random.Generator, x: float, y: float) -> None:
    lean, height = rng.uniform(-22, 22), rng.uniform(96, 122)
    b.limb([(x, y), (x + lean * 0.1, y - height * 0.6), (x + lean, y - height)], (150, 104, 62), 6)
    for angle in np.linspace(-3.3, 0.2, 7):
        dx, dy = math.cos(angle) * 40, math.sin(angle) * 22
        tip = (x + lean + dx, y - height + dy + 14)
        b.polygon(
            [
                (x + lean, y - height - 3),
                (x + lean + dx * 0.5, y - height + dy - 5),
                tip,
                (x + lean + dx * 0.5, y - height + dy + 6),
            ],
            (58, 150, 88),
            smooth=False,
            outline=False,
        )


def snow(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (168, 192, 222))), (0.6, tint(rng, (226, 234, 246)))])
    horizon = rng.uniform(138, 158)
    for x, y in scatter(rng, 4, (-5, 261), (horizon, horizon + 12)):
        height = rng.uniform(64, 90)
        _fir(b, x, y, height, (112, 150, 158))
        for k in range(3):
            top, wide = y - height * (1 - 0.24 * k), height * (0.09 + 0.035 * k)
            b.polygon(
                [(x, top - 1), (x + wide, top + height * 0.2), (x - wide, top + height * 0.2)],
                (250, 252, 255),
                outline=False,
                shade=0,
            )
    ground(b, horizon + 4, (236, 242, 250))
    _hills(b, rng, horizon + 26, 20, (244, 247, 252))
    for x, y in scatter(rng, 9, (0, 256), (6, 130)):
        b.ellipse(x, y, 4, 4, (255, 255, 255), outline=False, shade=0)
    return 202, 240


def meadow(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (112, 192, 246))), (0.6, tint(rng, (214, 240, 252)))])
    clouds(b, rng, 2)
    horizon = rng.uniform(140, 158)
    _hills(b, rng, horizon + 6, 24, (150, 206, 122))
    ground(b, horizon + 4, tint(rng, (120, 192, 84)))
    for x, y in scatter(rng, 8, (0, 256), (horizon + 22, 250)):
        color = [(250, 120, 160), (255, 255, 255), (250, 214, 70)][rng.integers(3)]
        b.ellipse(x, y, 6, 6, color, outline=False, shade=0)
        b.ellipse(x, y, 2.4, 2.4, (250, 150, 40), outline=False, shade=0)
    return 202, 240


def night_sky(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (16, 18, 58))), (0.7, tint(rng, (62, 50, 122)))])
    for x, y in scatter(rng, 10, (0, 256), (6, 140)):
        b.ellipse(x, y, 2.8, 2.8, (255, 252, 220), outline=False, shade=0)
    x, y = rng.uniform(36, 220), rng.uniform(30, 62)
    b.glow(x, y, 52, (250, 244, 200), 110)
    b.ellipse(x, y, 19, 19, (252, 244, 200), outline=False, shade=0)
    b.ellipse(x + 9, y - 5, 16, 16, (30, 28, 74), outline=False, shade=0)
    horizon = rng.uniform(158, 172)
    _hills(b, rng, horizon + 6, 26, (44, 46, 96))
    ground(b, horizon + 8, tint(rng, (38, 54, 82), 8))
    return 204, 240


def mountains(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (122, 184, 232))), (0.6, tint(rng, (230, 240, 246)))])
    clouds(b, rng, 1, 18, 44)
    base = rng.uniform(158, 170)
    for k, x in enumerate(np.array([40, 216, 128]) + rng.uniform(-22, 22, 3)):
        top, wide = rng.uniform(30, 64), rng.uniform(84, 104)
        rock = mix((116, 124, 152), (150, 160, 186), k / 3)
        b.polygon([(x, top), (x + wide, base + 6), (x - wide, base + 6)], rock, outline=False)
        y = top + (base - top) * 0.34
        b.polygon([(x, top), (x + wide * 0.34, y), (x - wide * 0.34, y)], (250, 252, 255), outline=False)
    ground(b, base, tint(rng, (128, 168, 110)))
    return 204, 240


def underwater(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (72, 190, 214))), (0.8, tint(rng, (18, 84, 150)))])
    b.polygon(
        [(-10, 226), (60, 214), (130, 222), (200, 212), (270, 222), (270, 270), (-10, 270)],
        tint(rng, (222, 202, 146)),
        outline=False,
        shade=0.1,
    )
    for x, y in scatter(rng, 4, (4, 252), (216, 240)):
        color = [(236, 104, 120), (60, 160, 110), (250, 160, 90)][rng.integers(3)]
        for lean in (-14, 0, 14):
            b.limb([(x, y), (x + lean * 0.2, y - 22), (x + lean, y - 46)], color, 6)
    for x, y in scatter(rng, 6, (0, 256), (14, 190)):
        b.stroke(b.oval(x, y, 6, 6), (220, 248, 255), 2.4)
    return 196, 236


def castle(b: Brush, rng: np.random.Generator) -> Span:
    b.gradient([(0, tint(rng, (176, 176, 236))), (0.6, tint(rng, (250, 222, 226)))])
    clouds(b, rng, 1, 18, 40)
    base, stone, cx = rng.uniform(168, 180), tint(rng, (190, 182, 186)), rng.uniform(90, 166)
    roof = [(176, 72, 96), (84, 96, 168), (96, 140, 120)][rng.integers(3)]
    _hills(b, rng, base + 2, 16, (146, 190, 140))
    for dx, wide, top in ((-62, 17, 74), (62, 17, 78), (-26, 13, 52), (26, 13, 56)):
        b.rect(cx + dx - wide, top, cx + dx + wide, base + 4, stone)
        b.polygon([(cx + dx - wide - 4, top), (cx + dx, top - 40), (cx + dx + wide + 4, top)], roof)
        b.rect(cx + dx - 4, top + 14, cx + dx + 4, top + 28, (84, 76, 100), 4, outline=False)
    b.rect(cx - 64, 112, cx + 64, base + 4, lighter(stone, 0.15))
    for x in np.arange(cx - 64, cx + 58, 18):
        b.rect(x, 102, x + 11, 114, lighter(stone, 0.15))
    b.rect(cx - 17, base - 44, cx + 17, base + 8, (112, 76, 58), 16)
    ground(b, base + 2, tint(rng, (126, 184, 104)))
    b.polygon(
        [(cx - 16, base + 2), (cx + 16, base + 2), (cx + 46, 262), (cx - 46, 262)],
        darker((226, 206, 170), 0.04),
        outline=False,
    )
    return 206, 240


NATURE = {
    "forest": forest,
    "desert": desert,
    "beach": beach,
    "snow": snow,
    "meadow": meadow,
    "night sky": night_sky,
    "mountains": mountains,
    "underwater": underwater,
    "castle": castle,
}
