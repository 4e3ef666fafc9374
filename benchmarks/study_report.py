"""The study's tables, plots and verdicts, made of what `study.py tell` kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.study_claims import FULL, FULL_NO_DROPOUT, MASKS, OPEN_INJECTED, PLAIN, claims
from benchmarks.study_numbers import NUMBERS, RATIOS, difference, in_words, interval, tables


def _cell(rows: Mapping[str, Any], name: str, number: str) -> str:
    value, low, high = interval(tables(rows[name], number))
    if number in ("confusion", "likeness"):
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"{value:.1%} ({low:.0%} to {high:.0%})"


def main_table(rows: Mapping[str, Any]) -> list[str]:
    """All rows in Markdown; columns stand in the order of NUMBERS."""
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
    """Identity agreement of animals, people and things."""
    groups = list(dict.fromkeys(one["group"] for one in next(iter(rows.values()))["told"]))
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
    """Which rows beat ConsiStory with masks on identity without losing scenes."""
    said = []
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
                winners.append(f"{name} ({in_words('identity', difference(rows, name, rival, 'identity'))})")
        said.append(
            f'Better than "{rival}" on identity agreement with certainty, and no more than 3 points worse on '
            f"scenes: {'; '.join(winners) if winners else 'none of the rows'}."
        )
    return said


def heat_maps(rows: Mapping[str, Any], path: Path) -> bool:
    """K and V keep ratios against identity and background likeness. False where the grid is not whole."""
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
    """Identity agreement against background likeness, a point a row."""
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
    """Rows told with seeds after the first `seen` stories, and by how much each beats ConsiStory with masks
    on them."""
    stories = len(next(iter(fresh.values()))["told"])
    lines = [
        "The best of many rows is partly luck, so these were told again: "
        f"{stories} stories a row with seeds that none above has seen (`python benchmarks/study.py tell "
        f"--out fresh/ --skip {seen} --stories {stories}` with `--only ROW` for each row, then the report "
        "with `--fresh fresh/`).",
        "",
        *main_table(fresh),
        "",
        "| fresh seeds | identity | main colour | scene | action |",
        "|---|---|---|---|---|",
    ]
    for name in fresh:
        for rival in (MASKS, FULL, FULL_NO_DROPOUT, OPEN_INJECTED):
            # Each pair once, the later row against the earlier.
            if rival in fresh and list(fresh).index(rival) < list(fresh).index(name):
                cells = " | ".join(
                    in_words(number, difference(fresh, name, rival, number))
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
    """svd-study.md, svd-study-scatter.png and, where the grid is whole, svd-study-grid.png in `docs`.

    `missing` are rows that are not told yet: the report says so. `fresh` are rows with fresh seeds.
    """
    docs.mkdir(parents=True, exist_ok=True)
    some = next(iter(rows.values()))
    scatter(rows, docs / "svd-study-scatter.png")
    whole = heat_maps(rows, docs / "svd-study-grid.png")
    text = [
        "# The spectral filter in numbers",
        "",
        "Made by `python benchmarks/study.py tell --out study/` and `python benchmarks/study.py report --out "
        f"study/ --docs docs/`: {len(some['told'])} stories of 4 frames a row, {some['steps']} steps, the "
        "embedded storybook model, the same seeds in every row. Intervals are 95 % bootstrap intervals over "
        "stories; differences are paired.",
        "",
        "- **Identity agreement**: share of frame pairs that agree on what the prompts leave free, as the "
        "storybook reader sees it; the mean of main colour, pattern and accessory.",
        "- **Scene, subject, action**: share of frames that show what the prompt names.",
        "- **Background confusion**: how near a frame's background is to the renderer's average picture of "
        "the story's other scenes, d / (d + d'): 0 none, 0.5 no nearer to its own. **Background likeness**: "
        "1 minus the mean colour distance of its backgrounds, subjects left out. Both: lower is better.",
        '- Rows "masks" and "no masks" have two anchors, query blending and no mask dropout; a spectrum '
        'stands for K and V alike and, without "masks", on top of "no masks".',
        "",
        "## All rows",
        "",
        *([f"Not told yet: {', '.join(missing)}.", ""] if missing else []),
        *main_table(rows),
        "",
        "![identity against background likeness](svd-study-scatter.png)",
        "",
        "## Keep ratios of K and V",
        "",
        "![heat maps](svd-study-grid.png)" if whole else "The grid is not whole yet.",
        "",
        "## The report's claims",
        "",
        "A claim holds where every difference that it names has the sign that it says, and its interval does "
        "not reach nothing; it holds in part where some have. That something adds nothing can only be not "
        "refuted.",
        "",
        *claims(rows),
        "",
        "Animals work well, objects badly (identity agreement):",
        "",
        *by_group(rows, (PLAIN, MASKS, FULL, "quantile K 0.05 V 0.05", "log2")),
        "",
        "## A preset of our own",
        "",
        *best(rows),
        "",
        *((*confirmed(fresh, len(some["told"])), "") if fresh else ()),
    ]
    (docs / "svd-study.md").write_text("\n".join(text), encoding="utf-8")
