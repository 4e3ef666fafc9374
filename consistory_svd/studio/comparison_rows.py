"""Settings to compare: what a row of a comparison is, and the thesis' figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from consistory_svd.presets import PRESETS, preset, preset_label
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio.form import METHOD_FIELDS

# What tells rows apart; all else, from steps to size, a comparison's rows have in common.
COMPARED = (*METHOD_FIELDS, "k_filter", "v_filter")
FEWEST, MOST = 2, 4


@dataclass(frozen=True)
class Row:
    """A setting of a comparison and what it is called."""

    name: str
    settings: Settings


@dataclass(frozen=True)
class Recipe:
    """A figure that one click makes: `look` says what to look at. `rows` set COMPARED alone."""

    key: str
    title: str
    look: str
    rows: tuple[Row, ...]


UNMASKED = Settings(masking=False, mask_dropout=0.0, query_blending=True)
RECIPES = (
    Recipe(
        "leakage",
        "Figure 3.2: sharing without a mask",
        "The subject becomes alike; but do the backgrounds leak from picture to picture, too?",
        (
            Row("Without sharing", PRESETS["plain"]),
            Row("SDSA without mask", replace(UNMASKED, query_blending=False)),
        ),
    ),
    Recipe(
        "mask",
        "Figure 3.3: what the mask does",
        "Does the mask keep the subject alike, and give each scene its own background back?",
        (
            Row("Without sharing", PRESETS["plain"]),
            Row("SDSA without mask", replace(UNMASKED, query_blending=False)),
            Row("SDSA with mask", Settings(masking=True, mask_dropout=0.0)),
        ),
    ),
    Recipe(
        "filters",
        "Figure 4.3: the spectral filters",
        "No mask in any row. How alike is the subject with each filter, and how much background leaks?",
        (
            Row("No filter", UNMASKED),
            Row("Quantile", PRESETS["svd-quantile"]),
            Row("Energy", PRESETS["svd-energy"]),
            Row("Log", PRESETS["svd-log"]),
            Row("Log2", PRESETS["svd-log2"]),
        ),
    ),
)


def recipe(key: str) -> Recipe:
    """The recipe of that key. ValueError naming the known ones when there is none."""
    known = {item.key: item for item in RECIPES}
    if key not in known:
        raise ValueError(f"recipe: {key!r} is not known; give one of {', '.join(known)}")
    return known[key]


def chosen_rows(names: Sequence[str], current: Settings, name_of_current: str) -> tuple[Row, ...]:
    """Rows by name of a preset, or `name_of_current` for the settings at hand.

    Raises:
        ValueError: there are too few or too many, one is not known, or one is named twice.
    """
    if not FEWEST <= len(names) <= MOST:
        raise ValueError(f"settings: {len(names)} are chosen; give {FEWEST} to {MOST}")
    check_different(names)
    rows = []
    for name in names:
        if name != name_of_current and name not in PRESETS:
            raise ValueError(f"settings: {name!r} is not known; give {', '.join(PRESETS)}")
        rows.append(Row(preset_label(name), current if name == name_of_current else preset(name)))
    return tuple(rows)


def check_different(names: Sequence[str]) -> None:
    """ValueError where two rows are called the same."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"settings: {name!r} is chosen more than once; its pictures would be the same")


def in_story(row: Row, story: Story, shared: Settings) -> Row:
    """A row as the story is told with it: COMPARED from the row, everything else from `shared`.

    A row's anchors are "at most so many": a story of one scene has one.
    """
    changes = {name: getattr(row.settings, name) for name in COMPARED}
    changes["anchors"] = min(row.settings.anchors, len(story.scenes))
    return replace(row, settings=replace(shared, **changes))
