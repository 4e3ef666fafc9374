"""What a person may ask for when a story is taken along: one definition for page, command line and checks."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from consistory_svd.errors import FieldError, one_of
from consistory_svd.settings import field_of

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


def _field(label: str, help: str, default: Any, **limits: float) -> Any:
    return field(metadata={"label": label, "help": help, **limits}, default=default)


@dataclass(frozen=True)
class ExportSettings:
    """How a story is taken along. What a format has no use for is not looked at.

    Raises:
        ValueError: a field is of a wrong type or not among what is allowed.
    """

    format: Literal["zip", "pdf", "comic", "comic-pdf", "gif", "webp"] = _field(
        "Format", "What the story becomes.", default="pdf"
    )
    captions: Literal["scene", "prompt", "none"] = _field(
        "Captions", "What is written to each picture.", default="scene"
    )
    place: Literal["under", "in"] = _field(
        "Caption place", "In the picture, a caption covers a part of it.", default="under"
    )
    layout: int | None = _field(
        "Pictures a page", "1, 2, 4 or 6; by default 1 in a storybook and 4 on a comic page.", default=None
    )
    paper: Literal["a4", "letter", "square"] = _field("Paper", "The size of a page.", default="a4")
    title: str = _field("Title", "What the story is called; empty: its subject.", default="")
    seconds: float = _field(
        "Seconds a picture",
        "How long an animation shows each picture.",
        default=1.5,
        minimum=0.1,
        maximum=20.0,
        step=0.1,
    )
    side: int = _field(
        "Longest side",
        "Pixels of an animation's longer side; a large one makes a large file.",
        default=512,
        minimum=64,
        maximum=1024,
        step=8,
    )
    repeat: bool = _field("Repeat", "The animation begins again when it is over.", default=True)

    def __post_init__(self) -> None:
        for name in ("format", "captions", "place", "paper"):
            _check_choice(name, getattr(self, name), get_args(get_type_hints(ExportSettings)[name]))
        if self.layout is not None:
            _check_choice("layout", self.layout, LAYOUTS)
        if not isinstance(self.title, str) or len(self.title) > LONGEST_TITLE:
            raise FieldError("title", self.title, f"text of at most {LONGEST_TITLE} characters")
        _check_number("seconds", self.seconds, (int, float))
        _check_number("side", self.side, (int,))
        if not isinstance(self.repeat, bool):
            raise FieldError("repeat", self.repeat, "True or False")

    @property
    def panels(self) -> int:
        """How many pictures a page has at most."""
        return self.layout or OWN_LAYOUT.get(self.format, 1)


def _check_choice(name: str, value: object, choices: tuple) -> None:
    if isinstance(value, bool) or value not in choices:
        raise FieldError(name, value, one_of(choices))


def _check_number(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    limits = field_of(ExportSettings, name)
    fits = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not limits.minimum <= value <= limits.maximum:
        kind = "a number" if float in kinds else "a whole number"
        raise FieldError(name, value, f"{kind} from {limits.minimum} to {limits.maximum}")
