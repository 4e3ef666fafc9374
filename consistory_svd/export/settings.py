"""What a person may ask for when a story is taken along: one definition for page, command line and checks."""

from typing import Any, Literal

from pydantic import field_validator

from consistory_svd.errors import FieldError, one_of
from consistory_svd.fields import field, validated

FORMATS: dict[str, str] = {
    "zip": "ZIP: everything, with story.json",
    "pdf": "Storybook (PDF)",
    "comic": "Comic pages (PNG)",
    "comic-pdf": "Comic pages (PDF)",
    "gif": "Animated GIF",
    "webp": "Animated WebP",
}
CAPTIONS = {"scene": "The scene", "prompt": "The whole prompt", "none": "None"}
PLACES = {"under": "Under the picture", "in": "In the picture"}
LAYOUTS = (1, 2, 4, 6)
OWN_LAYOUT = {"pdf": 1, "comic": 4, "comic-pdf": 4}  # those of FORMATS that have pages
# Width and height in points, of which an inch has 72.
PAPERS = {"a4": (595.28, 841.89), "letter": (612.0, 792.0), "square": (595.28, 595.28)}
PAPER_LABELS = {"a4": "A4", "letter": "US Letter", "square": "Square, 21 cm"}
MOVING = ("gif", "webp")
LONGEST_TITLE = 200


@validated
class ExportSettings:
    """How a story is taken along. What a format has no use for is not looked at.

    Raises:
        FieldError: a field is of a wrong type or has a value that is not allowed.
    """

    format: Literal["zip", "pdf", "comic", "comic-pdf", "gif", "webp"] = field(
        "Format", "What the story becomes.", "pdf"
    )
    captions: Literal["scene", "prompt", "none"] = field(
        "Captions", "What is written to each picture.", "scene"
    )
    place: Literal["under", "in"] = field(
        "Caption place", "In the picture, a caption covers a part of it.", "under"
    )
    layout: Literal[1, 2, 4, 6] | None = field(
        "Pictures a page", "1, 2, 4 or 6; by default 1 in a storybook and 4 on a comic page.", None
    )
    paper: Literal["a4", "letter", "square"] = field("Paper", "The size of a page.", "a4")
    title: str = field("Title", "What the story is called; empty: its subject.", "", max_length=LONGEST_TITLE)
    seconds: float = field(
        "Seconds a picture",
        "How long an animation shows each picture.",
        1.5,
        ge=0.1,
        le=20.0,
        step=0.1,
    )
    side: int = field(
        "Longest side",
        "Pixels of an animation's longer side; a large one makes a large file.",
        512,
        ge=64,
        le=1024,
        step=8,
    )
    repeat: bool = field("Repeat", "The animation begins again when it is over.", True)

    @field_validator("layout", mode="before")
    @classmethod
    def _refuse_booleans(cls, layout: Any) -> Any:
        if isinstance(layout, bool):  # which equals 0 or 1
            raise FieldError("layout", layout, one_of(LAYOUTS))
        return layout

    @property
    def panels(self) -> int:
        """How many pictures a page has at most."""
        return self.layout or OWN_LAYOUT.get(self.format, 1)
