"""The numbers of the study's rows and their differences, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.svd_study.leakage import MeasuredStory

SEED = 0
# A value with the ends of its 95 % interval.
Interval = tuple[float, float, float]

# Each number as a table of one story: rows of (hits, counted), or of (a value, 1).
NUMBERS: dict[str, Callable[[MeasuredStory], figures.Table]] = {
    "identity": figures.agreement,
    "main colour": lambda story: figures.agreement(story)[:1],
    "subject": lambda story: figures.named_right(story, ("subject",)),
    "scene": lambda story: figures.named_right(story, ("scene",)),
    "action": lambda story: figures.named_right(story, ("action",)),
    "confusion": lambda story: np.array([[story.confusion, 1.0]]),
    "likeness": lambda story: np.array([[story.likeness, 1.0]]),
}


def tables(row: Mapping[str, Any], number: str, group: str | None = None) -> np.ndarray:
    """Return the tables of a row's stories, or of one group of them: [entries, attributes, 2].

    The last dimension is (hits, counted). Stories of one entry, with different seeds, are added up.
    """
    stories = [MeasuredStory(**saved) for saved in row["stories"] if group in (None, saved["group"])]
    return figures.by_entry(stories, NUMBERS[number])


def interval(one: np.ndarray, other: np.ndarray | None = None) -> Interval:
    """Return a number, or the difference of two rows' numbers on the same stories, with its 95 % interval.

    The bootstrap draws stories. For a difference it draws the same stories from both rows, so that the
    difficulty of a story cancels.
    """

    def value_and_draws(sums: np.ndarray) -> tuple[float, np.ndarray]:
        return float(figures.share(sums.sum(axis=0))[1]), figures.resampled(sums, np.random.default_rng(SEED))

    value, drawn = value_and_draws(one)
    if other is not None:
        against, drawn_against = value_and_draws(other)
        value, drawn = value - against, drawn - drawn_against
    return value, *figures.limits(drawn[np.isfinite(drawn)])


def between_groups(row: Mapping[str, Any], number: str, one: str, other: str) -> Interval:
    """Return the difference of a number between two groups of stories, with its interval.

    The bootstrap draws the stories of the two groups independently.
    """
    values, drawn = [], []
    for seed, group in enumerate((one, other)):
        sums = tables(row, number, group)
        values.append(float(figures.share(sums.sum(axis=0))[1]))
        drawn.append(figures.resampled(sums, np.random.default_rng(SEED + seed)))
    differences = drawn[0] - drawn[1]
    return values[0] - values[1], *figures.limits(differences[np.isfinite(differences)])


def verdict(low: float, high: float) -> str:
    """Name the sign of a difference, or say that its interval includes 0."""
    return "more" if low > 0 else "less" if high < 0 else "no certain difference"


def format_difference(number: str, found: Interval) -> str:
    """Format a difference of a number with its interval and verdict."""
    value, low, high = found
    if number in ("confusion", "likeness"):
        return f"{value:+.3f} ({low:+.3f} to {high:+.3f}; {verdict(low, high)})"
    return f"{100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}; {verdict(low, high)})"


def difference(rows: Mapping[str, Any], one: str, other: str, number: str) -> Interval:
    """Return the paired difference of a number between two rows, with its interval."""
    return interval(tables(rows[one], number), tables(rows[other], number))
