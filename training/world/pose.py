"""What a subject is doing, as joint positions, and where accessories go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.world.brush import Brush, Color, Point, darker, lighter
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
                30 + jitter(8), 30 + jitter(8), (-20, -2), (20, -2), sink=13, tilt=jitter(2), action=action
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
            return Pose(26, 26, asleep=True, tilt=82, action=action)
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


def pattern(b: Brush, look: Look, area, top: float, bottom: float, half: float, seed: int) -> None:
    """Stripes or spots in the second colour, clipped to `area` (a skia path)."""
    if look.who.pattern == "plain":
        return
    with b.clipped(area):
        if look.who.pattern == "striped":
            for y in np.arange(top + 5, bottom, 9.5):
                b.line([(-half - 2, y - 1.5), (0, y + 2.5), (half + 2, y - 1.5)], look.second, 3.9)
            return
        rng = np.random.default_rng(seed)
        for row, y in enumerate(np.arange(top + 4, bottom, 9)):
            for x in np.arange(-half + (5.5 if row % 2 else 0), half + 4, 11):
                b.ellipse(
                    x + rng.uniform(-1, 1),
                    y + rng.uniform(-1, 1),
                    3.1,
                    3.1,
                    look.second,
                    outline=False,
                    shade=0,
                )


def eyes(b: Brush, look: Look, points: tuple[Point, Point], radius: float, asleep: bool) -> None:
    """Two eyes; closed they are curved lines."""
    for x, y in points:
        if asleep:
            b.ellipse(x, y, radius, radius, lighter(look.body, 0.35), outline=False, shade=0, alpha=150)
            b.line([(x - radius, y), (x, y + radius * 1.1), (x + radius, y)], (30, 28, 36), 1.9)
            continue
        b.ellipse(x, y, radius, radius * 1.12, (255, 255, 255), shade=0)
        b.ellipse(x, y + 0.3, radius * 0.68, radius * 0.78, look.who.eye_color, outline=False, shade=0)
        b.ellipse(x, y + 0.3, radius * 0.4, radius * 0.48, (24, 22, 28), outline=False, shade=0)
        b.ellipse(
            x + radius * 0.25,
            y - radius * 0.35,
            radius * 0.22,
            radius * 0.22,
            (255, 255, 255),
            outline=False,
            shade=0,
        )


def accessory(b: Brush, look: Look, at: Mounts) -> None:
    """The identity's accessory, at the subject's mounts."""
    color = look.extra
    match look.who.accessory:
        case "scarf":
            x, y, w = *at.neck, at.neck_width
            b.rect(x + w * 0.3, y, x + w * 0.3 + 8.5, y + 22, color, 2)
            b.line([(x + w * 0.3 + 1, y + 17), (x + w * 0.3 + 7.5, y + 17)], lighter(color, 0.55), 2)
            b.rect(x - w, y - 4.8, x + w, y + 4.8, color, 4.8)
        case "hat":
            x, y, w = *at.top, at.top_width
            b.rect(x - w * 0.72, y - 19, x + w * 0.72, y + 1, color, 3)
            b.rect(x - w * 0.72, y - 6, x + w * 0.72, y - 1, darker(color, 0.45), outline=False, shade=0)
            b.rect(x - w * 1.25, y - 2, x + w * 1.25, y + 4, color, 3)
        case "bow":
            x, y = at.neck
            for side in (-1, 1):
                b.polygon([(x, y), (x + side * 14, y - 9), (x + side * 14, y + 9)], color)
            b.ellipse(x, y, 4.2, 4.2, lighter(color, 0.2))
        case "glasses":
            (x1, y1), (x2, y2), r = *at.eyes, at.eye_radius * 1.75
            frame = color if look.who.accessory_color != "white" else (236, 236, 236)
            b.line([(x1, y1), (x2, y2)], frame, 2.6)
            for x, y in at.eyes:
                b.stroke(b.oval(x, y, r, r), darker(frame, 0.45), 4.2)
                b.stroke(b.oval(x, y, r, r), frame, 2.8)
