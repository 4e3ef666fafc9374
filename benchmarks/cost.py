"""Measure the cost of each part of the method: time of a story relative to the same story without sharing.

    python -m benchmarks.cost [--model MODEL] [--rounds 3] [--steps 30] [--ablation]

Settings take turns in one run, so that a machine that is busy for a while slows all of them equally; ratios
are those of the medians. Denoising and text encoding are timed, decoding is not.
"""

import sys
from dataclasses import replace
from statistics import median
from typing import Annotated

import torch
import typer

from benchmarks import ablation
from consistory_svd import Settings, Story, generate, load_model
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.models.model import Model
from consistory_svd.pipeline import Finished

STORY = Story("a cat", ("in the forest", "on the beach", "in the snow", "in a kitchen"))
SHARED = Settings()
# Settings, the first without sharing, with the largest acceptable ratio (None: no bound).
CASES: dict[str, tuple[Settings, float | None]] = {
    "nothing shared": (Settings(sdsa=False), None),
    "SDSA with masks": (SHARED, 1.3),
    "SDSA without masks": (replace(SHARED, masking=False), None),
    "with query blending": (replace(SHARED, query_blending=True), 1.45),
    "with injection, exact": (replace(SHARED, query_blending=True, injection=True), 2.6),
    "with injection, short first pass": (
        replace(SHARED, query_blending=True, injection=True, short_first_pass=True),
        None,
    ),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def seconds(model: Model, settings: Settings) -> float:
    """Return the seconds of the story's denoising."""
    *_, last = generate(model, STORY, settings)
    if not isinstance(last, Finished):
        raise RuntimeError("the story was cancelled")
    return last.timings.denoising


@app.command()
def cost(
    source: Annotated[str | None, typer.Option("--model", help="Folder or Hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device; default: the best available.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Repeats of each case.")] = 3,
    steps: Annotated[int, typer.Option(min=10, help="Steps per story.")] = 30,
    every_row: Annotated[bool, typer.Option("--ablation", help="Time the ablation's rows instead.")] = False,
) -> None:
    """Generate one story with each part of the method and print the costs."""
    cases = {name: (row, None) for name, row in ablation.ROWS.items()} if every_row else CASES
    with wrong_values():
        model = load_model(source, device)
    seconds(model, replace(SHARED, steps=4))  # warm up
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (settings, _bound) in cases.items():
            times[name].append(seconds(model, replace(settings, steps=steps, batch=4)))
    base = median(next(iter(times.values())))
    typer.echo(
        f"{model.describe()}, {torch.get_num_threads()} threads, {len(STORY.scenes)} frames, {steps} steps"
    )
    typer.echo(f"{'':34} {'seconds':>8} {'ratio':>6} {'bound':>6}")
    for name, (_, bound) in cases.items():
        took = median(times[name])
        limit = "" if bound is None else f"{bound:6.2f}"
        typer.echo(f"{name:34} {took:8.2f} {took / base:6.2f} {limit:>6}")


if __name__ == "__main__":
    sys.exit(run(app))
