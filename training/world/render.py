"""The renderer: a subject in a scene, doing something, in a style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia
from PIL import Image

from training.world.animals import fish, mascot
from training.world.brush import LABEL_STEP, Brush
from training.world.nature import NATURE
from training.world.people import doctor, girl, robot
from training.world.places import PLACES
from training.world.pose import Look, Pose, accessory, pose_for
from training.world.styles import SIZE, STYLE_FILTERS
from training.world.things import bus, gift_box, teapot
from training.world.vocabulary import (
    ACTIONS,
    ANIMALS,
    COLORS,
    SCENES,
    STYLES,
    SUBJECTS,
    Identity,
    draw_identity,
)

SUPERSAMPLING = 2
DRAW_SCENE = NATURE | PLACES
DRAW_SUBJECT = dict.fromkeys(ANIMALS, mascot) | {
    "fish": fish,
    "robot": robot,
    "girl": girl,
    "doctor": doctor,
    "bus": bus,
    "gift box": gift_box,
    "teapot": teapot,
}
# Figure units from the feet to the tips of ears or hat, where they are not about 118.
HEIGHT = {"rabbit": 128, "dragon": 122, "bus": 100, "gift box": 106, "teapot": 100, "fish": 104}
_NIGHT = {"night sky": 0.84, "underwater": 0.94}
PAIR_SHARE = 0.12  # how many random pictures show two figures


@dataclass(frozen=True)
class Picture:
    """A rendered picture: `image` (256, 256, 3) uint8, `mask` (256, 256) bool (all figures), `parts`
    (256, 256) uint8 (numbers of `brush.PARTS`), and what is truly in it.

    Where there are two figures, `attributes` and `identity` are of the left one, and the key "partner" of
    `attributes` holds the other one's identity attributes.
    """

    image: np.ndarray
    mask: np.ndarray
    parts: np.ndarray
    attributes: dict
    identity: Identity


def _surface(clear: int, factor: int = SUPERSAMPLING) -> skia.Surface:
    surface = skia.Surface(SIZE * factor, SIZE * factor)
    canvas = surface.getCanvas()
    canvas.clear(clear)
    canvas.scale(factor, factor)
    return surface


def _raw(surface: skia.Surface) -> np.ndarray:
    """RGBA, uint8, premultiplied by alpha."""
    image = surface.makeImageSnapshot()
    raw = np.empty((image.height(), image.width(), 4), np.uint8)
    info = skia.ImageInfo.Make(
        image.width(), image.height(), skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType
    )
    image.readPixels(info, raw, raw.strides[0], 0, 0)
    return raw


def _pixels(surface: skia.Surface) -> np.ndarray:
    """RGBA in 0..1, averaged down to 256 x 256; colour is premultiplied by alpha."""
    raw = _raw(surface)
    # "RGBa" is Pillow's name for premultiplied alpha, so that averaging is right at the edges.
    small = Image.frombuffer("RGBa", raw.shape[1::-1], raw, "raw", "RGBa", 0, 1).reduce(SUPERSAMPLING)
    return np.asarray(small).astype(np.float32) * np.float32(1 / 255)


@dataclass(frozen=True)
class _Place:
    """Where a figure stands: its feet in pixels, its scale in pixels a figure unit, and its direction."""

    x: float
    y: float
    scale: float
    flip: bool


def _place(subject: str, pose: Pose, x: float, y: float, size: float, flip: bool) -> _Place:
    # Characters fill the page: what tells a cat from a fox must span several latent cells to be drawn at all.
    scale = size * (0.86 if subject == "bus" else 0.92 if subject == "fish" else 1.0)
    return _Place(x, y, min(scale, (y - 4) / (HEIGHT.get(subject, 122) + pose.lift)), flip)


def _draw_subject(b: Brush, look: Look, pose: Pose, at: _Place) -> None:
    turn = -pose.tilt if at.flip else pose.tilt
    with b.moved(at.x, at.y - pose.lift * at.scale, turn, -at.scale if at.flip else at.scale, at.scale):
        mounts = DRAW_SUBJECT[look.who.subject](b, look, pose)
        accessory(b, look, mounts)


def _shadow(b: Brush, at: _Place, pose: Pose, wide: float) -> None:
    shrink = at.scale * (1 - 0.008 * pose.lift)
    b.ellipse(at.x, at.y, wide * shrink, 5.5 * shrink, (20, 20, 34), outline=False, shade=0, alpha=78)


def _marks(b: Brush, at: _Place, action: str) -> None:
    """What tells the action beside the pose: Zs over a sleeper, lines behind a runner."""
    b.part = "mark"
    if action == "sleeping":
        for k, step in enumerate((0, 1.25, 2.6)):
            s = 13 * (0.75 + 0.25 * k)
            left = min(at.x + 30 * at.scale + step * 13, 232)
            top = max(at.y - 84 * at.scale - step * 13, 4)
            points = [(left, top), (left + s, top), (left, top + s), (left + s, top + s)]
            b.line(points, (255, 255, 255), 7)
            b.line(points, (70, 80, 130), 3.4)
    if action == "running":
        side = 1 if at.flip else -1
        for dy in (-74, -46, -18):
            start, y = at.x + side * 46 * at.scale, at.y + dy * at.scale
            b.line([(start, y), (start + side * 26 * at.scale, y)], (255, 255, 255), 5)


def _check(**given: str) -> None:
    known = {"subject": SUBJECTS, "scene": SCENES, "action": ACTIONS, "style": STYLES}
    for field, value in given.items():
        if value not in known[field]:
            raise ValueError(f"{field}: {value!r} is not known; one of {', '.join(known[field])}")


def render(
    subject: str,
    scene: str,
    action: str,
    style: str,
    rng: np.random.Generator,
    identity: Identity | None = None,
    partner: Identity | None = None,
) -> Picture:
    """Draw one picture.

    `subject`, `scene`, `action`, `style` are names from `vocabulary`; position, size, direction and the
    scene's details come from `rng`; without `identity` one is drawn from `rng` too. With a `partner` two
    smaller figures stand side by side. Raises ValueError for unknown names.
    """
    _check(subject=subject, scene=scene, action=action, style=style)
    identity = identity or draw_identity(subject, rng)
    background, figure = _surface(skia.ColorWHITE), _surface(skia.ColorTRANSPARENT)
    labels = _surface(skia.ColorBLACK, 1)
    ground = Brush(background.getCanvas())
    near, far = DRAW_SCENE[scene](ground, rng)
    back = Brush(background.getCanvas(), labels=labels.getCanvas())
    front = Brush(figure.getCanvas(), labels=labels.getCanvas())
    columns = ((104, 152),) if partner is None else ((66, 80), (176, 190))
    figures = []
    for who, column in zip((identity, partner), columns, strict=False):
        pose, y = pose_for(action, rng), rng.uniform(near, far)
        size = rng.uniform(1.6, 1.8) if partner is None else rng.uniform(1.14, 1.26)
        at = _place(who.subject, pose, rng.uniform(*column), y, size, bool(rng.random() < 0.5))
        _shadow(ground, at, pose, 50 if who.subject == "bus" else 31)
        _marks(back, at, action)
        figures.append((Look.of(who), pose, at))
    for one in figures:
        _draw_subject(front, *one)
    drawn = _pixels(figure)
    picture = _pixels(background)[..., :3] * (1 - drawn[..., 3:]) + drawn[..., :3] * _NIGHT.get(scene, 1.0)
    image = np.clip(STYLE_FILTERS[style](picture), 0, 1)
    attributes = identity.attributes() | {"scene": scene, "action": action, "style": style}
    if partner is not None:
        attributes["partner"] = partner.attributes()
    parts = _raw(labels)[..., 0] // LABEL_STEP
    return Picture((image * 255 + 0.5).astype(np.uint8), drawn[..., 3] > 0.5, parts, attributes, identity)


def render_random(rng: np.random.Generator, pairs: float = PAIR_SHARE) -> Picture:
    """A picture of anything anywhere, as models are trained on; a share `pairs` of them has two figures."""
    subject, scene = str(rng.choice(SUBJECTS)), str(rng.choice(SCENES))
    action = str(rng.choice(ACTIONS))
    style = str(rng.choice(STYLES, p=(0.46, 0.27, 0.27)))
    identity = draw_identity(subject, rng)
    partner = None
    if rng.random() < pairs:
        other = str(rng.choice([name for name in SUBJECTS if name != subject]))
        color = str(rng.choice([name for name in COLORS if name != identity.color]))
        partner = draw_identity(other, rng, color=color)
    return render(subject, scene, action, style, rng, identity, partner)
