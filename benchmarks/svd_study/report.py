"""Write the study's tables, plots and verdicts from the saved rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.svd_study.claims import FULL, FULL_NO_DROPOUT, MASKS, NO_MASKS_INJECTED, PLAIN, claims
from benchmarks.svd_study.numbers import NUMBERS, difference, format_difference, interval, tables
from benchmarks.svd_study.rows import RATIOS


def _cell(rows: Mapping[str, Any], name: str, number: str) -> str:
    value, low, high = interval(tables(rows[name], number))
    if number in ("confusion", "likeness"):
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"{value:.1%} ({low:.0%} to {high:.0%})"


def main_table(rows: Mapping[str, Any]) -> list[str]:
    """Format all rows as a Markdown table; the columns are in the order of NUMBERS."""
    lines = [
        "| settings | identity agreement | main colour | subject | scene | action "
        "| background confusion | background likeness |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in rows:
        cells = " | ".join(_cell(rows, name, number) for number in NUMBERS)
        lines.append(f"| {name} | {cells} |")
    return lines


def by_group(rows: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Format identity agreement per group of stories as a Markdown table."""
    groups = list(dict.fromkeys(one["group"] for one in next(iter(rows.values()))["stories"]))
    lines = [f"| settings | {' | '.join(groups)} |", "|---" * (len(groups) + 1) + "|"]
    for name in names:
        if name not in rows:
            continue
        cells = []
        for group in groups:
            value, low, high = interval(tables(rows[name], "identity", group))
            cells.append(f"{value:.1%} ({low:.0%} to {high:.0%})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def best(rows: Mapping[str, Any]) -> list[str]:
    """List the rows that beat ConsiStory with masks on identity without losing scenes."""
    lines = []
    for rival in (MASKS, FULL):
        if rival not in rows:
            continue
        winners = []
        for name, row in rows.items():
            if name in (rival, PLAIN):
                continue
            _, low, _ = interval(tables(row, "identity"), tables(rows[rival], "identity"))
            scene, *_ = interval(tables(row, "scene"), tables(rows[rival], "scene"))
            if low > 0 and scene >= -0.03:
                winners.append(
                    f"{name} ({format_difference('identity', difference(rows, name, rival, 'identity'))})"
                )
        lines.append(
            f'Better than "{rival}" on identity agreement (interval above 0), and at most 3 points worse on '
            f"scenes: {'; '.join(winners) if winners else 'none of the rows'}."
        )
    return lines


def heat_maps(rows: Mapping[str, Any], path: Path) -> bool:
    """Plot identity and background likeness over the keep ratios of K and V. False if a row is missing."""
    names = [[f"quantile K {keys:g} V {values:g}" for values in RATIOS] for keys in RATIOS]
    if not all(name in rows for line in names for name in line):
        return False
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
    for axis, number, title in zip(
        axes, ("identity", "likeness"), ("identity agreement", "background likeness"), strict=True
    ):
        grid = np.array([[interval(tables(rows[name], number))[0] for name in line] for line in names])
        shown = axis.imshow(grid, cmap="viridis", origin="lower")
        for i, line in enumerate(grid):
            for j, value in enumerate(line):
                dark = value < (grid.min() + grid.max()) / 2
                axis.text(j, i, f"{value:.3f}", ha="center", va="center", color="white" if dark else "black")
        axis.set(title=title, xlabel="keep ratio of V", ylabel="keep ratio of K")
        axis.set_xticks(range(len(RATIOS)), [f"{ratio:g}" for ratio in RATIOS])
        axis.set_yticks(range(len(RATIOS)), [f"{ratio:g}" for ratio in RATIOS])
        figure.colorbar(shown, ax=axis)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return True


def scatter(rows: Mapping[str, Any], path: Path) -> None:
    """Plot identity agreement against background likeness, one point per row."""
    figure, axis = plt.subplots(figsize=(9, 6), layout="constrained")
    for name, row in rows.items():
        x, *_ = interval(tables(row, "likeness"))
        y, low, high = interval(tables(row, "identity"))
        grid = name.startswith("quantile")
        axis.errorbar(x, y, [[y - low], [high - y]], fmt="o", ms=4, alpha=0.35 if grid else 0.8, lw=0.8)
        if not grid:
            axis.annotate(name, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=8)
    axis.set(xlabel="background likeness (lower is better)", ylabel="identity agreement (higher is better)")
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def confirmed(fresh: Mapping[str, Any], seen: int) -> list[str]:
    """Format the rows with fresh seeds, and the differences between them.

    Args:
        seen: number of stories in the main rows, which the fresh rows skipped.
    """
    stories = len(next(iter(fresh.values()))["stories"])
    lines = [
        f"The best of many rows is partly luck. So these rows were measured again: {stories} stories a row "
        "with seeds that no row above has used (`python -m benchmarks.svd_study generate --out fresh/ "
        f"--skip {seen} --stories {stories}` with `--only ROW` for each row, then the report with "
        "`--fresh fresh/`).",
        "",
        *main_table(fresh),
        "",
        "| fresh seeds | identity | main colour | scene | action |",
        "|---|---|---|---|---|",
    ]
    for name in fresh:
        for rival in (MASKS, FULL, FULL_NO_DROPOUT, NO_MASKS_INJECTED):
            # Each pair once: the later row against the earlier one.
            if rival in fresh and list(fresh).index(rival) < list(fresh).index(name):
                cells = " | ".join(
                    format_difference(number, difference(fresh, name, rival, number))
                    for number in ("identity", "main colour", "scene", "action")
                )
                lines.append(f"| {name} against {rival} | {cells} |")
    return lines


def write_report(
    rows: Mapping[str, Any],
    docs: Path,
    missing: Sequence[str] = (),
    fresh: Mapping[str, Any] | None = None,
) -> None:
    """Write svd-study.md, svd-study-scatter.png and, if the grid is complete, svd-study-grid.png.

    Args:
        rows: saved rows by name.
        docs: folder to write to.
        missing: names of rows that are not measured yet; the report lists them.
        fresh: saved rows with fresh seeds.
    """
    docs.mkdir(parents=True, exist_ok=True)
    some = next(iter(rows.values()))
    scatter(rows, docs / "svd-study-scatter.png")
    complete = heat_maps(rows, docs / "svd-study-grid.png")
    text = [
        "# The SVD filter, measured",
        "",
        "The filter is described in [method.md](method.md), section 7. This page is written by `python -m "
        "benchmarks.svd_study generate --out study/` and `python -m benchmarks.svd_study report --out study/ "
        f"--docs docs/`: {len(some['stories'])} stories of 4 frames per row, {some['steps']} steps, the "
        "embedded storybook model, the same seeds in every row. Intervals are 95 % bootstrap intervals over "
        "stories; differences are paired.",
        "",
        "- **Identity agreement**: fraction of frame pairs that agree on an attribute which the prompts do "
        "not name, as seen by the storybook reader; the mean of main colour, pattern and accessory.",
        "- **Scene, subject, action**: fraction of frames that show what the prompt names.",
        "- **Background confusion**: how near a frame's background is to the renderer's average image of the "
        "story's other scenes, d / (d + d'): 0 shows its own scene, 0.5 is no nearer to its own than to the "
        "others. **Background likeness**: 1 minus the mean colour distance of a story's backgrounds, "
        "subjects left out. Lower is better for both.",
        '- The rows "masks" and "no masks" have two anchors, query blending and no mask dropout. A row that '
        'names a filter applies it to K and V alike, without masks unless the row says "masks".',
        "",
        "## All rows",
        "",
        *([f"Not measured yet: {', '.join(missing)}.", ""] if missing else []),
        *main_table(rows),
        "",
        "![identity against background likeness](svd-study-scatter.png)",
        "",
        "## Keep ratios of K and V",
        "",
        "![heat maps](svd-study-grid.png)" if complete else "The grid is not complete yet.",
        "",
        "## Claims",
        "",
        "What was expected of the filter, and what the numbers say. A claim holds if all its differences "
        "have the expected sign and intervals that exclude 0; it holds in part if some have. A claim that "
        'something adds nothing cannot be confirmed, only be "not refuted".',
        "",
        *claims(rows),
        "",
        "Identity agreement per group of stories:",
        "",
        *by_group(rows, (PLAIN, MASKS, FULL, "quantile K 0.05 V 0.05", "log2")),
        "",
        "## The preset svd-ours",
        "",
        *best(rows),
        "",
        *((*confirmed(fresh, len(some["stories"])), "") if fresh else ()),
    ]
    (docs / "svd-study.md").write_text("\n".join(text), encoding="utf-8")
