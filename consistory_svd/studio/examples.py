"""Stories to start from: each fills the whole form."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One clickable story. `scenes` are single lines; everything not named here takes its default."""

    title: str
    subject: str
    concept: str
    scenes: tuple[str, ...]
    style: str = "a photo of"
    seed: int = 0


EXAMPLES = (
    Example(
        "Cat on a journey",
        "a cat",
        "cat",
        ("in the forest", "on the beach", "in the snow", "in a library"),
        seed=7,
    ),
    Example(
        "Rabbit in watercolor",
        "a rabbit with a scarf",
        "rabbit",
        ("sitting on a meadow", "running in the mountains", "sleeping under the night sky", "in a kitchen"),
        style="a watercolor of",
        seed=21,
    ),
    Example(
        "Dragon's day out",
        "a dragon",
        "dragon",
        ("in front of a castle", "in a city street", "in the desert", "in a cafe"),
        seed=3,
    ),
    Example(
        "Robot, in pencil",
        "a robot with a hat",
        "robot",
        ("waving in a parking lot", "in a library", "jumping on the beach", "under the night sky"),
        style="a pencil drawing of",
        seed=12,
    ),
    Example(
        "Girl and the seasons",
        "a girl with glasses",
        "girl",
        ("on a meadow", "on the beach", "in the forest", "in the snow"),
        seed=5,
    ),
    Example(
        "Owl at night",
        "an owl",
        "owl",
        ("under the night sky", "in the forest", "in a library", "at the castle"),
        seed=9,
    ),
)

STYLES = ("a photo of", "a watercolor of", "a pencil drawing of")
