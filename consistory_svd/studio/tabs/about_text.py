"""What each part of the method does, in plain words, and the settings of the pictures that show it.

The pictures are made by `tools/make_about_pictures.py` with the embedded model. `seen` says what is seen in
them, by someone who looked: change it when the pictures change.
"""

from dataclasses import dataclass, replace

from consistory_svd.paths import ASSETS
from consistory_svd.presets import PRESETS
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Story
from consistory_svd.studio.comparison_rows import Row

PICTURES = ASSETS / "about"
STEPS = 30
CAT = Story("a cat", ("in the forest", "on the beach", "in the snow", "in a library"), seed=7)
EXACT = Settings(mask_dropout=0.0)
UNMASKED = replace(EXACT, masking=False)
MASKS = "What the mask takes for the subject"


@dataclass(frozen=True)
class Part:
    """A part of the method. A strip of pictures for each of `rows`; with `masks` one more, which shows what
    the masks of the last row take for the subject."""

    key: str
    title: str
    does: str
    seen: str
    rows: tuple[Row, ...]
    story: Story = CAT
    masks: bool = False

    @property
    def strips(self) -> tuple[tuple[str, str], ...]:
        """What each strip is called, and its file."""
        names = [*(row.name for row in self.rows), *([MASKS] if self.masks else [])]
        return tuple((name, f"{self.key}-{number}.webp") for number, name in enumerate(names, start=1))


PARTS = (
    Part(
        "sharing",
        "Sharing the subject",
        "While the pictures are drawn, the self-attention of each also looks at the subject in a few others, "
        "the anchors. Nothing is trained for it. The paper calls it subject-driven self-attention, SDSA.",
        "Without it the prompt alone decides, and every scene has a cat of its own: orange, red, blue, "
        "pink. With it all four are the same red cat.",
        (Row("Each picture alone", PRESETS["plain"]), Row("With sharing", EXACT)),
    ),
    Part(
        "masks",
        "Subject masks",
        "Where the model looks when it reads the concept word is where the subject is. Only those places of "
        "the anchors are lent; their background is not.",
        "Without masks the cats are alike, but the scenes lose what is their own: the palms and the clouds "
        "of the beach, the trees in the snow. With masks these are back.",
        (Row("Sharing without masks", UNMASKED), Row("Sharing with masks", EXACT)),
        masks=True,
    ),
    Part(
        "dropout",
        "Mask dropout",
        "A share of the subject's places is withheld, drawn anew at every step. It leaves the pictures some "
        "freedom.",
        "At 0 all bellies are yellowish; at 0.5 they are green, white, yellow and white; at 0.9 hardly "
        "anything is shared, and blue and pink are back.",
        (
            Row("Dropout 0", EXACT),
            Row("Dropout 0.5", replace(EXACT, mask_dropout=0.5)),
            Row("Dropout 0.9", replace(EXACT, mask_dropout=0.9)),
        ),
    ),
    Part(
        "anchors",
        "Anchors",
        "The first pictures are the ones that all others look at. Their number is a setting; random anchors "
        "let every picture look at another one, drawn anew each time.",
        "One or two anchors are red, so all are. With four, every picture has a say, and they agree on pink. "
        "With random anchors they do not quite agree: the last is pinker than the others.",
        (
            Row("1 anchor", replace(EXACT, anchors=1)),
            Row("2 anchors", EXACT),
            Row("4 anchors", replace(EXACT, anchors=4)),
            Row("Random anchors", replace(EXACT, random_anchors=True)),
        ),
    ),
    Part(
        "injection",
        "Feature injection",
        "Places of the subject that match in two pictures are found, and fine detail is copied from one to "
        "the other. It needs two passes, so it takes about twice the time.",
        "Without it the belly is green, white, yellow and white, and the cat in the library is pinker; with "
        "it all bellies are light, and the reds agree.",
        (Row("Without injection", Settings()), Row("With injection", Settings(injection=True))),
    ),
    Part(
        "blending",
        "Query blending",
        "For the first steps each picture keeps part of the layout that it would have had alone, so that "
        "sharing does not make all poses the same.",
        "The small embedded model draws nearly the same pose anyway, so hardly a difference is seen here.",
        (Row("Without blending", UNMASKED), Row("With blending", replace(UNMASKED, query_blending=True))),
    ),
    Part(
        "latent",
        "Same noise",
        "Every picture begins from the same noise instead of its own.",
        "All bellies become the same olive: more alike. It costs variety, and the beach has another view.",
        (Row("Noise of its own", EXACT), Row("The same noise", replace(EXACT, same_latent=True))),
    ),
    Part(
        "filter",
        "Spectral filter",
        "Another way to leave the anchors' background out, which needs no mask: of the keys (K) and values "
        "(V) that anchors lend, only the largest singular values stay, or all are rescaled.",
        "No filter: one red cat, but the beach has lost its clouds, and half of its palms. Quantile 0.05 "
        "looks much the same here. Quantile 0.01 lends too little: clouds and trees are back, and so are "
        "four different cats. Log brings the clouds back and loses the colour of two cats; log2 keeps it.",
        (
            Row("No mask, no filter", replace(UNMASKED, query_blending=True)),
            Row("Quantile 0.05", PRESETS["svd-quantile"]),
            Row(
                "Quantile 0.01",
                replace(
                    PRESETS["svd-quantile"],
                    k_filter=SVDFilter("quantile", 0.01),
                    v_filter=SVDFilter("quantile", 0.01),
                ),
            ),
            Row("Log", PRESETS["svd-log"]),
            Row("Log2", PRESETS["svd-log2"]),
        ),
    ),
)
