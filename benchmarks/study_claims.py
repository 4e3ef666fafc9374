"""What the report claims, the differences that each claim stands or falls by, and how they came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.study_numbers import Interval, between_groups, difference, in_words, verdict

PLAIN, MASKS, OPEN = "no sharing", "masks", "no masks"
FULL, FULL_NO_DROPOUT = "ConsiStory, all parts", "ConsiStory, all parts, dropout 0"
OPEN_INJECTED = "no masks, injection"
# `same`: nothing is gained; a claim of that kind can only fail to be refuted.
Expected = Literal["more", "less", "same"]
REFUTING = {("more", "less"), ("less", "more"), ("same", "more")}


@dataclass(frozen=True)
class Rows:
    """A number of one row against another's, paired, and what the claim says it is; None: nothing."""

    one: str
    other: str
    number: str = "identity"
    expected: Expected | None = "more"

    def found(self, rows: Mapping[str, Any]) -> Interval | None:
        """The difference, or None where a row is not told yet."""
        if not {self.one, self.other} <= set(rows):
            return None
        return difference(rows, self.one, self.other, self.number)

    @property
    def words(self) -> str:
        """What is compared."""
        return f"{self.number}: {self.one} against {self.other}"


@dataclass(frozen=True)
class Groups:
    """Identity of one group of stories against another's in the same row."""

    row: str
    one: str
    other: str
    expected: Expected | None = "more"
    number: str = "identity"

    def found(self, rows: Mapping[str, Any]) -> Interval | None:
        """The difference, or None where the row is not told yet."""
        generated = rows[self.row]["told"] if self.row in rows else ()
        if not {self.one, self.other} <= {one["group"] for one in generated}:
            return None
        return between_groups(rows[self.row], self.number, self.one, self.other)

    @property
    def words(self) -> str:
        """What is compared."""
        return f"{self.number}: {self.one} against {self.other}, {self.row}"


@dataclass(frozen=True)
class Claim:
    """A sentence of the report, or one of ours, and the comparisons that it stands or falls by."""

    text: str
    comparisons: tuple[Rows | Groups, ...]


CLAIMS = (
    Claim("Without mask and without filter the background leaks", (
        Rows(OPEN, MASKS, "confusion"), Rows(OPEN, MASKS, "likeness"),
    )),
    Claim("Without mask and without filter the subject drifts", (Rows(OPEN, MASKS, expected="less"),)),
    Claim("Quantile, K: 1 to 5 %; from 10 % on the background leaks (V at 5 %)", (
        Rows("quantile K 0.2 V 0.05", "quantile K 0.05 V 0.05", "confusion"),
        Rows("quantile K 0.2 V 0.05", "quantile K 0.05 V 0.05", "likeness"),
        Rows("quantile K 0.5 V 0.05", "quantile K 0.02 V 0.05", "confusion"),
    )),
    Claim("Quantile, V: more than 5 to 10 % adds no likeness (K at 5 %)", (
        Rows("quantile K 0.05 V 0.2", "quantile K 0.05 V 0.05", expected="same"),
        Rows("quantile K 0.05 V 0.5", "quantile K 0.05 V 0.05", expected="same"),
    )),
    Claim("Quantile, V: more than 5 to 10 % costs poses (K at 5 %)", (
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
    Claim("V decides the likeness of the subject", (
        Rows("quantile K 0.05 V 0.5", "quantile K 0.05 V 0.02"),
        Rows("quantile K 0.5 V 0.05", "quantile K 0.02 V 0.05", expected="same"),
    )),
    Claim("exp reduces consistency", (Rows("exp 0.02", OPEN, expected="less"),)),
    Claim("log and log2 raise consistency", (Rows("log", OPEN), Rows("log2", OPEN))),
    Claim("log and log2 leak little", (
        Rows("log", OPEN, "likeness", "same"), Rows("log2", OPEN, "likeness", "same"),
        Rows("log", OPEN, "confusion", "less"), Rows("log2", OPEN, "confusion", "less"),
    )),
    Claim("2 anchors beat 1 and 3 (log2)", (Rows("log2", "log2, 1 anchor"), Rows("log2", "log2, 3 anchors"))),
    Claim("A lower mask dropout gives more likeness", (Rows(MASKS, "masks, dropout 0.5"),)),
    Claim("A lower mask dropout gives fewer poses", (Rows(MASKS, "masks, dropout 0.5", "action", "less"),)),
    Claim("Animals work well, objects badly", tuple(
        Groups(row, "animals", "things") for row in ("quantile K 0.05 V 0.05", "log2", MASKS)
    )),
    Claim("Proposed, not measured: selection and reweighting together", (
        Rows("log2 quantile 0.05", "quantile K 0.05 V 0.05", expected=None),
        Rows("log2 energy 0.95", "energy 0.95", expected=None),
    )),
    Claim("Ours: the filter on top of masks", tuple(
        Rows(f"masks + {how}", MASKS, expected=None)
        for how in ("quantile 0.05", "quantile 0.5", "energy 0.95", "log", "log2")
    )),
    Claim("Ours: feature injection without masks, and with a filter as well", (
        Rows(OPEN_INJECTED, OPEN, expected=None),
        Rows("quantile K 0.05 V 0.05, injection", OPEN_INJECTED, expected=None),
        Rows("energy 0.8, injection", OPEN_INJECTED, expected=None),
        Rows("energy 0.8, injection", "energy 0.8", expected=None),
    )),
    Claim("Ours: the same noise for all frames as well", (
        Rows("no masks, same noise", OPEN, expected=None),
        Rows("no masks, same noise", OPEN, "action", None),
        Rows("energy 0.8, same noise", "no masks, same noise", expected=None),
        Rows("energy 0.95, same noise", "no masks, same noise", expected=None),
        Rows("masks, same noise", MASKS, expected=None),
    )),
)  # fmt: skip


def judged(claim: Claim, rows: Mapping[str, Any]) -> str:
    """Whether a claim holds by all of its differences: in words, or nothing where it claims nothing."""
    signs = []
    for one in claim.comparisons:
        found = one.found(rows)
        if found is None:
            return "not told yet"
        signs.append((one.expected, verdict(*found[1:])))
    if not any(expected for expected, _ in signs):
        return "measured"
    # What says that nothing is gained cannot bear a claim out, only speak against it.
    gains = [sign == expected for expected, sign in signs if expected != "same"]
    refuted = any((expected, sign) in REFUTING for expected, sign in signs)
    if all(gains) and not refuted:
        return "holds" if gains else "not refuted"
    if any(gains):
        return "holds in part"
    return "does not hold: the opposite is seen" if refuted else "does not hold: no such difference is seen"


def claims(rows: Mapping[str, Any]) -> list[str]:
    """Each claim in Markdown: its verdict and the differences that it stands or falls by."""
    lines = ["| claim | verdict | compared | difference (95 % interval) |", "|---|---|---|---|"]
    for claim in CLAIMS:
        text, said = claim.text, f"**{judged(claim, rows)}**"
        for one in claim.comparisons:
            found = one.found(rows)
            if found is not None:
                lines.append(f"| {text} | {said} | {one.words} | {in_words(one.number, found)} |")
                text = said = ""
    return lines
