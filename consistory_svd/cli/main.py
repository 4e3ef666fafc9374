"""The command line: the studio's calls with flags. `python -m consistory_svd tell --help` lists them."""

import dataclasses
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from consistory_svd.attention import AnchorCache
from consistory_svd.cli import export as export_commands
from consistory_svd.cli import score as score_commands
from consistory_svd.cli.generate import CONSOLE, check_folder, clear_folder, save_events
from consistory_svd.cli.model_options import CONFIG, DEVICE, DTYPE, HIDE_SEXUAL, LORA, MEMORY, MODEL
from consistory_svd.cli.options import REWEIGHTS, SELECTS, changed_filter, number, run, wrong_values
from consistory_svd.cli.progress import load_with_bar
from consistory_svd.cli.studio import studio
from consistory_svd.compat import quiet_libraries
from consistory_svd.content_filter import filter_events, load_content_filter
from consistory_svd.errors import FieldError
from consistory_svd.fields import field_of
from consistory_svd.limits import hides_sexual_pictures
from consistory_svd.models.request import ModelRequest, with_recipe
from consistory_svd.pipeline import generate
from consistory_svd.presets import PRESETS, preset
from consistory_svd.schedulers import Recipe
from consistory_svd.settings import BOOL_FIELDS, CHOICE_FIELDS, Settings, check
from consistory_svd.story import Story

# Numbers of Settings that have a flag of `tell`.
NUMBERS = ("steps", "guidance", "anchors", "mask_dropout", "height", "width", "batch")
RESCALED = "How the kept singular values of the anchors' {} are rescaled."

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Tell a story in pictures whose subject stays the same."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _flag(owner: type, name: str, *declarations: str) -> Any:
    """The flag of a field of Story or Settings: its help, limits and default are the field's own."""
    field = field_of(owner, name)
    if field.minimum is None:
        return typer.Option(*declarations, help=field.help)
    return typer.Option(
        *declarations, help=f"{field.help} From {field.minimum} to {field.maximum}.", metavar="NUMBER"
    )


def _switch(name: str) -> Any:
    """The flag and its opposite of a switch of Settings."""
    flag = name.replace("_", "-")
    return typer.Option(f"--{flag}/--no-{flag}", help=field_of(Settings, name).help, show_default=False)


def _filter_option(help: str, allowed: str) -> Any:
    """A flag of the spectral filter, and what it takes."""
    return typer.Option(help=f"{help} Give {allowed}.", metavar="TEXT")


def _choice(name: str) -> Any:
    """The flag of a field of Settings that is one of a few words."""
    known = field_of(Settings, name)
    return typer.Option(help=f"{known.help} One of {', '.join(known.choices)}.", metavar="TEXT")


