"""Tell every story of a suite with each preset and measure, by the storybook reader, what stayed the same.

    python benchmarks/storybook.py --suite benchmarks/suites/storybook.yaml \
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

# Run as a script, Python looks for modules beside the script and not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

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
    """One story to tell: its place in the suite, the entry, and the seed that this telling has."""

    number: int
    entry: Entry
    seed: int


def generations(entries: Sequence[Entry], seeds: int) -> list[Generation]:
    """Every entry with `seeds` seeds. No two tellings share a seed: the same noise in two stories would make
    their frames alike by more than chance.
    """
    return [
        Generation(number, entry, seed=repeat * len(entries) + number)
        for repeat in range(seeds)
        for number, entry in enumerate(entries)
    ]


def generate_and_read(
    model: Model, reader: Reader, generation: Generation, settings: Settings, with_masks: bool = False
) -> tuple[figures.GeneratedRow, list[FrameDone]]:
    """Tell one story and read its pictures; the time is the telling's, without the reading. The frames that
    come with it are in the scenes' order."""
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
    """The numbers of one preset over all its tellings, as read by the reader.

    `identity_agreement`: share of a story's frame pairs that agree on an attribute which the prompts leave
    free, averaged over main colour, pattern and accessory; `identity_chance`: the same for frames of
    different tellings (`figures.chance` says exactly which). Accuracies: share of what prompts name and the
    reader sees. A number is null where no prompt names (or leaves free) what it counts. `intervals` has the
    95 % bootstrap interval of every number, resampled over the suite's stories. Source: issue 2, section 4.
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
        "seconds_per_frame": figures.figure(generated, figures.seconds_a_frame, rng),
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
    """Tell everything with every preset; `presets` maps names to settings. Presets take turns story by story,
    so that a machine that is busy for a while slows all of them alike.
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
    preset_names: Annotated[
        list[str], typer.Option("--preset", help="Preset to tell with; repeat for more.")
    ],
    table: Annotated[Path, typer.Option("--json", help="File that the list of results is written to.")],
    seeds: Annotated[int, typer.Option(min=1, help="Tellings of every story, each with its own seed.")] = 1,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many scenes of a story.")
    ] = None,
    source: Annotated[str | None, typer.Option("--model", help="Folder or hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device; the best there is by default.")] = None,
) -> None:
    """Tell every story of a suite with each preset and write what the reader saw."""
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
