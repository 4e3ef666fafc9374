"""Settings in words: how a story's pictures are told alike, and in what several settings differ."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from consistory_svd.presets import OWN_PRESET, PRESETS, SAMPLING, preset_label
from consistory_svd.settings import Settings, SVDFilter

NAMES = {"sdsa": "SDSA", "freeu": "FreeU", "same_latent": "same noise"}
# Settings further from every preset than this are not said by what they change in one.
MOST_CHANGES = 3


def manner(settings: Settings) -> str:
    """The preset that tells a story alike in this way, or the nearest one and what is changed in it.

    Such as "ConsiStory", or "ConsiStory, mask dropout 0.2"; OWN_PRESET where more than MOST_CHANGES differ.
    Neither sampling counts, nor what has no effect.
    """
    filters = settings.sdsa and settings.filters
    changes = {name: _changes(known, settings) for name, known in PRESETS.items() if known.filters == filters}
    nearest = min(changes, key=lambda name: (len(changes[name]), _filters_apart(PRESETS[name], settings)))
    if len(changes[nearest]) > MOST_CHANGES:
        return OWN_PRESET
    return ", ".join((preset_label(nearest), *changes[nearest]))


def _filters_apart(one: Settings, other: Settings) -> int:
    """In how much two settings filter in another way, whatever the numbers: 0 to 4."""
    pairs = ((one.k_filter, other.k_filter), (one.v_filter, other.v_filter))
    return sum((a.keep != b.keep) + (a.reweight != b.reweight) for a, b in pairs)


def _changes(preset: Settings, settings: Settings) -> tuple[str, ...]:
    """What of the settings is not the preset's, or has no effect there, in words; sampling left out."""
    known = _effective(preset)
    return _in_words(
        {
            name: value
            for name, value in _effective(settings).items()
            if name not in SAMPLING and not (name in known and known[name] == value)
        }
    )


def differences(several: Sequence[Settings]) -> tuple[tuple[str, ...], ...]:
    """For each settings, in words, what is not the same in all, such as ("masking off", "K quantile 0.05").

    What has no effect in one of them is not named there.
    """
    known = [_effective(settings) for settings in several]
    names = [item.name for item in fields(Settings)]
    different = [name for name in names if len({values[name] for values in known if name in values}) > 1]
    return tuple(_in_words({name: values[name] for name in different if name in values}) for values in known)


def in_short(svd_filter: SVDFilter) -> str:
    """A filter in a few words, such as "quantile 0.05, log2"."""
    kept = svd_filter.keep if svd_filter.amount is None else f"{svd_filter.keep} {svd_filter.amount:g}"
    alpha = f" {svd_filter.alpha:g}" if svd_filter.reweight == "exp" else ""
    return kept if svd_filter.reweight == "none" else f"{kept}, {svd_filter.reweight}{alpha}"


def _effective(settings: Settings) -> dict[str, Any]:
    """The settings that have an effect, by name."""
    idle: set[str] = set()
    if not settings.sdsa:
        idle |= {"masking", "mask_dropout", "query_blending", "k_filter", "v_filter"}
    if not settings.masking:
        idle.add("mask_dropout")
    if not settings.shares:
        idle |= {"anchors", "random_anchors"}
    if settings.random_anchors:
        idle.add("anchors")
    if not settings.injection:
        idle.add("short_first_pass")
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {name: value for name, value in values.items() if name not in idle}


def _in_words(values: dict[str, Any]) -> tuple[str, ...]:
    keys, shared_values = values.get("k_filter"), values.get("v_filter")
    if keys is not None and keys == shared_values:
        rest = {name: value for name, value in values.items() if not isinstance(value, SVDFilter)}
        return (*_in_words(rest), f"K and V {_filter(keys)}")
    return tuple(_said(name, value) for name, value in values.items())


def _said(name: str, value: Any) -> str:
    if isinstance(value, SVDFilter):
        return f"{name[0].upper()} {_filter(value)}"
    shown = NAMES.get(name, name.replace("_", " "))
    if isinstance(value, bool):
        return f"{shown} {'on' if value else 'off'}"
    return f"{shown} {value:g}" if isinstance(value, int | float) else f"{shown} {value}"


def _filter(svd_filter: SVDFilter) -> str:
    return "not filtered" if svd_filter.identity else in_short(svd_filter)
