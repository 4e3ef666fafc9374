"""What each part of the method does, in plain words, and the settings of the picture that shows it."""

from dataclasses import dataclass, replace

from consistory_svd.models import EMBEDDED
from consistory_svd.settings import PRESETS, Settings, Spectrum, Story
from consistory_svd.studio.recipes import Row

# Beside the embedded model, which made them: `tools/make_about_pictures.py` does so again.
PICTURES = EMBEDDED.parent / "about"
CAT = Story("a cat", ("in the forest", "on the beach", "in the snow", "in a library"), seed=7)
STEPS = 30


@dataclass(frozen=True)
class Part:
    """A part of the method: what it does, a story told with each row's settings, and what is seen there."""

    key: str
    title: str
    text: str
    rows: tuple[Row, ...]
    seen: str = ""
    story: Story = CAT
    marked: bool = False  # whether a last row shows what the mask of the row above takes for the subject

    @property
    def file(self) -> str:
        """The name of its picture."""
        return f"{self.key}.webp"

    @property
    def alt(self) -> str:
        """The picture in words, for those who do not see it."""
        rows = ", ".join(row.name.lower() for row in self.rows)
        return f"{self.story.subject} {', '.join(self.story.scenes)}; a row each: {rows}"


EXACT = Settings(mask_dropout=0.0)
UNMASKED = replace(EXACT, masking=False)
PARTS = (
    Part("sharing", "Sharing the subject", "", (Row("Plain", PRESETS["plain"]), Row("SDSA", EXACT))),
    Part("masks", "Subject masks", "", (Row("Without mask", UNMASKED), Row("With mask", EXACT)), marked=True),
    Part(
        "dropout",
        "Mask dropout",
        "",
        (
            Row("0", EXACT),
            Row("0.5", replace(EXACT, mask_dropout=0.5)),
            Row("0.9", replace(EXACT, mask_dropout=0.9)),
        ),
    ),
    Part(
        "anchors",
        "Anchors",
        "",
        (
            Row("1", replace(EXACT, anchors=1)),
            Row("2", EXACT),
            Row("4", replace(EXACT, anchors=4)),
            Row("random", replace(EXACT, random_anchors=True)),
        ),
    ),
    Part(
        "blending",
        "Query blending",
        "",
        (Row("off", UNMASKED), Row("on", replace(UNMASKED, query_blending=True))),
    ),
    Part("injection", "Feature injection", "", (Row("off", Settings()), Row("on", Settings(injection=True)))),
    Part("latent", "Same noise", "", (Row("own", EXACT), Row("same", replace(EXACT, same_latent=True)))),
    Part(
        "filter",
        "Spectral filter",
        "",
        (
            Row("no filter", replace(UNMASKED, query_blending=True)),
            Row("quantile .05", PRESETS["svd-quantile"]),
            Row(
                "quantile 0.01",
                replace(
                    PRESETS["svd-quantile"],
                    spectrum_k=Spectrum("quantile", 0.01),
                    spectrum_v=Spectrum("quantile", 0.01),
                ),
            ),
            Row("log", PRESETS["svd-log"]),
            Row("log2", PRESETS["svd-log2"]),
        ),
    ),
)
