"""Export settings: one definition for the page, the command line and validation."""

from typing import Any, Literal

from pydantic import field_validator

from consistory_svd.errors import FieldError, one_of
from consistory_svd.fields import field, validated

FORMATS: dict[str, str] = {
    "zip": "ZIP: all files, with story.json",
    "pdf": "Storybook (PDF)",
    "comic": "Comic pages (PNG)",
    "comic-pdf": "Comic pages (PDF)",
    "gif": "Animated GIF",
    "webp": "Animated WebP",
}
CAPTIONS = {"scene": "Scene", "prompt": "Full prompt", "none": "None"}
PLACES = {"under": "Below the image", "in": "On the image"}
LAYOUTS = (1, 2, 4, 6)
OWN_LAYOUT = {"pdf": 1, "comic": 4, "comic-pdf": 4}  # of the formats that have pages
# Width and height in points, 72 per inch.
PAPERS = {"a4": (595.28, 841.89), "letter": (612.0, 792.0), "square": (595.28, 595.28)}
PAPER_LABELS = {"a4": "A4", "letter": "US Letter", "square": "Square, 21 cm"}
MOVING = ("gif", "webp")
LONGEST_TITLE = 200


@validated
class ExportSettings:
    """How a story is exported. A format ignores the fields that it does not use.

    Raises:
        FieldError: a field is of a wrong type or has a value that is not allowed.
    """

    format: Literal["zip", "pdf", "comic", "comic-pdf", "gif", "webp"] = field(
        "Format", "File format of the export.", "pdf"
    )
    captions: Literal["scene", "prompt", "none"] = field("Captions", "Text of each image's caption.", "scene")
    place: Literal["under", "in"] = field(
        "Caption position", "A caption on the image covers a part of it.", "under"
    )
    layout: Literal[1, 2, 4, 6] | None = field(
        "Images per page", "1, 2, 4 or 6; by default 1 in a storybook and 4 in a comic.", None
    )
    paper: Literal["a4", "letter", "square"] = field("Paper", "Page size.", "a4")
    title: str = field("Title", "Title of the story. Empty: its subject.", "", max_length=LONGEST_TITLE)
    seconds: float = field(
        "Seconds per image", "How long an animation shows each image.", 1.5, ge=0.1, le=20.0, step=0.1
    )
    side: int = field("Longer side", "Longer side of an animation, in pixels.", 512, ge=64, le=1024, step=8)
    repeat: bool = field("Loop", "Repeat the animation forever.", True)

    @field_validator("layout", mode="before")
    @classmethod
    def _refuse_booleans(cls, layout: Any) -> Any:
        if isinstance(layout, bool):  # which equals 0 or 1
            raise FieldError("layout", layout, one_of(LAYOUTS))
        return layout

    @property
    def panels(self) -> int:
        """The maximum number of images per page."""
        return self.layout or OWN_LAYOUT.get(self.format, 1)
