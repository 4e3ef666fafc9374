"""What a subject is doing, as joint positions, and where accessories go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.world.brush import Brush, Color, Point, darker, lighter, rim
from training.world.vocabulary import COLORS, Identity


@dataclass(frozen=True)
class Pose:
    """Angles in degrees from hanging down (positive: outwards and up); offsets in figure units (height about
    100)."""

    left_arm: float = 18
    right_arm: float = 18
    left_foot: Point = (-10, 0)
    right_foot: Point = (10, 0)
    sink: float = 0  # how far the body is lowered towards the ground
    lift: float = 0  # how far the whole figure is above the ground
    tilt: float = 0  # turn of the whole figure
    asleep: bool = False
    action: str = "standing"


def pose_for(action: str, rng: np.random.Generator) -> Pose:
    """A pose for `action`, a little different every time."""
    jitter = lambda spread: float(rng.uniform(-spread, spread))  # noqa: E731
    match action:
        case "standing":
            return Pose(20 + jitter(10), 20 + jitter(10), tilt=jitter(2))
        case "sitting":
            return Pose(
                30 + jitter(8), 30 + jitter(8), (-20, -2), (20, -2), sink=11, tilt=jitter(2), action=action
            )
        case "jumping":
            return Pose(
                130 + jitter(16),
                130 + jitter(16),
                (-17, -7),
                (17, -7),
                lift=26 + jitter(6),
                tilt=jitter(5),
                action=action,
            )
        case "waving":
            return Pose(20 + jitter(8), 148 + jitter(14), tilt=jitter(3), action=action)
        case "running":
            return Pose(
                78 + jitter(10),
                70 + jitter(10),
                (-22, -7),
                (21, -1),
                lift=3,
                tilt=13 + jitter(3),
                action=action,
            )
        case "sleeping":
            return Pose(16, 16, (-22, -2), (22, -2), sink=15, asleep=True, tilt=10 + jitter(2), action=action)
    raise ValueError(f"action: {action!r} is not known")


@dataclass(frozen=True)
class Look:
    """The identity as the drawing functions need it: colours by part."""

    who: Identity
    body: Color
    second: Color
    extra: Color  # colour of the accessory
    head: float
    wide: float
    limb: float
    ear: float

    @classmethod
    def of(cls, who: Identity) -> Look:
        head, wide, limb, ear = who.proportions
        return cls(
            who,
            COLORS[who.color],
            COLORS[who.second_color],
            COLORS[who.accessory_color],
            head,
            wide,
            limb,
            ear,
        )


@dataclass(frozen=True)
class Mounts:
    """Where accessories are put: top of the head, neck, eyes; all in figure units."""

    top: Point
    top_width: float
    neck: Point
    neck_width: float
    eyes: tuple[Point, Point]
    eye_radius: float


def pattern(b: Brush, look: Look, area, top: float, bottom: float, half: float) -> None:
    """Stripes or spots in the second colour, clipped to `area` (a skia path)."""
    if look.who.pattern == "plain":
        return
    with b.clipped(area):
        if look.who.pattern == "striped":
            for y in np.arange(top + 7, bottom, 13):
                b.line([(-half - 2, y - 1.5), (0, y + 2.5), (half + 2, y - 1.5)], look.second, 6)
            return
        for row, y in enumerate(np.arange(top + 6, bottom + 3, 11)):
            for x in np.arange(-half + (7 if row % 2 else 0), half + 4, 14):
                b.ellipse(x, y, 4.3, 4.3, look.second, outline=False, shade=0)


def eyes(b: Brush, look: Look, points: tuple[Point, Point], radius: float, asleep: bool) -> None:
    """Two eyes with pupils; closed they are curved lines."""
    b.part = "eye"
    for x, y in points:
        if asleep:
            b.ellipse(x, y, radius, radius, lighter(look.body, 0.6), outline=False, shade=0)
            b.line([(x - radius, y), (x, y + radius * 1.1), (x + radius, y)], (30, 28, 36), 3)
            continue
        b.ellipse(x, y, radius, radius * 1.1, (255, 255, 255), shade=0)
        b.ellipse(x, y + 0.3, radius * 0.72, radius * 0.8, look.who.eye_color, outline=False, shade=0)
        b.ellipse(x, y + 0.3, radius * 0.5, radius * 0.58, (24, 22, 28), outline=False, shade=0)
        glint = radius * 0.26
        b.ellipse(x + glint, y - radius * 0.34, glint, glint, (255, 255, 255), outline=False, shade=0)


def accessory(b: Brush, look: Look, at: Mounts) -> None:
    """The identity's accessory, at the subject's mounts."""
    b.part = "accessory"
    color = look.extra
    match look.who.accessory:
        case "scarf":
            x, y, w = *at.neck, at.neck_width
            b.rect(x + w * 0.25, y, x + w * 0.25 + 12, y + 27, color, 2)
            b.rect(x - w * 1.1, y - 6.5, x + w * 1.1, y + 6.5, color, 6)
        case "hat":
            x, y, w = *at.top, at.top_width
            b.rect(x - w * 0.76, y - 23, x + w * 0.76, y + 1, color, 3)
            b.rect(x - w * 0.76, y - 8, x + w * 0.76, y - 2, darker(color, 0.45), outline=False, shade=0)
            b.rect(x - w * 1.3, y - 3, x + w * 1.3, y + 4.5, color, 3)
        case "bow":
            x, y = at.neck
            for side in (-1, 1):
                b.polygon([(x, y), (x + side * 20, y - 12), (x + side * 20, y + 12)], color)
            b.ellipse(x, y, 5.5, 5.5, lighter(color, 0.2))
        case "glasses":
            (x1, y1), (x2, y2), r = *at.eyes, at.eye_radius * 1.42
            frame = color if look.who.accessory_color != "white" else (236, 236, 236)
            b.line([(x1, y1), (x2, y2)], frame, 4)
            for x, y in at.eyes:
                b.stroke(b.oval(x, y, r, r), rim(frame), 7)
                b.stroke(b.oval(x, y, r, r), frame, 4.4)
