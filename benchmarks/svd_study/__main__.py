"""Measure the SVD filter on K and V: every claim about it, in numbers.

    python -m benchmarks.svd_study generate --out study/ [--stories 32] [--steps 20] [--only ROW]
    python -m benchmarks.svd_study generate --out fresh/ --skip 32 --stories 64 [--only ROW]
    python -m benchmarks.svd_study report --out study/ --fresh fresh/ --docs docs/

`generate` generates the same stories with the same seeds under the settings of every row. It saves what the
storybook reader sees in each image and how far backgrounds leak, one JSON file per row. A run that was
stopped continues with the missing rows, and several processes can share the rows. `--skip` takes fresh seeds,
to confirm the best of many rows. `report` writes `svd-study.md` and its plots.
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.storybook import Generation, generate_and_read, generations
from benchmarks.suite import STORYBOOK_SUITE, load_suite
from benchmarks.svd_study import leakage
from benchmarks.svd_study.report import write_report
from benchmarks.svd_study.rows import ROWS
from consistory_svd import Settings, load_model
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.errors import FieldError, one_of
from consistory_svd.metrics.attribute_reader import Reader, load_reader
from consistory_svd.metrics.vocabulary import attributes_in
from consistory_svd.models.model import Model

log = logging.getLogger("benchmarks.svd_study")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def measure_story(
    model: Model,
    reader: Reader,
    generation: Generation,
    settings: Settings,
    known: dict[str, leakage.Background],
) -> dict[str, Any]:
    """Generate and measure one story; the result can be saved as JSON.

    Args:
        known: the average background of every scene, as `leakage.scene_backgrounds` returns them.
    """
    story, frames = generate_and_read(model, reader, generation, settings, with_masks=True)
    backgrounds = [leakage.background(frame.image, frame.mask) for frame in frames]
    measured = leakage.MeasuredStory(
        **vars(story),
        group=generation.entry.group,
        confusion=leakage.confusion(backgrounds, [named["scene"] for named in story.named], known),
        likeness=leakage.likeness(backgrounds),
    )
    return dataclasses.asdict(measured)


@app.command("generate")
def generate_rows(
    out: Annotated[Path, typer.Option(help="Folder for the rows.")],
    suite: Annotated[Path, typer.Option(help="YAML file with groups of stories.")] = STORYBOOK_SUITE,
    stories: Annotated[
        int, typer.Option(min=1, help="Number of stories; beyond the suite's, they repeat with other seeds.")
    ] = 32,
    steps: Annotated[int, typer.Option(min=10, help="Steps per story.")] = 20,
    skip: Annotated[int, typer.Option(min=0, help="Skip this many stories, for fresh seeds.")] = 0,
    part: Annotated[int, typer.Option(min=1, help="Which part of the rows this process generates.")] = 1,
    parts: Annotated[int, typer.Option(min=1, help="Number of processes that share the rows.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only this row; repeatable.")] = None,
    source: Annotated[str | None, typer.Option("--model", help="Folder or Hub id.")] = None,
) -> None:
    """Generate and measure the rows that `out` does not hold yet."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with wrong_values():
        if missing := sorted(set(only or ()) - set(ROWS)):
            raise FieldError("only", missing[0], one_of(ROWS))
        if part > parts:
            raise FieldError("part", part, f"a whole number from 1 to {parts}")
        entries = load_suite(suite)
        to_generate = generations(entries, seeds=-(-(skip + stories) // len(entries)))[skip:][:stories]
        model, reader = load_model(source), load_reader()
        out.mkdir(parents=True, exist_ok=True)
    scenes = sorted({attributes_in(p)["scene"] for one in entries for p in one.story.prompts})
    known = leakage.scene_backgrounds(scenes, "photo")
    for name in list(only or ROWS)[part - 1 :: parts]:
        path = out / f"{name}.json"
        if path.is_file():
            continue
        settings = dataclasses.replace(ROWS[name], steps=steps)
        measured = [measure_story(model, reader, generation, settings, known) for generation in to_generate]
        row = {"row": name, "steps": steps, "settings": dataclasses.asdict(settings), "stories": measured}
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        log.info("%s: %.1f s per story", name, sum(one["seconds"] for one in measured) / len(measured))


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder that `generate` wrote.")],
    docs: Annotated[Path, typer.Option(help="Folder for svd-study.md and its plots.")],
    fresh: Annotated[Path | None, typer.Option(help="Folder that `generate --skip` wrote.")] = None,
) -> None:
    """Write svd-study.md and its plots from the saved rows."""
    with wrong_values():
        rows = read_rows(out, "out")
        confirmation = {} if fresh is None else read_rows(fresh, "fresh")
    write_report(rows, docs, [name for name in ROWS if name not in rows], confirmation)


def read_rows(folder: Path, field: str) -> dict[str, Any]:
    """Read the rows in a folder, in the order of ROWS.

    Raises:
        ValueError: there are no rows, or they differ in number of stories or steps.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise ValueError(
            f"{field}: {folder} holds no rows; run `python -m benchmarks.svd_study generate` first"
        )
    if len({(len(row["stories"]), row["steps"]) for row in found}) > 1:
        raise ValueError(f"{field}: {folder} mixes rows of different numbers of stories or steps")
    by_name = {row["row"]: row for row in found}
    return {name: by_name[name] for name in ROWS if name in by_name}


if __name__ == "__main__":
    sys.exit(run(app))
