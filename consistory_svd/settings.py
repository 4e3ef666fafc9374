"""Settings of a generation, and whether they fit a story."""

import sys
from collections.abc import Mapping
from typing import Any, Literal, get_origin, get_type_hints

from pydantic import field_validator, model_validator

from consistory_svd.errors import FieldError
from consistory_svd.fields import field, validated
from consistory_svd.story import Story


@validated
class SVDFilter:
    """Which singular values the SVD filter keeps, and how it reweights them (docs/method.md, section 7).

    `amount` is the number of largest values (count), a ratio of their number (quantile) or the share of the
    squared energy to exceed (energy). `alpha` is used by `exp` only.

    Raises:
        FieldError: a field is of a wrong type or out of range.
    """

    keep: Literal["all", "count", "quantile", "energy"] = field(
        "Keep", "Singular values to keep: all, or the largest by count, quantile or energy.", "all"
    )
    amount: Any = field(
        "Amount",
        "How much to keep: a count of 1 or more, a ratio of the values (quantile) or of their energy.",
        None,
    )
    reweight: Literal["none", "log", "log2", "exp"] = field(
        "Reweighting", "How kept values are rescaled: log and log2 flatten them, exp sharpens them.", "none"
    )
    alpha: float = field("Alpha", "Strength of exp reweighting; 0 leaves the values unchanged.", 1.0, ge=0)

    @model_validator(mode="after")
    def _check_amount(self) -> "SVDFilter":
        amount = self.amount
        number = not isinstance(amount, bool) and isinstance(amount, int | float)
        number = number and abs(amount) <= sys.float_info.max
        fits, allowed = {
            "all": (amount is None, "None when keep is all"),
            "count": (number and isinstance(amount, int) and amount >= 1, "a whole number of at least 1"),
            "quantile": (number and 0 < amount <= 1, "a number above 0 and at most 1"),
            "energy": (number and 0 < amount < 1, "a number above 0 and below 1"),
        }[self.keep]
        if not fits:
            raise FieldError("amount", amount, allowed)
        return self

    @property
    def identity(self) -> bool:
        """Whether the filter changes nothing, for any matrix."""
        return self.keep == "all" and self.reweight == "none"


@validated
class Settings:
    """How a story is generated: sampling, shared attention, masks, anchors.

    Raises:
        FieldError: a field is of a wrong type or out of range.
    """

    steps: int = field("Steps", "More steps give finer images and take longer.", 30, ge=1, le=200)
    guidance: float = field(
        "Guidance",
        "How closely images follow the prompt; 1 or less switches guidance off.",
        5.0,
        ge=0.0,
        le=30.0,
        step=0.1,
    )
    height: int | None = field(
        "Height", "Image height in pixels. Empty: the model's default.", None, ge=64, le=4096, multiple_of=8
    )
    width: int | None = field(
        "Width", "Image width in pixels. Empty: the model's default.", None, ge=64, le=4096, multiple_of=8
    )
    sdsa: bool = field(
        "Shared attention (SDSA)", "Every image also attends to the subject in the anchor images.", True
    )
    masking: bool = field("Subject masks", "Share only the subject's pixels, not the background.", True)
    mask_dropout: float = field(
        "Mask dropout",
        "Fraction of subject pixels hidden from other images. Higher: more pose variety; "
        "lower: more consistent.",
        0.5,
        ge=0.0,
        le=1.0,
        step=0.05,
    )
    query_blending: bool = field(
        "Query blending",
        "Keep the layout that each image would have on its own, for more pose variety.",
        False,
    )
    injection: bool = field(
        "Feature injection",
        "Copy fine details between matching places of the subject; takes about twice as long.",
        False,
    )
    short_first_pass: bool = field(
        "Short first pass",
        "With feature injection: stop the first pass once it has found the matches. Masks differ slightly.",
        False,
    )
    anchors: int = field(
        "Anchors", "Number of anchor images; all other images attend to them.", 2, ge=1, le=16
    )
    random_anchors: bool = field(
        "Random anchors",
        "Each image attends to a randomly chosen one, re-drawn every time, instead of to fixed anchors.",
        False,
    )
    k_filter: SVDFilter = field(
        "K filter", "SVD filter on the anchors' keys (K) before they are shared.", SVDFilter()
    )
    v_filter: SVDFilter = field(
        "V filter", "SVD filter on the anchors' values (V) before they are shared.", SVDFilter()
    )
    same_latent: bool = field(
        "Same initial noise", "Start every image from the same noise. More consistent, less variety.", False
    )
    freeu: bool = field(
        "FreeU", "Strengthen the U-Net's backbone features over its skip connections (Si et al. 2023).", False
    )
    scheduler: Literal["own", "ddim", "euler", "dpm++", "unipc", "lcm", "tcd"] = field(
        "Scheduler", "Sampling method; 'own' is the model's default.", "own"
    )
    spacing: Literal["own", "leading", "trailing", "linspace"] = field(
        "Timestep spacing",
        "Which timesteps are used; 'own' is the scheduler's default, 'trailing' suits models for few steps.",
        "own",
    )
    batch: int = field(
        "Batch size", "Images generated at the same time; more need more memory.", 4, ge=1, le=64
    )
    preview_every: int = field("Preview interval", "Steps between previews; 0 shows none.", 0, ge=0, le=200)

    @field_validator("k_filter", "v_filter", mode="before")
    @classmethod
    def _make_filter(cls, values: Any, info: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        try:
            return SVDFilter(**values)
        except FieldError as error:
            raise FieldError(f"{info.field_name}.{error.field}", error.value, error.allowed) from error

    @property
    def shares(self) -> bool:
        """Whether frames depend on each other."""
        return self.sdsa or self.injection

    @property
    def filters(self) -> bool:
        """Whether an SVD filter changes the anchors' keys or values."""
        return not (self.k_filter.identity and self.v_filter.identity)


_KINDS = get_type_hints(Settings)
BOOL_FIELDS = tuple(name for name, kind in _KINDS.items() if kind is bool)
CHOICE_FIELDS = tuple(name for name, kind in _KINDS.items() if get_origin(kind) is Literal)


def check(story: Story, settings: Settings) -> None:
    """Raise FieldError if a story and settings do not fit together."""
    frames = len(story.scenes)
    if settings.shares and settings.random_anchors and frames < 2:
        raise FieldError("random_anchors", True, "off in a story of one scene")
    if settings.shares and not settings.random_anchors and settings.anchors > frames:
        allowed = f"a whole number from 1 to {frames} in a story of {frames} scenes"
        raise FieldError("anchors", settings.anchors, "1 in a story of one scene" if frames == 1 else allowed)
    if settings.sdsa and settings.steps < 2:
        # Step 0 has no masks yet, so a single step could not share anything (docs/method.md, section 3).
        raise FieldError("steps", settings.steps, "at least 2 while the subject is shared")


def notes(settings: Settings) -> tuple[str, ...]:
    """Return a note for each setting that is on and has no effect."""
    found = []
    if settings.query_blending and not settings.sdsa:
        found.append("query blending has no effect without shared attention")
    if settings.filters and not settings.sdsa:
        found.append("SVD filters have no effect without shared attention")
    if settings.short_first_pass and not settings.injection:
        found.append("short first pass has no effect without feature injection")
    if settings.spacing != "own" and settings.scheduler in ("lcm", "tcd"):
        found.append(
            f"timestep spacing has no effect with {settings.scheduler}, which chooses its own timesteps"
        )
    if settings.random_anchors and not settings.shares:
        found.append("random anchors have no effect while nothing is shared")
    return tuple(found)
