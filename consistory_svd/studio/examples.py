"""Examples that fill in the whole form."""

from dataclasses import dataclass

from consistory_svd.story import Story


@dataclass(frozen=True)
class Example:
    """A story that the form can start from, and its name on the page."""

    title: str
    story: Story


EXAMPLES = (
    Example(
        "Cat on a journey",
        Story(
            "a cat",
            ("in the forest", "on the beach", "in the snow", "in a library"),
            concepts=("cat",),
            seed=7,
        ),
    ),
    Example(
        "Rabbit in watercolor",
        Story(
            "a rabbit with a scarf",
            (
                "sitting on a meadow",
                "running in the mountains",
                "sleeping under the night sky",
                "in a kitchen",
            ),
            concepts=("rabbit",),
            style="a watercolor of",
            seed=21,
        ),
    ),
    Example(
        "Dragon's day out",
        Story(
            "a dragon",
            ("in front of a castle", "in a city street", "in the desert", "in a cafe"),
            concepts=("dragon",),
            seed=3,
        ),
    ),
    Example(
        "Robot, in pencil",
        Story(
            "a robot with a hat",
            ("waving in a parking lot", "in a library", "jumping on the beach", "under the night sky"),
            concepts=("robot",),
            style="a pencil drawing of",
            seed=12,
        ),
    ),
    Example(
        "Girl and the seasons",
        Story(
            "a girl with glasses",
            ("on a meadow", "on the beach", "in the forest", "in the snow"),
            concepts=("girl",),
            seed=5,
        ),
    ),
    Example(
        "Owl at night",
        Story(
            "an owl",
            ("under the night sky", "in the forest", "in a library", "at the castle"),
            concepts=("owl",),
            seed=9,
        ),
    ),
)

STYLES = ("a photo of", "a watercolor of", "a pencil drawing of")
