"""What a person may ask for: a `Story` to tell, and `Settings` to tell it with.

Each field carries its label, help and range, so that the studio, the command line and validation share one
definition: `knob(Settings, "steps").minimum`. A wrong value raises ValueError with the field's name, the
value and what is allowed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from consistory_svd.errors import FieldError, one_of
from consistory_svd.fields import (
    Field,
    check_filled,
    check_number,
    check_text,
    field_of,
    is_number,
    items,
    number_field,
    text_field,
)
from consistory_svd.story import contains, find_concept

MOST_FRAMES = 1000
LARGEST_SEED = 2**32 - 1

__all__ = [
    "BOOL_FIELDS",
    "CHOICE_FIELDS",
    "Field",
    "SVDFilter",
    "Settings",
    "Story",
    "check",
    "field_of",
    "find_concept",
    "notes",
]


@dataclass(frozen=True)
class Story:
    """A subject, the scenes it is seen in, and how the pictures look. Frames are the scenes in order.

    Raises:
        ValueError: a field is empty, of a wrong type or out of range, or a concept word is in no prompt.
    Source: issue 2, section 4.
    """

    subject: str = text_field("Subject", "Who or what the story is about, the same in every picture.")
    scenes: tuple[str, ...] = text_field(
        "Scenes", "Where the subject is seen or what it does: one picture each."
    )
    style: str = text_field(
        "Style", "How the pictures look; every prompt begins with it.", default="a photo of"
    )
    concepts: tuple[str, ...] = text_field(
        "Concept words",
        "The words of the prompt that stay the same; found in the subject when left empty.",
        default=(),
    )
    negative: str = text_field("Negative prompt", "What should not be in the pictures.", default="")
    seed: int = number_field("Seed", "The same seed tells the same story again.", 0, LARGEST_SEED, 1, 0)
    seeds: tuple[int | None, ...] = text_field(
        "Seeds of single pictures",
        "Pictures that have a seed of their own, in the order of the scenes; all others follow the story's.",
        default=(),
    )

    def __post_init__(self) -> None:
        for name in ("scenes", "concepts", "seeds"):
            object.__setattr__(self, name, items(name, getattr(self, name)))
        for name in ("subject", "style", "negative"):
            check_text(name, getattr(self, name))
        if not self.subject.strip():
            raise FieldError("subject", self.subject, "text that is not empty, such as 'a cat'")
        if not 1 <= len(self.scenes) <= MOST_FRAMES:
            raise FieldError("scenes", len(self.scenes), f"1 to {MOST_FRAMES}")
        for name in ("scenes", "concepts"):
            check_filled(name, getattr(self, name))
        check_number(field_of(Story, "seed"), self.seed, whole=True)
        self._check_seeds()
        if self.concepts:
            self._check_concepts()
        else:
            find_concept(self.subject)

    def _check_seeds(self) -> None:
        if len(self.seeds) > len(self.scenes):
            raise FieldError("seeds", len(self.seeds), f"at most {len(self.scenes)}, one for each scene")
        for seed in self.seeds:
            if seed is not None:
                check_number(replace(field_of(Story, "seed"), name="seeds"), seed, whole=True)
        first = {}
        for number, seed in enumerate(self.frame_seeds, start=1):
            if first.setdefault(seed, number) != number:
                raise FieldError("seeds", seed, f"different for images {first[seed]} and {number}")

    def _check_concepts(self) -> None:
        for concept in self.concepts:
            if not any(contains(prompt, concept) for prompt in self.prompts):
                raise FieldError(
                    "concepts", concept, f"words of the subject ({self.subject!r}) or of a scene"
                )

    @property
    def prompts(self) -> tuple[str, ...]:
        """One prompt a frame: style, subject and scene, single spaces between; an empty style is left out."""
        return tuple(" ".join(f"{self.style} {self.subject} {scene}".split()) for scene in self.scenes)

    @property
    def concept_words(self) -> tuple[str, ...]:
        """The words whose pixels are the subject: `concepts`, or else the head noun of the subject."""
        return self.concepts or (find_concept(self.subject),)

    @property
    def frame_seeds(self) -> tuple[int, ...]:
        """One seed a frame: its own of `seeds`, or else one from the story's seed and the frame's position
        alone; no two are the same."""
        own = (*self.seeds, *(None,) * (len(self.scenes) - len(self.seeds)))
        return tuple(self.seed_at(k) if seed is None else seed for k, seed in enumerate(own))

    def seed_at(self, position: int) -> int:
        """The seed that the story's seed gives the frame at a position, from 0."""
        digest = hashlib.sha256(str(self.seed).encode()).digest()
        start = int.from_bytes(digest[:4], "big")
        # An odd stride visits every 32-bit number once.
        return (start + position * 0x9E3779B1) % 2**32

    def has_own_seed(self, position: int) -> bool:
        """Whether the frame at a position, from 0, has a seed of its own."""
        return position < len(self.seeds) and self.seeds[position] is not None


