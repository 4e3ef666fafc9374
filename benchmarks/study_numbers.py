"""Numbers of the study's rows and their differences, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import figures, leakage

SEED = 0
# Keep ratios of the grid over K and V.
RATIOS = (0.02, 0.05, 0.2, 0.5)
Interval = tuple[float, float, float]


# What a story gives for a number: rows of (hits, counted), or of (a value, 1).
NUMBERS: dict[str, Callable[[leakage.Seen], figures.Table]] = {
    "identity": figures.agreement,
    "main colour": lambda generated: figures.agreement(generated)[:1],
    "subject": lambda generated: figures.named_right(generated, ("subject",)),
    "scene": lambda generated: figures.named_right(generated, ("scene",)),
    "action": lambda generated: figures.named_right(generated, ("action",)),
    "confusion": lambda generated: np.array([[generated.confusion, 1.0]]),
    "likeness": lambda generated: np.array([[generated.likeness, 1.0]]),
}


def tables(row: Mapping[str, Any], number: str, group: str | None = None) -> np.ndarray:
    """What a row's stories, or those of a group, give for a number, tellings of the same story together:
    [entries, attributes, 2] of (hits, counted)."""
    generated = [leakage.Seen(**kept) for kept in row["told"] if group in (None, kept["group"])]
    return figures.by_entry(generated, NUMBERS[number])


def interval(one: np.ndarray, other: np.ndarray | None = None) -> Interval:
    """A number, or the difference of two rows' numbers on the same stories, with its 95 % interval.

    The bootstrap draws stories; of two rows it draws the same ones, so that what a story's own difficulty
    adds to both cancels.
    """

    def look(sums: np.ndarray) -> tuple[float, np.ndarray]:
        return float(figures.share(sums.sum(axis=0))[1]), figures.resampled(sums, np.random.default_rng(SEED))

    value, drawn = look(one)
    if other is not None:
        against, drawn_against = look(other)
        value, drawn = value - against, drawn - drawn_against
    return value, *figures.limits(drawn[np.isfinite(drawn)])


def between_groups(row: Mapping[str, Any], number: str, one: str, other: str) -> Interval:
    """How much more of a number the stories of one group have than those of another, with its interval;
    their stories are drawn independently."""
    values, drawn = [], []
    for seed, group in enumerate((one, other)):
        sums = tables(row, number, group)
        values.append(float(figures.share(sums.sum(axis=0))[1]))
        drawn.append(figures.resampled(sums, np.random.default_rng(SEED + seed)))
    differences = drawn[0] - drawn[1]
    return values[0] - values[1], *figures.limits(differences[np.isfinite(differences)])


def verdict(low: float, high: float) -> str:
    """Whether an interval of a difference leaves its sign open."""
    return "more" if low > 0 else "less" if high < 0 else "no certain difference"


def in_words(number: str, found: Interval) -> str:
    """A difference of a number with its interval."""
    value, low, high = found
    if number in ("confusion", "likeness"):
        return f"{value:+.3f} ({low:+.3f} to {high:+.3f}; {verdict(low, high)})"
    return f"{100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}; {verdict(low, high)})"


def difference(rows: Mapping[str, Any], one: str, other: str, number: str) -> Interval:
    """How much more of a number one row has than another, paired, with its interval."""
    return interval(tables(rows[one], number), tables(rows[other], number))
