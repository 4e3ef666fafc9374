"""How well the storybook model draws what a prompt says, without any sharing: the numbers of its card.

python benchmarks/quality.py --json quality.json
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

# Run as a script, Python looks for modules beside the script and not in the checkout.
from benchmarks import figures
from benchmarks.attributes import Features, attribute_card
from benchmarks.storybook import BOOTSTRAP_SEED, Generation, generations, measure
from benchmarks.suite import Entry
from consistory_svd import load_model
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.metrics.attribute_reader import load_reader
from consistory_svd.metrics.vocabulary import vocabulary
from consistory_svd.models.model import EMBEDDED
from consistory_svd.presets import preset
from consistory_svd.story import Story
from training.second_reader import load_second_reader

FRAMES = 2
STEPS = 30
GUIDANCE = 5.0
PROMPT_SEED = 20_000

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


# What `vocabulary()` gives: attributes ("subject", "scene", ...) to classes to the ways of saying them.
Vocabulary = dict[str, dict[str, list[str]]]


def draw_stories(words: Vocabulary, prompts: int, name_color: bool, rng: np.random.Generator) -> list[Entry]:
    """Stories of FRAMES scenes, `prompts` prompts in all, that name a colour or leave it free; pattern and
    accessory are always free. Subjects take turns, so that each is drawn about equally often.
    """
    subjects = list(words["subject"])
    group = "colour named" if name_color else "colour free"
    return [
        Entry(group, _draw_story(words, subjects[number % len(subjects)], name_color, rng))
        for number in range(prompts // FRAMES)
    ]


def _draw_story(words: Vocabulary, subject: str, name_color: bool, rng: np.random.Generator) -> Story:
    def say(kind: str, name: str) -> str:
        return str(rng.choice(words[kind][name]))

    def draw(kind: str) -> str:
        return say(kind, str(rng.choice(list(words[kind]))))

    noun = say("subject", subject)
    phrase = f"{draw('color')} {noun}" if name_color else noun
    scenes = rng.choice(list(words["scene"]), size=FRAMES, replace=False)
    return Story(
        subject=f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}",
        scenes=tuple(say("scene", str(scene)) for scene in scenes),
        style=draw("style"),
    )


def to_generate(words: Vocabulary, prompts: int) -> list[Generation]:
    """`prompts` prompts that name a colour and as many that leave it free, each story with its own seed."""
    rng = np.random.default_rng(PROMPT_SEED)
    return generations(
        [*draw_stories(words, prompts, True, rng), *draw_stories(words, prompts, False, rng)], seeds=1
    )


def card(generated: list[figures.GeneratedRow]) -> dict[str, Any]:
    """The card's numbers with 95 % bootstrap intervals.

    Subject, scene and named colour are read off the prompts that name a colour. Agreement of what a prompt
    leaves free, and the agreement that chance gives (`figures.chance`), are of the stories that leave the
    colour free.
    """
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    named = [one for one in generated if all("color" in prompt for prompt in one.named)]
    free = [one for one in generated if not any("color" in prompt for prompt in one.named)]
    measured = {
        f"{attribute}_accuracy": figures.figure(
            named, lambda one, a=attribute: figures.named_right(one, (a,)), rng
        )
        for attribute in ("subject", "scene", "color")
    }
    agreement = figures.figure(free, figures.agreement, rng)
    chance = figures.figure(free, lambda one: figures.chance(one, free), rng)
    return {
        "prompts": sum(len(one.read) for one in named),
        **{name: {"value": figure.value, "interval": figure.interval} for name, figure in measured.items()},
        "free_pairs": len(free),
        "free_agreement": dict(zip(figures.IDENTITY, agreement.parts, strict=True)),
        "free_chance": dict(zip(figures.IDENTITY, chance.parts, strict=True)),
    }


@app.command()
def main(
    table: Annotated[Path, typer.Option("--json", help="File that the numbers are written to.")],
    prompts: Annotated[int, typer.Option(min=2, help="Prompts of each kind.")] = 200,
    source: Annotated[str | None, typer.Option("--model", help="Folder or hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device; the best there is by default.")] = None,
    named: Annotated[int, typer.Option(min=0, help="Prompts that name everything.")] = 400,
    second: Annotated[
        Path | None, typer.Option("--second-reader", help="Folder of a second reader to judge with.")
    ] = None,
    instruments: Annotated[Path, typer.Option(help="Folder with `reader` and `clip`.")] = EMBEDDED,
) -> None:
    """Draw held-out prompts without sharing, read the pictures and write the model card's numbers."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    settings = dataclasses.replace(preset("plain"), steps=STEPS, guidance=GUIDANCE)
    with wrong_values():
        model, reader = load_model(source, device), load_reader(instruments / "reader")
        readers = {"shipped": reader} | ({"second": load_second_reader(second)} if second else {})
        table.touch()
    generated = measure(model, reader, to_generate(vocabulary(), prompts), {"plain": settings})["plain"]
    numbers = {"model": model.name, "steps": STEPS, "guidance": GUIDANCE, **card(generated)}
    if named:
        features = Features(instruments / "clip")
        numbers["named"] = attribute_card(model.pipe, readers, features, named, STEPS, GUIDANCE)
    table.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run(app))