@dataclass(frozen=True)
class SVDFilter:
    """Which singular values of a matrix the spectral filter keeps, and how it reweights them.

    `value` says how many: the N largest (count), the share of their number (quantile), the share of squared
    energy that must be exceeded (energy); `all` takes none. `alpha` matters to `exp` alone.

    Raises:
        ValueError: a field is of a wrong type or out of range.
    Source: coursework report (HSE, 2025), sections 4.1-4.3; spec of the spectral filter.
    """

    keep: Literal["all", "count", "quantile", "energy"] = text_field(
        "Keep", "Which singular values stay: all, or the largest by count, quantile or energy.", default="all"
    )
    amount: float | None = text_field(
        "Keep value",
        "How much to keep: a count of 1 or more, or a ratio: of the values (quantile) or of their energy.",
        default=None,
    )
    reweight: Literal["none", "log", "log2", "exp"] = text_field(
        "Reweight",
        "How the kept values are rescaled: log and log2 flatten them, exp sharpens.",
        default="none",
    )
    alpha: float = text_field("Alpha", "How strongly exp sharpens; 0 leaves the values alone.", default=1.0)

    def __post_init__(self) -> None:
        for name in ("keep", "reweight"):
            choices = get_args(get_type_hints(SVDFilter)[name])
            if getattr(self, name) not in choices:
                raise FieldError(name, getattr(self, name), one_of(choices))
        fits, allowed = {
            "all": (self.amount is None, "None when keep is all"),
            "count": (is_number(self.amount, whole=True) and self.amount >= 1, "a whole number of 1 or more"),
            "quantile": (is_number(self.amount) and 0 < self.amount <= 1, "a number above 0 and at most 1"),
            "energy": (is_number(self.amount) and 0 < self.amount < 1, "a number above 0 and below 1"),
        }[self.keep]
        if not fits:
            raise FieldError("amount", self.amount, allowed)
        if not is_number(self.alpha) or self.alpha < 0:
            raise FieldError("alpha", self.alpha, "a finite number of 0 or more")

    @property
    def identity(self) -> bool:
        """Whether the filter changes nothing, whatever the matrix."""
        return self.keep == "all" and self.reweight == "none"


@dataclass(frozen=True)
class Settings:
    """How a story is told: sampling, sharing, masks, anchors.

    Raises:
        ValueError: a field is of a wrong type or out of range.
    Source: issue 2, section 4; spec sections 1, 3 and 4.
    """

    steps: int = number_field("Steps", "More steps draw finer pictures and take longer.", 1, 200, 1, 30)
    guidance: float = number_field(
        "Guidance",
        "How closely pictures follow the prompt; 1 or less switches guidance off.",
        0.0,
        30.0,
        0.1,
        5.0,
    )
    height: int | None = number_field(
        "Height", "Picture height in pixels; empty: the model's own.", 64, 4096, 8, None
    )
    width: int | None = number_field(
        "Width", "Picture width in pixels; empty: the model's own.", 64, 4096, 8, None
    )
    sdsa: bool = text_field(
        "Share the subject", "Every picture also looks at the anchors while it is drawn.", default=True
    )
    masking: bool = text_field(
        "Mask the subject", "Share only the pixels of the subject, not the background.", default=True
    )
    mask_dropout: float = number_field(
        "Mask dropout", "Share of the subject's pixels withheld: higher varies poses, lower is more alike.",
        0.0, 1.0, 0.05, 0.5,
    )  # fmt: skip
    query_blending: bool = text_field(
        "Blend queries",
        "Keep the layout that each picture would have had alone: poses vary more.",
        default=False,
    )
    injection: bool = text_field(
        "Inject features",
        "Copy fine detail between matching places of the subject: more alike, about twice the time.",
        default=False,
    )
    short_first_pass: bool = text_field(
        "Short first pass",
        "With injection: end the pass that finds matches as soon as it has them; masks differ slightly.",
        default=False,
    )
    anchors: int = number_field(
        "Anchors", "The first so many pictures are the ones that all others look at.", 1, 16, 1, 2
    )
    random_anchors: bool = text_field(
        "Random anchors",
        "Every picture looks at another one, drawn anew each time, instead of at the first ones.",
        default=False,
    )
    k_filter: SVDFilter = field(
        metadata={
            "label": "Filter on keys",
            "help": "Singular values of the anchors' keys that are lent: what places look for each other by.",
        },
        default_factory=SVDFilter,
    )
    v_filter: SVDFilter = field(
        metadata={
            "label": "Filter on values",
            "help": "Singular values of the anchors' values that are lent: what places take from each other.",
        },
        default_factory=SVDFilter,
    )
    same_latent: bool = text_field(
        "Same noise", "Every picture begins from the same noise: more alike, less variety.", default=False
    )
    freeu: bool = text_field(
        "FreeU",
        "Strengthen shapes over texture in the model's last blocks, as the paper does.",
        default=False,
    )
    scheduler: Literal["own", "ddim", "euler", "dpm++", "unipc", "lcm", "tcd"] = text_field(
        "Scheduler",
        "How steps lead from noise to picture: the model's own, or another.",
        default="own",
    )
    spacing: Literal["own", "leading", "trailing", "linspace"] = text_field(
        "Step spacing",
        "Where the steps lie: as the scheduler has it; trailing for models that are made for few steps.",
        default="own",
    )
    batch: int = number_field("Batch", "Pictures drawn together; more need more memory.", 1, 64, 1, 4)
    preview_every: int = number_field("Preview every", "Steps between previews; 0 shows none.", 0, 200, 1, 0)

    def __post_init__(self) -> None:
        kinds = get_type_hints(Settings)
        for name, kind in kinds.items():
            value = getattr(self, name)
            if kind is SVDFilter:
                object.__setattr__(self, name, _svd_filter(name, value))
            elif kind is bool:
                if not isinstance(value, bool):
                    raise FieldError(name, value, "True or False")
            elif get_origin(kind) is Literal:
                if value not in get_args(kind):
                    raise FieldError(name, value, one_of(get_args(kind)))
            elif not (value is None and kind == int | None):
                check_number(field_of(Settings, name), value, whole=kind is not float)

    @property
    def shares(self) -> bool:
        """Whether frames see anything of each other."""
        return self.sdsa or self.injection

    @property
    def filters(self) -> bool:
        """Whether what anchors lend passes a spectral filter."""
        return not (self.k_filter.identity and self.v_filter.identity)


