"""The method's parts, added one by one, in numbers: the ablation that the paper shows in pictures.

python benchmarks/ablation.py --json ablation.json [--stories 32] [--only ROW ...]

Each row tells the same stories with the same seeds and reads them with the storybook reader: agreement on
what the prompts leave free (main colour, pattern, accessory), on the main colour alone, chance, accuracies,
and the time over that of the row "plain". Results are written after every row, so that a run which was
stopped goes on with the rows that are missing.
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

# Run as a script, Python looks for modules beside the script and not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.storybook import generations, measure, summary
from benchmarks.suite import load_suite
from consistory_svd import Settings, load_model
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.metrics.attribute_reader import load_reader

OWN_SUITE = Path(__file__).parent / "suites" / "storybook.yaml"
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
    table: Annotated[Path, typer.Option("--json", help="File that the rows are kept in.")],
    suite: Annotated[Path, typer.Option(help="YAML file with groups of stories.")] = OWN_SUITE,
    stories: Annotated[
        int, typer.Option(min=1, help="How many stories; they begin anew with other seeds.")
    ] = 32,
    only: Annotated[list[str] | None, typer.Option(help="Only this row; repeatable.")] = None,
    source: Annotated[str | None, typer.Option("--model", help="Folder or hub id.")] = None,
) -> None:
    """Tell the stories with every row's settings and print the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    with wrong_values():
        missing = sorted(set(only or ()) - set(ROWS))
        if missing:
            raise ValueError(f"only: {', '.join(missing)} is not a row; give one of {', '.join(ROWS)}")
        entries = load_suite(suite)
        to_generate = generations(entries, seeds=-(-stories // len(entries)))[:stories]
        model, reader = load_model(source), load_reader()
        done: dict[str, Any] = json.loads(table.read_text()) if table.is_file() else {}
        if other := sorted({kept["told"] for kept in done.values()} - {stories}):
            raise ValueError(f"stories: {table} holds rows of {other[0]} stories; give that, or another file")
    for name in only or ROWS:
        if name not in done:
            generated = measure(model, reader, to_generate, {name: ROWS[name]})[name]
            done[name] = {**summary(generated), "told": stories, "settings": dataclasses.asdict(ROWS[name])}
            table.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
            typer.echo(row(name, done), err=True)
    typer.echo("| settings | identity agreement | main colour | chance | scene | subject | time |")
    typer.echo("|---|---|---|---|---|---|---|")
    for name in done:
        typer.echo(row(name, done))


def row(name: str, done: dict[str, Any]) -> str:
    """A row of the table, in Markdown."""
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
