"""Presets by name, and settings as text."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from consistory_svd.errors import FieldError, one_of
from consistory_svd.settings import Settings, SVDFilter

# Shown for settings that are no preset's.
CUSTOM = "custom"
# Settings that say how images are sampled; presets say how they are kept consistent.
SAMPLING_FIELDS = ("steps", "guidance", "height", "width", "batch", "scheduler", "spacing", "preview_every")
# Settings with more changes than this are not described by the preset they differ from.
MOST_CHANGES = 3
SHORT_NAMES = {"sdsa": "SDSA", "freeu": "FreeU", "same_latent": "same noise"}


def _svd_filtered(svd_filter: SVDFilter) -> Settings:
    """Return shared attention without masks, with the same filter on K and V (docs/method.md, section 7)."""
    return Settings(
        masking=False, mask_dropout=0.0, query_blending=True, k_filter=svd_filter, v_filter=svd_filter
    )


PRESETS: dict[str, Settings] = {
    "plain": Settings(sdsa=False),
    "sdsa": Settings(),
    "consistory": Settings(query_blending=True, injection=True),
    "svd-quantile": _svd_filtered(SVDFilter("quantile", 0.05)),
    "svd-energy": _svd_filtered(SVDFilter("energy", 0.95)),
    "svd-log": _svd_filtered(SVDFilter(reweight="log")),
    "svd-log2": _svd_filtered(SVDFilter(reweight="log2")),
    "svd-log2-quantile": _svd_filtered(SVDFilter("quantile", 0.05, "log2")),
    # docs/svd-study.md compares it with the others.
    "svd-ours": replace(_svd_filtered(SVDFilter("energy", 0.95)), same_latent=True),
}
# Label and help of each.
PRESET_TEXTS: dict[str, tuple[str, str]] = {
    "plain": ("Plain", "Nothing is shared: each image is generated on its own, for comparison."),
    "sdsa": ("Shared attention", "Every image attends to the subject in the anchors; nothing else."),
    "consistory": (
        "ConsiStory",
        "The full method: masked shared attention, query blending, feature injection.",
    ),
    "svd-quantile": ("SVD quantile", "No masks; keeps the largest 5 % of the anchors' singular values."),
    "svd-energy": ("SVD energy", "No masks; keeps the singular values that hold 95 % of the energy."),
    "svd-log": ("SVD log", "No masks; log-flattened singular values: more varied, less consistent."),
    "svd-log2": ("SVD log2", "No masks; singular values flattened by their squared logarithm."),
    "svd-log2-quantile": ("SVD log2 + quantile", "No masks; keeps the largest 5 % and flattens them."),
    "svd-ours": (
        "Ours: SVD energy, same noise",
        "SVD energy from the same initial noise: more consistent, less pose variety.",
    ),
}


def preset(name: str) -> Settings:
    """Return the settings of a preset; FieldError for an unknown name."""
    if name not in PRESETS:
        raise FieldError("preset", name, one_of(PRESETS))
    return PRESETS[name]


def preset_label(name: str) -> str:
    """Return a preset's label on the page; any other name is returned unchanged."""
    return PRESET_TEXTS[name][0] if name in PRESET_TEXTS else name


def preset_of(settings: Settings) -> str:
    """Return the preset with the same effect, ignoring sampling; CUSTOM if there is none."""
    name, changes = _closest_preset(settings)
    return CUSTOM if changes else name


def describe(settings: Settings, preset_name: str = "") -> str:
    """Return a preset's label and what the settings change in it, such as "ConsiStory, mask dropout 0.2".

    Without a known `preset_name` it is the closest preset. Sampling and settings without effect are ignored.
    CUSTOM if there are more than MOST_CHANGES.
    """
    if preset_name in PRESETS:
        name, changes = preset_name, _changes(PRESETS[preset_name], settings)
    else:
        name, changes = _closest_preset(settings)
    return CUSTOM if len(changes) > MOST_CHANGES else ", ".join((preset_label(name), *changes))


def differences(several: Sequence[Settings]) -> tuple[tuple[str, ...], ...]:
    """Return, for each settings, the values that are not the same in all; those without effect are left out.

    Such as ("masking off", "K quantile 0.05").
    """
    known = [_effective(settings) for settings in several]
    names = [item.name for item in fields(Settings)]
    different = [name for name in names if len({values[name] for values in known if name in values}) > 1]
    return tuple(_as_text({name: values[name] for name in different if name in values}) for values in known)


def format_filter(svd_filter: SVDFilter) -> str:
    """Return a short description of a filter, such as "quantile 0.05, log2"."""
    kept = svd_filter.keep if svd_filter.amount is None else f"{svd_filter.keep} {svd_filter.amount:g}"
    alpha = f" {svd_filter.alpha:g}" if svd_filter.reweight == "exp" else ""
    return kept if svd_filter.reweight == "none" else f"{kept}, {svd_filter.reweight}{alpha}"


def _closest_preset(settings: Settings) -> tuple[str, tuple[str, ...]]:
    filters = settings.sdsa and settings.filters
    changes = {name: _changes(known, settings) for name, known in PRESETS.items() if known.filters == filters}
    closest = min(changes, key=lambda name: (len(changes[name]), _filter_distance(PRESETS[name], settings)))
    return closest, changes[closest]


def _filter_distance(one: Settings, other: Settings) -> int:
    """Return in how many strategies the filters of two settings differ: 0 to 4."""
    pairs = ((one.k_filter, other.k_filter), (one.v_filter, other.v_filter))
    return sum((a.keep != b.keep) + (a.reweight != b.reweight) for a, b in pairs)


def _changes(base: Settings, settings: Settings) -> tuple[str, ...]:
    """Return, as text, the effective settings that differ from `base`, sampling left out."""
    known, values = _effective(base), _effective(settings)
    changed = [name for name in values if name not in SAMPLING_FIELDS]
    return _as_text(
        {name: values[name] for name in changed if name not in known or known[name] != values[name]}
    )


def _effective(settings: Settings) -> dict[str, Any]:
    """Return the settings that have an effect, by name."""
    unused: set[str] = set()
    if not settings.sdsa:
        unused |= {"masking", "mask_dropout", "query_blending", "k_filter", "v_filter"}
    if not settings.masking:
        unused.add("mask_dropout")
    if not settings.shares:
        unused |= {"anchors", "random_anchors"}
    if settings.random_anchors:
        unused.add("anchors")
    if not settings.injection:
        unused.add("short_first_pass")
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {name: value for name, value in values.items() if name not in unused}


def _as_text(values: dict[str, Any]) -> tuple[str, ...]:
    keys, shared_values = values.get("k_filter"), values.get("v_filter")
    if keys is not None and keys == shared_values:
        rest = {name: value for name, value in values.items() if not isinstance(value, SVDFilter)}
        return (*_as_text(rest), f"K and V {_filter_or_none(keys)}")
    return tuple(_one_as_text(name, value) for name, value in values.items())


def _one_as_text(name: str, value: Any) -> str:
    if isinstance(value, SVDFilter):
        return f"{name[0].upper()} {_filter_or_none(value)}"
    label = SHORT_NAMES.get(name, name.replace("_", " "))
    if isinstance(value, bool):
        return f"{label} {'on' if value else 'off'}"
    return f"{label} {value:g}" if isinstance(value, int | float) else f"{label} {value}"


def _filter_or_none(svd_filter: SVDFilter) -> str:
    return "not filtered" if svd_filter.identity else format_filter(svd_filter)
