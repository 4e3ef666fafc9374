"""The renderer: a subject in a scene, doing something, in a style."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import skia
from PIL import Image

from training.world.animals import fish, mascot
from training.world.brush import Brush
from training.world.nature import NATURE
from training.world.people_and_things import bus, doctor, gift_box, girl, robot, teapot
from training.world.places import PLACES
from training.world.pose import Look, Pose, accessory, pose_for
from training.world.styles import SIZE, STYLE_FILTERS
from training.world.vocabulary import ACTIONS, ANIMALS, SCENES, STYLES, SUBJECTS, Identity, draw_identity

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
HEIGHT = {"rabbit": 140, "dragon": 126, "bus": 100, "gift box": 90, "teapot": 90, "fish": 90}
_NIGHT = {"night sky": 0.84, "underwater": 0.94}


@dataclass(frozen=True)
class Picture:
    """A rendered picture: `image` (256, 256, 3) uint8, `mask` (256, 256) bool, and what is truly in it."""

    image: np.ndarray
    mask: np.ndarray
    attributes: dict[str, str]
    identity: Identity


def _surface(clear: int) -> skia.Surface:
    side = SIZE * SUPERSAMPLING
    surface = skia.Surface(side, side)
    canvas = surface.getCanvas()
    canvas.clear(clear)
    canvas.scale(SUPERSAMPLING, SUPERSAMPLING)
    return surface


def _pixels(surface: skia.Surface) -> np.ndarray:
    """RGBA in 0..1, averaged down to 256 x 256; colour is premultiplied by alpha."""
    image = surface.makeImageSnapshot()
    raw = np.empty((image.height(), image.width(), 4), np.uint8)
    info = skia.ImageInfo.Make(
        image.width(), image.height(), skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType
    )
    image.readPixels(info, raw, raw.strides[0], 0, 0)
    # "RGBa" is Pillow's name for premultiplied alpha, so that averaging is right at the edges.
    small = Image.frombuffer("RGBa", (image.width(), image.height()), raw, "raw", "RGBa", 0, 1).reduce(
        SUPERSAMPLING
    )
    return np.asarray(small).astype(np.float32) * np.float32(1 / 255)


def _draw_subject(b: Brush, look: Look, pose: Pose, x: float, y: float, scale: float, flip: bool) -> None:
    """Put the figure with its feet at (x, y); `scale` is pixels a figure unit."""
    lie = 17.0 if pose.asleep else 0.0
    sx = -scale if flip else scale
    draw = DRAW_SUBJECT[look.who.subject]
    turn = (-pose.tilt if flip else pose.tilt) * (
        0.12 if pose.asleep and look.who.subject in ("bus", "gift box", "teapot", "fish") else 1
    )
    if turn == 0 or abs(turn) < 40:
        lie = 0.0
    shift = -46 * scale * (1 if turn > 0 else -1) if lie else 0
    with b.moved(x + shift, y - (pose.lift + lie) * scale, turn, sx, scale):
        mounts = draw(b, look, pose)
        accessory(b, look, mounts)


def _shadow(b: Brush, x: float, y: float, scale: float, pose: Pose, wide: float) -> None:
    shrink = 1 - 0.008 * pose.lift
    b.ellipse(
        x, y, wide * scale * shrink, 5.5 * scale * shrink, (20, 20, 34), outline=False, shade=0, alpha=78
    )


def _asleep_marks(b: Brush, x: float, y: float, size: float) -> None:
    for k, step in enumerate((0, 1.2, 2.5)):
        s, left, top = size * (0.6 + 0.25 * k), x + step * size, y - step * size
        b.line([(left, top), (left + s, top), (left, top + s), (left + s, top + s)], (255, 255, 255), 3.4)
        b.line([(left, top), (left + s, top), (left, top + s), (left + s, top + s)], (70, 80, 130), 1.8)


def _speed_marks(b: Brush, x: float, y: float, scale: float, flip: bool) -> None:
    side = 1 if flip else -1
    for k, dy in enumerate((-62, -42, -22)):
        start = x + side * (44 + 4 * k) * scale
        b.line(
            [(start, y + dy * scale), (start + side * 20 * scale, y + dy * scale)],
            (255, 255, 255),
            3,
            alpha=220,
        )


def render(
    subject: str,
    scene: str,
    action: str,
    style: str,
    rng: np.random.Generator,
    identity: Identity | None = None,
) -> Picture:
    """Draw one picture.

    `subject`, `scene`, `action`, `style` are names from `vocabulary`; position, size, direction and the
    scene's
    details come from `rng`; without `identity` one is drawn from `rng` too. Raises ValueError for unknown
    names.
    """
    for field, value, known in (
        ("subject", subject, SUBJECTS),
        ("scene", scene, SCENES),
        ("action", action, ACTIONS),
        ("style", style, STYLES),
    ):
        if value not in known:
            raise ValueError(f"{field}: {value!r} is not known; one of {', '.join(known)}")
    identity = identity or draw_identity(subject, rng)
    look, pose = Look.of(identity), pose_for(action, rng)
    background, figure = _surface(skia.ColorWHITE), _surface(skia.ColorTRANSPARENT)
    back, front = Brush(background.getCanvas()), Brush(figure.getCanvas())
    near, far = DRAW_SCENE[scene](back, rng)
    y = rng.uniform(near, far)
    lying = pose.asleep and subject not in ("bus", "gift box", "teapot", "fish")
    # Characters fill the page: what tells a cat from a fox must span several latent cells to be drawn at all.
    scale = rng.uniform(1.5, 1.8) * (0.8 if subject == "bus" else 0.88 if lying or subject == "fish" else 1.0)
    scale = min(scale, (y - 4) / (HEIGHT.get(subject, 118) + pose.lift))
    x, flip = rng.uniform(104, 152), bool(rng.random() < 0.5)
    _shadow(back, x, y, scale, pose, 50 if lying or subject == "bus" else 31)
    if action == "running":
        _speed_marks(back, x, y, scale, flip)
    _draw_subject(front, look, pose, x, y, scale, flip)
    drawn = _pixels(figure)
    picture = _pixels(background)[..., :3] * (1 - drawn[..., 3:]) + drawn[..., :3] * _NIGHT.get(scene, 1.0)
    if action == "sleeping":
        picture = _with_marks(
            picture, partial(_asleep_marks, x=x + 12, y=y - (52 if lying else 104) * scale, size=11)
        )
    image = np.clip(STYLE_FILTERS[style](picture, rng), 0, 1)
    attributes = {
        "subject": subject,
        "color": identity.color,
        "second_color": identity.second_color,
        "pattern": identity.pattern,
        "accessory": identity.accessory,
        "accessory_color": identity.accessory_color if identity.accessory != "none" else "none",
        "scene": scene,
        "action": action,
        "style": style,
    }
    return Picture((image * 255 + 0.5).astype(np.uint8), drawn[..., 3] > 0.5, attributes, identity)


def _with_marks(picture: np.ndarray, draw) -> np.ndarray:
    surface = _surface(skia.ColorTRANSPARENT)
    draw(Brush(surface.getCanvas()))
    marks = _pixels(surface)
    return picture * (1 - marks[..., 3:]) + marks[..., :3]


def render_random(rng: np.random.Generator) -> Picture:
    """A picture of anything anywhere: what the models are trained on."""
    subject, scene = str(rng.choice(SUBJECTS)), str(rng.choice(SCENES))
    action = str(rng.choice(ACTIONS))
    style = str(rng.choice(STYLES, p=(0.6, 0.2, 0.2)))
    return render(subject, scene, action, style, rng)
