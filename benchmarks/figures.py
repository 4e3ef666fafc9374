"""From what the reader saw in told stories to the numbers of a benchmark. Knows nothing of models."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

# What must stay the same from frame to frame where the prompt leaves it open.
IDENTITY = ("color", "pattern", "accessory")
CONFIDENCE = 0.95
DRAWS = 2000

# A table holds, for one told story, a row an attribute: (what was hit, what was counted).
Table = np.ndarray  # float64 [attributes, 2]


@dataclass(frozen=True)
class GeneratedRow:
    """One telling of a suite's story as the reader sees it.

    `entry` is the story's place in the suite: tellings with several seeds share it. `named` has, for each
    frame, the classes that the prompt names, `read` those that the reader sees; both map attributes to
    classes. `seconds` is the time of the telling.
    """

    entry: int
    subject: str
    named: tuple[dict[str, str], ...]
    read: tuple[dict[str, str], ...]
    seconds: float


@dataclass(frozen=True)
class Figure:
    """A share (or a mean) with its 95 % bootstrap interval; None where nothing was counted.

    `parts` holds the attributes' own values, in the order of the table's rows.
    """

    value: float | None
    interval: tuple[float, float] | None
    parts: tuple[float | None, ...]


def agreement(generated: GeneratedRow) -> Table:
    """Frame pairs of the story that agree on an attribute which neither prompt names: one row for each of
    IDENTITY, (pairs that agree, pairs).
    """
    return np.array([_agreement(generated, attribute) for attribute in IDENTITY], dtype=float)


def _agreement(generated: GeneratedRow, attribute: str) -> tuple[int, int]:
    pairs = list(combinations(_free(generated, attribute), 2))
    return sum(one == other for one, other in pairs), len(pairs)


def chance(generated: GeneratedRow, everything: Sequence[GeneratedRow]) -> Table:
    """How often the story's frames agree with those of *other* tellings: what agreement is by chance.

    Each frame of `told` is paired with every frame of the other tellings (another story, or the same story
    with another seed) of the same subject under the same preset; where the subject was told only once, with
    every frame of all other tellings. Pairs count where neither prompt names the attribute. So this is the
    agreement expected from the preset's own classes, sum over c of p_c * q_c, with p from this telling and q
    from the others; unlike sum p_c^2 over pooled frames it holds no pair within a telling, which consistency
    itself would raise. One row for each of IDENTITY: (share of pairs that agree, 1), or (0, 0) without any
    pair, so that every telling weighs the same.
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
    """What the reader sees of the attribute in the frames whose prompts leave it open."""
    return [
        read[attribute]
        for named, read in zip(generated.named, generated.read, strict=True)
        if attribute not in named
    ]


def named_right(generated: GeneratedRow, attributes: Sequence[str]) -> Table:
    """Attributes that the prompts name and the reader sees, over all frames and `attributes` together:
    one row, (right, named).
    """
    verdicts = [
        read[attribute] == named[attribute]
        for named, read in zip(generated.named, generated.read, strict=True)
        for attribute in attributes
        if attribute in named
    ]
    return np.array([[sum(verdicts), len(verdicts)]], dtype=float)


def seconds_a_frame(generated: GeneratedRow) -> Table:
    """One row: (seconds, frames)."""
    return np.array([[generated.seconds, len(generated.read)]], dtype=float)


def figure(
    stories: Sequence[GeneratedRow], table: Callable[[GeneratedRow], Table], rng: np.random.Generator
) -> Figure:
    """The share of what `table` counts over all tellings, averaged over its rows.

    Rows that counted nothing are left out of the average. The interval is the percentile bootstrap over the
    suite's stories (all tellings of a story are drawn together, as they share their prompts), with DRAWS
    resamples from `rng`.
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
