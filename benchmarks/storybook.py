"""Generate every story of a suite with each preset and measure consistency with the storybook reader.

    python -m benchmarks.storybook --suite benchmarks/suites/storybook.yaml \
        --preset plain --preset consistory --json table.json
"""

import dataclasses
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import figures
from benchmarks.suite import Entry, load_suite
from consistory_svd import generate, load_model
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.metrics.attribute_reader import Reader, load_reader
from consistory_svd.metrics.vocabulary import attributes_in
from consistory_svd.models.model import Model
from consistory_svd.pipeline import FrameDone
from consistory_svd.presets import preset
from consistory_svd.settings import Settings, check

BOOTSTRAP_SEED = 0

log = logging.getLogger("benchmarks.storybook")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Generation:
    """A story to generate: its position in the suite, its entry and its seed."""

    number: int
    entry: Entry
    seed: int


def generations(entries: Sequence[Entry], seeds: int) -> list[Generation]:
    """Return every entry with `seeds` seeds.

    No two generations share a seed: the same noise in two stories would raise their agreement above chance.
    """
    return [
        Generation(number, entry, seed=repeat * len(entries) + number)
        for repeat in range(seeds)
        for number, entry in enumerate(entries)
    ]


def generate_and_read(
    model: Model, reader: Reader, generation: Generation, settings: Settings, with_masks: bool = False
) -> tuple[figures.GeneratedRow, list[FrameDone]]:
    """Generate one story and read its images.

    Returns what the reader saw, with the time of the generation alone, and the frames in the scenes' order.
    """
    story = dataclasses.replace(generation.entry.story, seed=generation.seed)
    started = perf_counter()
    events = generate(model, story, settings, with_masks=with_masks)
    done = sorted((event for event in events if isinstance(event, FrameDone)), key=lambda one: one.frame)
    seconds = perf_counter() - started
    named = tuple(attributes_in(prompt) for prompt in story.prompts)
    subject = named[0].get("subject", story.subject)
    read = tuple(reader.read([event.image for event in done]))
    return figures.GeneratedRow(generation.number, subject, named, read, seconds), done


def summary(generated: Sequence[figures.GeneratedRow]) -> dict[str, Any]:
    """Return the numbers of one preset over all its generations, as JSON can hold them.

    `identity_agreement` is the fraction of a story's frame pairs that agree on an attribute which the prompts
    do not name, averaged over main colour, pattern and accessory. `identity_chance` is the same for frames of
    different generations (see `figures.chance`). Accuracies are the fraction of named attributes that the
    reader sees. A number is null where nothing was counted. `intervals` has the 95 % bootstrap interval of
    every number, resampled over the suite's entries.
    """
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    measured = {
        "identity_agreement": figures.figure(generated, figures.agreement, rng),
        "identity_chance": figures.figure(generated, lambda one: figures.chance(one, generated), rng),
        "scene_accuracy": figures.figure(generated, lambda one: figures.named_right(one, ("scene",)), rng),
        "subject_accuracy": figures.figure(
            generated, lambda one: figures.named_right(one, ("subject",)), rng
        ),
        "named_attribute_accuracy": figures.figure(
            generated, lambda one: figures.named_right(one, figures.IDENTITY), rng
        ),
        "seconds_per_frame": figures.figure(generated, figures.seconds_per_frame, rng),
    }
    return {
        "stories": len({one.entry for one in generated}),
        "frames": sum(len(one.read) for one in generated),
        **{name: figure.value for name, figure in measured.items()},
        "identity_agreement_of": _of_attributes(measured["identity_agreement"]),
        "identity_chance_of": _of_attributes(measured["identity_chance"]),
        "intervals": {name: figure.interval for name, figure in measured.items()},
    }


def _of_attributes(figure: figures.Figure) -> dict[str, float | None]:
    return dict(zip(figures.IDENTITY, figure.parts, strict=True))


def measure(
    model: Model, reader: Reader, to_generate: Sequence[Generation], presets: Mapping[str, Settings]
) -> dict[str, list[figures.GeneratedRow]]:
    """Generate everything with every preset; `presets` maps names to settings.

    Presets take turns story by story, so that a machine that is busy for a while slows all of them equally.
    """
    generated: dict[str, list[figures.GeneratedRow]] = {name: [] for name in presets}
    for position, generation in enumerate(to_generate, start=1):
        for name, stories in generated.items():
            stories.append(generate_and_read(model, reader, generation, presets[name])[0])
            log.info("story %d of %d, %s: %.1f s", position, len(to_generate), name, stories[-1].seconds)
    return generated


@app.command()
def main(
    suite: Annotated[Path, typer.Option(help="YAML file with groups of stories.")],
    preset_names: Annotated[list[str], typer.Option("--preset", help="Preset; repeatable.")],
    table: Annotated[Path, typer.Option("--json", help="File for the results.")],
    seeds: Annotated[
        int, typer.Option(min=1, help="Generations of every story, each with its own seed.")
    ] = 1,
    frames: Annotated[int | None, typer.Option(min=1, help="Use only the first N scenes of a story.")] = None,
    source: Annotated[str | None, typer.Option("--model", help="Folder or Hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device; default: the best available.")] = None,
) -> None:
    """Generate every story of a suite with each preset and write the numbers."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with wrong_values():
        to_generate = generations(load_suite(suite, frames), seeds)
        presets = {name: preset(name) for name in preset_names}
        for settings in presets.values():
            for generation in to_generate:
                check(generation.entry.story, settings)
        model, reader = load_model(source, device), load_reader()
        table.touch()
    generated = measure(model, reader, to_generate, presets)
    results = [
        {
            "preset": name,
            **summary(generated[name]),
            "seeds": seeds,
            "suite": suite.name,
            "model": model.name,
            "device": str(model.device),
            "settings": dataclasses.asdict(settings),
        }
        for name, settings in presets.items()
    ]
    table.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for result in results:
        log.info(
            "%s", json.dumps({key: result[key] for key in result if key not in ("settings", "intervals")})
        )


if __name__ == "__main__":
    sys.exit(run(app))
