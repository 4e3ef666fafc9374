"""Ablation: measure the method with its parts added one by one.

    python -m benchmarks.ablation --json ablation.json [--stories 32] [--only ROW ...]

Each row generates the same stories with the same seeds. The storybook reader measures agreement on attributes
that the prompts do not name (main colour, pattern, accessory), on the main colour alone, agreement by chance
and accuracies; the time is relative to the row "plain". Results are written after every row: a run that was
stopped continues with the missing rows.
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.storybook import generations, measure, summary
from benchmarks.suite import STORYBOOK_SUITE, load_suite
from consistory_svd import Settings, load_model
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.errors import FieldError, one_of
from consistory_svd.metrics.attribute_reader import load_reader

FULL = Settings(query_blending=True, injection=True)
ROWS: dict[str, Settings] = {
    "plain": Settings(sdsa=False),
    "SDSA, no masks": Settings(masking=False),
    "+ masks": Settings(mask_dropout=0.0),
    "+ dropout 0.5": Settings(),
    "+ query blending": Settings(query_blending=True),
    "+ injection (all)": FULL,
    "all, dropout 0": dataclasses.replace(FULL, mask_dropout=0.0),
    "all + FreeU": dataclasses.replace(FULL, freeu=True),
    "all, short first pass": dataclasses.replace(FULL, short_first_pass=True),
    "SDSA, 1 anchor": Settings(anchors=1),
    "SDSA, 3 anchors": Settings(anchors=3),
    "SDSA, random anchors": Settings(random_anchors=True),
    "SDSA, dropout 0.2": Settings(mask_dropout=0.2),
    "SDSA, dropout 0.8": Settings(mask_dropout=0.8),
    "same latent": Settings(sdsa=False, same_latent=True),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def ablation(
    table: Annotated[
        Path, typer.Option("--json", help="File for the rows; rows that it holds are not measured again.")
    ],
    suite: Annotated[Path, typer.Option(help="YAML file with groups of stories.")] = STORYBOOK_SUITE,
    stories: Annotated[
        int, typer.Option(min=1, help="Number of stories; beyond the suite's, they repeat with other seeds.")
    ] = 32,
    only: Annotated[list[str] | None, typer.Option(help="Only this row; repeatable.")] = None,
    source: Annotated[str | None, typer.Option("--model", help="Folder or Hub id.")] = None,
) -> None:
    """Generate the stories with the settings of every row and print the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    with wrong_values():
        missing = sorted(set(only or ()) - set(ROWS))
        if missing:
            raise FieldError("only", missing[0], one_of(ROWS))
        entries = load_suite(suite)
        to_generate = generations(entries, seeds=-(-stories // len(entries)))[:stories]
        model, reader = load_model(source), load_reader()
        done: dict[str, Any] = json.loads(table.read_text()) if table.is_file() else {}
        if other := sorted({saved["generated"] for saved in done.values()} - {stories}):
            raise ValueError(
                f"stories: {table} has rows of {other[0]} stories; give that number or another file"
            )
    for name in only or ROWS:
        if name not in done:
            generated = measure(model, reader, to_generate, {name: ROWS[name]})[name]
            done[name] = {
                **summary(generated),
                "generated": stories,
                "settings": dataclasses.asdict(ROWS[name]),
            }
            table.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
            typer.echo(row(name, done), err=True)
    typer.echo("| settings | identity agreement | main colour | chance | scene | subject | time |")
    typer.echo("|---|---|---|---|---|---|---|")
    for name in done:
        typer.echo(row(name, done))


def row(name: str, done: dict[str, Any]) -> str:
    """Format a row of the Markdown table."""
    found = done[name]
    low, high = found["intervals"]["identity_agreement"]
    plain = done.get("plain", {}).get("seconds_per_frame")
    time = f"{found['seconds_per_frame'] / plain:.2f}" if plain else ""
    return (
        f"| {name} | {found['identity_agreement']:.1%} ({low:.0%} to {high:.0%}) "
        f"| {found['identity_agreement_of']['color']:.1%} | {found['identity_chance']:.1%} "
        f"| {found['scene_accuracy']:.1%} | {found['subject_accuracy']:.1%} | {time} |"
    )


if __name__ == "__main__":
    sys.exit(run(app))
