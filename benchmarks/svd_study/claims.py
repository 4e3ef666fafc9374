"""The claims about the SVD filter, the differences that test each claim, and the verdicts.

A claim names comparisons with the sign that it expects. The expectations come from looking at images; the
study tests them with numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.svd_study.numbers import Interval, between_groups, difference, format_difference, verdict

# Names of rows.
PLAIN, MASKS, NO_MASKS = "no sharing", "masks", "no masks"
FULL, FULL_NO_DROPOUT = "ConsiStory, all parts", "ConsiStory, all parts, dropout 0"
NO_MASKS_INJECTED = "no masks, injection"
# "same": no increase. Such a claim can be refuted but not confirmed.
Expected = Literal["more", "less", "same"]
REFUTING = {("more", "less"), ("less", "more"), ("same", "more")}


@dataclass(frozen=True)
class Rows:
    """The paired difference of a number between two rows, and its expected sign (None: no expectation)."""

    one: str
    other: str
    number: str = "identity"
    expected: Expected | None = "more"

    def measure(self, rows: Mapping[str, Any]) -> Interval | None:
        """Return the difference, or None if a row is missing."""
        if not {self.one, self.other} <= set(rows):
            return None
        return difference(rows, self.one, self.other, self.number)

    @property
    def label(self) -> str:
        """The name of the comparison in the report."""
        return f"{self.number}: {self.one} against {self.other}"


@dataclass(frozen=True)
class Groups:
    """The difference of a number between two groups of stories in one row, and its expected sign."""

    row: str
    one: str
    other: str
    expected: Expected | None = "more"
    number: str = "identity"

    def measure(self, rows: Mapping[str, Any]) -> Interval | None:
        """Return the difference, or None if the row or a group is missing."""
        stories = rows[self.row]["stories"] if self.row in rows else ()
        if not {self.one, self.other} <= {one["group"] for one in stories}:
            return None
        return between_groups(rows[self.row], self.number, self.one, self.other)

    @property
    def label(self) -> str:
        """The name of the comparison in the report."""
        return f"{self.number}: {self.one} against {self.other}, {self.row}"


@dataclass(frozen=True)
class Claim:
    """A claim and the comparisons that test it."""

    text: str
    comparisons: tuple[Rows | Groups, ...]


CLAIMS = (
    Claim("Without a mask and a filter, the background leaks", (
        Rows(NO_MASKS, MASKS, "confusion"), Rows(NO_MASKS, MASKS, "likeness"),
    )),
    Claim("Without a mask and a filter, the subject drifts", (Rows(NO_MASKS, MASKS, expected="less"),)),
    Claim("Quantile, K: above 5 % the background leaks (V at 5 %)", (
        Rows("quantile K 0.2 V 0.05", "quantile K 0.05 V 0.05", "confusion"),
        Rows("quantile K 0.2 V 0.05", "quantile K 0.05 V 0.05", "likeness"),
        Rows("quantile K 0.5 V 0.05", "quantile K 0.02 V 0.05", "confusion"),
    )),
    Claim("Quantile, V: more than 5 % does not raise consistency (K at 5 %)", (
        Rows("quantile K 0.05 V 0.2", "quantile K 0.05 V 0.05", expected="same"),
        Rows("quantile K 0.05 V 0.5", "quantile K 0.05 V 0.05", expected="same"),
    )),
    Claim("Quantile, V: more than 5 % reduces pose variety (K at 5 %)", (
        Rows("quantile K 0.05 V 0.5", "quantile K 0.05 V 0.05", "action", "less"),
    )),
    Claim("Energy: at least 0.9 is needed", (Rows("energy 0.9", "energy 0.8"),)),
    Claim("Energy: about 0.95 is best", tuple(
        Rows("energy 0.95", f"energy {other}") for other in ("0.8", "0.9", "0.98", "0.99")
    )),
    Claim("K decides the background", (
        Rows("quantile K 0.5 V 0.05", "quantile K 0.02 V 0.05", "likeness"),
        Rows("quantile K 0.05 V 0.5", "quantile K 0.05 V 0.02", "likeness", "same"),
    )),
    Claim("V decides the consistency of the subject", (
        Rows("quantile K 0.05 V 0.5", "quantile K 0.05 V 0.02"),
        Rows("quantile K 0.5 V 0.05", "quantile K 0.02 V 0.05", expected="same"),
    )),
    Claim("exp reduces consistency", (Rows("exp 0.02", NO_MASKS, expected="less"),)),
    Claim("log and log2 raise consistency", (Rows("log", NO_MASKS), Rows("log2", NO_MASKS))),
    Claim("log and log2 leak little", (
        Rows("log", NO_MASKS, "likeness", "same"), Rows("log2", NO_MASKS, "likeness", "same"),
        Rows("log", NO_MASKS, "confusion", "less"), Rows("log2", NO_MASKS, "confusion", "less"),
    )),
    Claim("2 anchors beat 1 and 3 (log2)", (Rows("log2", "log2, 1 anchor"), Rows("log2", "log2, 3 anchors"))),
    Claim("Lower mask dropout raises consistency", (Rows(MASKS, "masks, dropout 0.5"),)),
    Claim("Lower mask dropout reduces pose variety", (Rows(MASKS, "masks, dropout 0.5", "action", "less"),)),
    Claim("Consistency is higher for animals than for things", tuple(
        Groups(row, "animals", "things") for row in ("quantile K 0.05 V 0.05", "log2", MASKS)
    )),
    Claim("Selection and reweighting together", (
        Rows("log2 quantile 0.05", "quantile K 0.05 V 0.05", expected=None),
        Rows("log2 energy 0.95", "energy 0.95", expected=None),
    )),
    Claim("The filter on top of masks", tuple(
        Rows(f"masks + {how}", MASKS, expected=None)
        for how in ("quantile 0.05", "quantile 0.5", "energy 0.95", "log", "log2")
    )),
    Claim("Feature injection without masks, and with a filter", (
        Rows(NO_MASKS_INJECTED, NO_MASKS, expected=None),
        Rows("quantile K 0.05 V 0.05, injection", NO_MASKS_INJECTED, expected=None),
        Rows("energy 0.8, injection", NO_MASKS_INJECTED, expected=None),
        Rows("energy 0.8, injection", "energy 0.8", expected=None),
    )),
    Claim("The same noise for all frames", (
        Rows("no masks, same noise", NO_MASKS, expected=None),
        Rows("no masks, same noise", NO_MASKS, "action", None),
        Rows("energy 0.8, same noise", "no masks, same noise", expected=None),
        Rows("energy 0.95, same noise", "no masks, same noise", expected=None),
        Rows("masks, same noise", MASKS, expected=None),
    )),
)  # fmt: skip


def judge(claim: Claim, rows: Mapping[str, Any]) -> str:
    """Return the verdict on a claim, from the signs of all its differences."""
    signs = []
    for one in claim.comparisons:
        found = one.measure(rows)
        if found is None:
            return "not measured yet"
        signs.append((one.expected, verdict(*found[1:])))
    if not any(expected for expected, _ in signs):
        return "measured"
    # A comparison that expects no increase can refute a claim but not confirm it.
    gains = [sign == expected for expected, sign in signs if expected != "same"]
    refuted = any((expected, sign) in REFUTING for expected, sign in signs)
    if all(gains) and not refuted:
        return "holds" if gains else "not refuted"
    if any(gains):
        return "holds in part"
    return "does not hold: the opposite is seen" if refuted else "does not hold: no such difference is seen"


def claims(rows: Mapping[str, Any]) -> list[str]:
    """Format every claim as rows of a Markdown table: verdict and differences."""
    lines = ["| claim | verdict | compared | difference (95 % interval) |", "|---|---|---|---|"]
    for claim in CLAIMS:
        text, shown = claim.text, f"**{judge(claim, rows)}**"
        for one in claim.comparisons:
            found = one.measure(rows)
            if found is not None:
                lines.append(f"| {text} | {shown} | {one.label} | {format_difference(one.number, found)} |")
                text = shown = ""
    return lines
