"""Scores as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from consistory_svd.metrics.result import MissingScore, Result

Format = Literal["table", "json", "csv"]
FORMATS: tuple[Format, ...] = ("table", "json", "csv")
ARROWS = {"higher": "↑ higher is better", "lower": "↓ lower is better"}


def write(entries: Sequence[Result | MissingScore], form: Format, console: Console) -> None:
    """Write results and missing scores to the console's file."""
    if form == "table":
        console.print(as_table(entries))
    else:
        console.file.write(as_json(entries) if form == "json" else as_csv(entries))


def as_json(entries: Sequence[Result | MissingScore]) -> str:
    """JSON with all fields of each: {"scores": [...], "absent": [...]}."""
    results, missing = _split(entries)
    content = {"scores": [asdict(r) for r in results], "absent": [asdict(a) for a in missing]}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def from_json(content: Mapping[str, Any]) -> list[Result | MissingScore]:
    """Parse what `as_json` wrote. ValueError for anything else."""
    try:
        results = [_result(values) for values in content["scores"]]
        return results + [MissingScore(**values) for values in content["absent"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"scores: cannot be read: {error}") from error


def as_csv(entries: Sequence[Result | MissingScore]) -> str:
    """A line for each score of the story (empty frame) and for each image (frame, counted from 1)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("name", "frame", "value", "unit", "better", "model", "protocol"))
    for r in _split(entries)[0]:
        for frame, value in (("", r.value), *enumerate(r.per_frame, start=1)):
            writer.writerow((r.name, frame, value, r.unit, r.better, r.model, r.protocol))
    return out.getvalue()


def as_table(entries: Sequence[Result | MissingScore]) -> Group:
    """Scores with direction, model and protocol; attribute tables; notes; missing scores with reasons."""
    results, missing = _split(entries)
    parts: list = []
    if results:
        numbers = Table("Score", "Value", "Per frame", "Direction", "Model and protocol", show_lines=True)
        for r in results:
            frames = " ".join(f"{value:.3f}" for value in r.per_frame)
            numbers.add_row(
                r.name,
                f"{r.value:.4f} {r.unit}",
                frames,
                ARROWS[r.better],
                escape(f"{r.model}: {r.protocol}"),
            )
        parts.append(numbers)
    for r in results:
        if r.table:
            count = len(r.table[0]) - 2
            read = Table(
                "Attribute", *(f"Image {k + 1}" for k in range(count)), "Pairs that agree", title=r.name
            )
            for row in r.table:
                read.add_row(*row)
            parts.append(read)
    lines = [published_line(r) for r in results if r.published or r.unlike]
    lines += [f"note: {r.name}: {note}" for r in results for note in r.notes]
    lines += [str(a) for a in missing]
    return Group(*parts, *map(Text, lines))


def published_line(result: Result) -> str:
    """The published values of a score and their source, or how the published protocol differs, in a line."""
    if result.unlike:
        return f"{result.name} published: not comparable. {result.unlike}."
    values = ", ".join(f"{method} {value:.4f}" for method, value in result.published.items())
    return f"{result.name} published: {values} ({result.source})"


def _result(values: Mapping[str, Any]) -> Result:
    """A result from JSON, with lists as tuples."""
    rows = {name: tuple(tuple(row) for row in values[name]) for name in ("matrix", "table")}
    flat = {name: tuple(values[name]) for name in ("per_frame", "notes")}
    return Result(**{**values, **rows, **flat})


def _split(entries: Sequence[Result | MissingScore]) -> tuple[list[Result], list[MissingScore]]:
    results = [entry for entry in entries if isinstance(entry, Result)]
    return results, [entry for entry in entries if isinstance(entry, MissingScore)]
