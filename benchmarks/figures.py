"""Turn what the reader saw in generated stories into the numbers of a benchmark. Knows nothing of models."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

# Attributes that must be equal in all frames of a story where the prompts do not name them.
IDENTITY = ("color", "pattern", "accessory")
CONFIDENCE = 0.95
DRAWS = 2000

# A table has, for one generated story, one row per attribute: (hits, counted).
Table = np.ndarray  # float64 [attributes, 2]


@dataclass(frozen=True)
class GeneratedRow:
    """A generated story as the reader sees it.

    Attributes:
        entry: the position of the story in the suite; generations with other seeds share it.
        subject: the class of the subject.
        named: for each frame, the classes that the prompt names, by attribute.
        read: for each frame, the classes that the reader sees, by attribute.
        seconds: time of the generation.
    """

    entry: int
    subject: str
    named: tuple[dict[str, str], ...]
    read: tuple[dict[str, str], ...]
    seconds: float


@dataclass(frozen=True)
class Figure:
    """A fraction (or a mean) with its 95 % bootstrap interval; None where nothing was counted.

    `parts` has the value of each attribute, in the order of the table's rows.
    """

    value: float | None
    interval: tuple[float, float] | None
    parts: tuple[float | None, ...]


def agreement(generated: GeneratedRow) -> Table:
    """Count the frame pairs of a story that agree on an attribute which neither prompt names.

    Returns one row for each of IDENTITY: (pairs that agree, pairs).
    """
    return np.array([_agreement(generated, attribute) for attribute in IDENTITY], dtype=float)


def _agreement(generated: GeneratedRow, attribute: str) -> tuple[int, int]:
    pairs = list(combinations(_free(generated, attribute), 2))
    return sum(one == other for one, other in pairs), len(pairs)


def chance(generated: GeneratedRow, everything: Sequence[GeneratedRow]) -> Table:
    """Measure how often a story's frames agree with those of *other* generations: agreement by chance.

    Each frame is paired with every frame of the other generations (another story, or the same story with
    another seed) of the same subject and preset, or of all other generations if the subject was generated
    only once. Pairs count where neither prompt names the attribute. The result is the sum over classes c of
    p_c * q_c, with p from this generation and q from the others. It has no pair within a generation, whose
    agreement consistency itself would raise.

    Returns one row for each of IDENTITY: (fraction of pairs that agree, 1), or (0, 0) without any pair, so
    that all generations have the same weight.
    """
    others = [other for other in everything if other is not generated]
    same_subject = [other for other in others if other.subject == generated.subject]
    return np.array(
        [_chance(generated, same_subject or others, attribute) for attribute in IDENTITY], dtype=float
    )


def _chance(generated: GeneratedRow, others: Sequence[GeneratedRow], attribute: str) -> tuple[float, int]:
    seen = Counter(value for other in others for value in _free(other, attribute))
    values = _free(generated, attribute)
    if not seen or not values:
        return 0.0, 0
    return sum(seen[value] for value in values) / (len(values) * seen.total()), 1


def _free(generated: GeneratedRow, attribute: str) -> list[str]:
    """Return what the reader sees of the attribute in the frames whose prompts do not name it."""
    return [
        read[attribute]
        for named, read in zip(generated.named, generated.read, strict=True)
        if attribute not in named
    ]


def named_right(generated: GeneratedRow, attributes: Sequence[str]) -> Table:
    """Count the named attributes that the reader sees, in all frames: one row, (right, named)."""
    verdicts = [
        read[attribute] == named[attribute]
        for named, read in zip(generated.named, generated.read, strict=True)
        for attribute in attributes
        if attribute in named
    ]
    return np.array([[sum(verdicts), len(verdicts)]], dtype=float)


def seconds_per_frame(generated: GeneratedRow) -> Table:
    """Return the time of a story as one row: (seconds, frames)."""
    return np.array([[generated.seconds, len(generated.read)]], dtype=float)


def figure(
    stories: Sequence[GeneratedRow], table: Callable[[GeneratedRow], Table], rng: np.random.Generator
) -> Figure:
    """Return the fraction of hits over all generations, averaged over the rows of `table`.

    Rows that counted nothing are left out of the average. The interval is a percentile bootstrap over the
    suite's entries, with DRAWS resamples from `rng`; all generations of an entry are drawn together.
    """
    sums = by_entry(stories, table)
    parts, value = share(sums.sum(axis=0))
    values = resampled(sums, rng)
    return Figure(
        value=_number(value),
        interval=limits(values[np.isfinite(values)]) if np.isfinite(value) else None,
        parts=tuple(_number(part) for part in parts),
    )


def by_entry(stories: Sequence[GeneratedRow], table: Callable[[GeneratedRow], Table]) -> np.ndarray:
    """What `table` counts, summed over all tellings of a story of the suite: [entries, attributes, 2]."""
    entries = sorted({generated.entry for generated in stories})
    return np.stack(
        [sum(table(generated) for generated in stories if generated.entry == entry) for entry in entries]
    )


def resampled(sums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean share of DRAWS resamples of the entries of [entries, attributes, 2]: [DRAWS], nan where
    nothing was counted. Equal generators draw the same entries of different sums."""
    entries = len(sums)
    weights = rng.multinomial(entries, np.full(entries, 1 / entries), size=DRAWS)
    return share(np.einsum("de,eac->dac", weights, sums))[1]


def limits(values: np.ndarray) -> tuple[float, float]:
    """Between which the middle CONFIDENCE of the values lies."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail)).tolist()
    return low, high


def share(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[..., attributes, 2] -> shares [..., attributes] (nan: nothing counted) and their mean [...]."""
    hits, counted = sums[..., 0], sums[..., 1]
    shares = np.divide(hits, counted, out=np.full_like(hits, np.nan), where=counted > 0)
    known = np.isfinite(shares).sum(axis=-1)
    total = np.nansum(shares, axis=-1)
    return shares, np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)


def _number(value: np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None