# Fields of Settings by what a person gives for them: on or off, one of a few words.
BOOL_FIELDS = tuple(name for name, kind in get_type_hints(Settings).items() if kind is bool)
CHOICE_FIELDS = tuple(name for name, kind in get_type_hints(Settings).items() if get_origin(kind) is Literal)


def check(story: Story, settings: Settings) -> None:
    """Raise ValueError, naming the field, where a story and settings do not fit together."""
    frames = len(story.scenes)
    if settings.shares and settings.random_anchors and frames < 2:
        raise FieldError("random_anchors", True, "off in a story of one scene")
    if settings.shares and not settings.random_anchors and settings.anchors > frames:
        allowed = (
            "1 in a story of one scene"
            if frames == 1
            else f"a whole number from 1 to {frames} in a story of {frames} scenes"
        )
        raise FieldError("anchors", settings.anchors, allowed)
    if settings.sdsa and settings.steps < 2:
        # Step 0 has no masks yet, so a single step could not share anything (spec 4.1).
        raise FieldError("steps", settings.steps, "at least 2 while the subject is shared")


def notes(settings: Settings) -> tuple[str, ...]:
    """What is switched on and has no effect with these settings, in words for the person who set it."""
    said = []
    if settings.query_blending and not settings.sdsa:
        said.append("query_blending: has no effect without sharing, because queries are blended only there")
    if settings.filters and not settings.sdsa:
        said.append("k_filter, v_filter: have no effect without sharing; only what is lent is filtered")
    if settings.short_first_pass and not settings.injection:
        said.append("short_first_pass: has no effect without feature injection, which alone has two passes")
    if settings.spacing != "own" and settings.scheduler in ("lcm", "tcd"):
        said.append(f"spacing: has no effect with {settings.scheduler}, which places its steps itself")
    if settings.random_anchors and not settings.shares:
        said.append("random_anchors: has no effect while nothing is shared")
    return tuple(said)


def _svd_filter(name: str, value: Any) -> SVDFilter:
    """A spectrum, also from the mapping that a record of it holds."""
    if isinstance(value, SVDFilter):
        return value
    if isinstance(value, Mapping):  # records before version 2 said select and value
        value = {{"select": "keep", "value": "amount"}.get(key, key): part for key, part in value.items()}
    if not isinstance(value, Mapping) or not set(value) <= {item.name for item in fields(SVDFilter)}:
        raise FieldError(name, value, "an SVDFilter or its fields")
    try:
        return SVDFilter(**value)
    except FieldError as error:
        raise FieldError(f"{name}.{error.field}", error.value, error.allowed) from error
