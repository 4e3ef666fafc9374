"""Settings by name: the methods that are compared, each with what it is called and what it does."""

from dataclasses import replace

from consistory_svd.errors import FieldError, one_of
from consistory_svd.settings import Settings, SVDFilter

# What settings are called that are no preset's.
OWN_PRESET = "your own"
# Of Settings, what says how pictures are drawn and not how alike they are.
SAMPLING = ("steps", "guidance", "height", "width", "batch", "scheduler", "spacing", "preview_every")


def preset(name: str) -> Settings:
    """The settings of a preset. ValueError naming the known presets when there is none of that name."""
    if name not in PRESETS:
        raise FieldError("preset", name, one_of(PRESETS))
    return PRESETS[name]


def preset_of(settings: Settings) -> str:
    """The preset that tells a story alike in the same way, whatever the sampling; or OWN_PRESET."""
    sampling = {name: getattr(settings, name) for name in SAMPLING}
    return next(
        (name for name, known in PRESETS.items() if replace(known, **sampling) == settings), OWN_PRESET
    )


def preset_label(name: str) -> str:
    """What a preset is called on a page; a name that is none's stays as it is."""
    return PRESET_WORDS[name][0] if name in PRESET_WORDS else name


def _svd_filtered(svd_filter: SVDFilter) -> Settings:
    """The coursework report's way: everything is shared without masks, K and V filtered alike."""
    return Settings(
        masking=False, mask_dropout=0.0, query_blending=True, k_filter=svd_filter, v_filter=svd_filter
    )


# Made last: making Settings validates them.
PRESETS: dict[str, Settings] = {
    "plain": Settings(sdsa=False),
    "sdsa": Settings(),
    "consistory": Settings(query_blending=True, injection=True),
    "svd-quantile": _svd_filtered(SVDFilter("quantile", 0.05)),
    "svd-energy": _svd_filtered(SVDFilter("energy", 0.95)),
    "svd-log": _svd_filtered(SVDFilter(reweight="log")),
    "svd-log2": _svd_filtered(SVDFilter(reweight="log2")),
    "svd-log2-quantile": _svd_filtered(SVDFilter("quantile", 0.05, "log2")),
    # Of our own: docs/svd-study.md has how it compares.
    "svd-ours": replace(_svd_filtered(SVDFilter("energy", 0.95)), same_latent=True),
}
# What each is called, and what it does.
PRESET_WORDS: dict[str, tuple[str, str]] = {
    "plain": ("Plain", "Nothing is shared: each picture alone, to compare."),
    "sdsa": ("Shared attention", "Every picture looks at the subject of the anchors, and nothing more."),
    "consistory": ("ConsiStory", "The whole method: shared attention with masks, blended queries, features."),
    "svd-quantile": ("SVD quantile", "No masks; the largest 5 % of the anchors' singular values are lent."),
    "svd-energy": ("SVD energy", "No masks; singular values that hold 95 % of the energy are lent."),
    "svd-log": ("SVD log", "No masks; singular values are flattened by their logarithm: varied, less alike."),
    "svd-log2": ("SVD log2", "No masks; singular values are flattened by their squared logarithm."),
    "svd-log2-quantile": ("SVD log2 + quantile", "No masks; the largest 5 % are lent, flattened."),
    "svd-ours": (
        "Ours: SVD energy, same noise",
        "SVD energy from the same noise: more alike, poses vary less.",
    ),
}
