"""What the storybook world is made of: the classes of every attribute and how they look and are called."""

from dataclasses import dataclass

import numpy as np

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 44),
    "orange": (243, 136, 32),
    "yellow": (248, 208, 52),
    "green": (74, 160, 72),
    "blue": (58, 112, 220),
    "purple": (136, 76, 190),
    "pink": (244, 142, 178),
    "brown": (132, 84, 50),
    "black": (48, 47, 54),
    "white": (246, 244, 240),
    "gray": (140, 145, 152),
}
PATTERNS = ("plain", "striped", "spotted")
ACCESSORIES = ("none", "scarf", "hat", "bow", "glasses")
ACTIONS = ("standing", "sitting", "jumping", "waving", "running", "sleeping")
STYLES = ("photo", "watercolor", "pencil")
ANIMALS = ("cat", "rabbit", "bear", "fox", "dog", "mouse", "owl", "leopard", "fish", "dragon")
PEOPLE = ("robot", "girl", "doctor")
THINGS = ("bus", "gift box", "teapot")
SUBJECTS = ANIMALS + PEOPLE + THINGS
SCENES = (
    "forest",
    "desert",
    "beach",
    "snow",
    "city street",
    "meadow",
    "night sky",
    "cafe",
    "mountains",
    "underwater",
    "library",
    "parking lot",
    "castle",
    "kitchen",
)
# What a writer calls a class. The first word is the one that is shown to people.
SUBJECT_WORDS = {
    "cat": ("cat", "kitten"),
    "rabbit": ("rabbit", "bunny"),
    "dog": ("dog", "puppy"),
    "gift box": ("gift box", "gift", "present"),
    "bear": ("bear",),
} | {name: (name,) for name in SUBJECTS if name not in ("cat", "rabbit", "dog", "gift box", "bear")}
SCENE_PHRASES = {
    "forest": ("in the forest", "in a forest", "among the trees", "in the woods"),
    "desert": ("in the desert", "in a desert"),
    "beach": ("on the beach", "at the beach", "on a beach"),
    "snow": ("in the snow", "in a snowy field"),
    "city street": ("in a city street", "on a city street", "in the city", "on the street"),
    "meadow": ("on a meadow", "in a meadow", "in a flower meadow"),
    "night sky": ("under the night sky", "at night", "under the stars"),
    "cafe": ("in a cafe", "in the cafe", "at the cafe"),
    "mountains": ("in the mountains", "in front of the mountains"),
    "underwater": ("underwater", "under the sea"),
    "library": ("in a library", "in the library"),
    "parking lot": ("in a parking lot", "on a parking lot", "at the parking lot"),
    "castle": ("in front of a castle", "at the castle", "by the castle"),
    "kitchen": ("in a kitchen", "in the kitchen"),
}
STYLE_PHRASES = {
    "photo": ("a photo of", "photo of", "a picture of"),
    "watercolor": ("a watercolor of", "a watercolor painting of", "watercolor of"),
    "pencil": ("a pencil drawing of", "a pencil sketch of", "pencil drawing of"),
}


@dataclass(frozen=True)
class Identity:
    """Who a subject is: everything that must stay the same from picture to picture.

    `proportions` are factors around 1 (head size, body width, limb width, ear size); hair and skin are used
    by people only.
    """

    subject: str
    color: str
    second_color: str
    pattern: str
    accessory: str
    accessory_color: str
    proportions: tuple[float, float, float, float]
    eye_color: tuple[int, int, int]
    hair_color: tuple[int, int, int]
    hair_style: int
    skin: tuple[int, int, int]

    def attributes(self) -> dict[str, str]:
        """What a caption may say of it; without an accessory there is no accessory colour."""
        names = ("subject", "color", "second_color", "pattern", "accessory", "accessory_color")
        found = {name: getattr(self, name) for name in names}
        return found | ({"accessory_color": "none"} if self.accessory == "none" else {})


_EYES = ((58, 120, 60), (60, 100, 190), (110, 70, 30), (40, 40, 46))
_HAIR = ((60, 40, 28), (30, 28, 32), (226, 178, 84), (176, 74, 36), (190, 190, 196))
_SKIN = ((252, 222, 196), (238, 190, 150), (196, 140, 98), (134, 90, 62))


def draw_identity(subject: str, rng: np.random.Generator, **fixed: str) -> Identity:
    """A random identity of `subject`; `fixed` pins any of color, second_color, pattern, accessory,
    accessory_color."""
    names = list(COLORS)
    color = fixed.get("color") or str(rng.choice(names))
    second = fixed.get("second_color") or str(rng.choice([c for c in names if c != color]))
    accessory_color = fixed.get("accessory_color") or str(rng.choice([c for c in names if c != color]))
    return Identity(
        subject=subject,
        color=color,
        second_color=second,
        pattern=fixed.get("pattern") or str(rng.choice(PATTERNS)),
        accessory=fixed.get("accessory") or str(rng.choice(ACCESSORIES)),
        accessory_color=accessory_color,
        proportions=tuple(float(v) for v in rng.uniform(0.92, 1.08, 4)),
        eye_color=_EYES[rng.integers(len(_EYES))],
        hair_color=_HAIR[rng.integers(len(_HAIR))],
        hair_style=int(rng.integers(3)),
        skin=_SKIN[rng.integers(len(_SKIN))],
    )