@app.command("tell")
def generate_story(
    context: typer.Context,
    subject: Annotated[str, _flag(Story, "subject")],
    scene: Annotated[list[str], _flag(Story, "scenes", "--scene")],
    concept: Annotated[list[str] | None, _flag(Story, "concepts", "--concept")] = None,
    style: Annotated[str, _flag(Story, "style")] = Story.style,
    negative: Annotated[str, _flag(Story, "negative")] = Story.negative,
    seed: Annotated[str, _flag(Story, "seed")] = str(Story.seed),
    preset_name: Annotated[
        str, typer.Option("--preset", help=f"Where flags that are not given come from: {', '.join(PRESETS)}.")
    ] = "consistory",
    steps: Annotated[str | None, _flag(Settings, "steps")] = None,
    guidance: Annotated[str | None, _flag(Settings, "guidance")] = None,
    anchors: Annotated[str | None, _flag(Settings, "anchors")] = None,
    mask_dropout: Annotated[str | None, _flag(Settings, "mask_dropout")] = None,
    sdsa: Annotated[bool | None, _switch("sdsa")] = None,
    query_blending: Annotated[bool | None, _switch("query_blending")] = None,
    masking: Annotated[bool | None, _switch("masking")] = None,
    random_anchors: Annotated[bool | None, _switch("random_anchors")] = None,
    same_latent: Annotated[bool | None, _switch("same_latent")] = None,
    injection: Annotated[bool | None, _switch("injection")] = None,
    short_first_pass: Annotated[bool | None, _switch("short_first_pass")] = None,
    freeu: Annotated[bool | None, _switch("freeu")] = None,
    keys: Annotated[str | None, _filter_option(field_of(Settings, "k_filter").help, SELECTS)] = None,
    values: Annotated[str | None, _filter_option(field_of(Settings, "v_filter").help, SELECTS)] = None,
    keys_reweight: Annotated[str | None, _filter_option(RESCALED.format("keys"), REWEIGHTS)] = None,
    values_reweight: Annotated[str | None, _filter_option(RESCALED.format("values"), REWEIGHTS)] = None,
    height: Annotated[str | None, _flag(Settings, "height")] = None,
    width: Annotated[str | None, _flag(Settings, "width")] = None,
    batch: Annotated[str | None, _flag(Settings, "batch")] = None,
    keep_anchors: Annotated[
        Path | None, typer.Option(help="Folder to keep the anchors in, for scenes that come later.")
    ] = None,
    anchors_from: Annotated[
        Path | None,
        typer.Option(help="Folder of kept anchors: the scenes are told against them, after theirs."),
    ] = None,
    scheduler: Annotated[str | None, _choice("scheduler")] = None,
    spacing: Annotated[str | None, _choice("spacing")] = None,
    source: Annotated[str | None, MODEL] = None,
    lora: Annotated[list[str] | None, LORA] = None,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    memory: Annotated[str, MEMORY] = "auto",
    config: Annotated[Path | None, CONFIG] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and story.json.")] = Path("story"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the story that is in the folder.")
    ] = False,
    hide_sexual: Annotated[bool, HIDE_SEXUAL] = False,
) -> None:
    """Tell a story: one picture a scene, and story.json with everything it was told with."""
    with wrong_values():
        hides = hides_sexual_pictures(os.environ, asked=hide_sexual)
        if hides and keep_anchors is not None:
            raise FieldError("keep-anchors", str(keep_anchors), "left out with --hide-sexual-pictures")
        request = ModelRequest.parse(source, device, dtype, lora or (), memory, config)
        anchor_cache = None if anchors_from is None else AnchorCache.load(anchors_from)
        before = () if anchor_cache is None else anchor_cache.origin.scenes
        story = Story(subject, (*before, *scene), style, tuple(concept or ()), negative, number(seed))
        settings, said = given_settings(context.params, request.recipe, len(story.scenes))
        check(story, settings)
        check_folder(out, overwrite)
        if keep_anchors is not None:
            check_folder(keep_anchors, overwrite, "keep-anchors")
        quiet_libraries()
        content_filter = load_content_filter() if hides else None
        # One bar of its own for a download in place of the libraries' many.
        model = load_with_bar(request, CONSOLE)
        for line in (model.describe(), said):
            if line:
                CONSOLE.print(line, highlight=False)
        new = None if anchor_cache is None else range(len(before), len(story.scenes))
        kept: list[AnchorCache] = []
        events = generate(
            model,
            story,
            settings,
            stop := threading.Event(),
            anchor_cache=anchor_cache,
            frames=new,
            keep_anchors=keep_anchors is not None,
        )
        if content_filter:
            content_filter.to(model.device)
            events = filter_events(events, content_filter)
        clear_folder(out)
    code = save_events(out, model.name, story, settings, events, stop, kept)
    if keep_anchors is not None and kept:
        kept[0].save(keep_anchors)
    raise typer.Exit(code)


def given_settings(given: Mapping[str, Any], recipe: Recipe | None, frames: int) -> tuple[Settings, str]:
    """The settings that the flags of `tell` say, by name, None where one is not given, and what to say of the
    model's own recipe for few steps.

    Raises:
        ValueError: a value is not allowed.
    """
    changes = {name: number(given[name]) for name in NUMBERS if given[name] is not None}
    changes |= {name: given[name] for name in (*BOOL_FIELDS, *CHOICE_FIELDS) if given[name] is not None}
    own, said = with_recipe(recipe, changes)
    changes = own | changes
    settings = preset(given["preset_name"])
    for name, flag in (("k_filter", "keys"), ("v_filter", "values")):
        before = getattr(settings, name)
        changes[name] = changed_filter(before, flag, given[flag], given[f"{flag}_reweight"])
    # A preset's anchors are "at most so many"; only a number that was asked for can be too large.
    changes.setdefault("anchors", min(settings.anchors, frames))
    return dataclasses.replace(settings, **changes), said


app.command("export")(export_commands.export)
app.command("fetch")(score_commands.fetch)
app.command("score")(score_commands.score)
app.command("studio")(studio)


def main() -> int:
    """Run the command line of the process."""
    return run(app)
