"""The command line: the studio's calls with flags. `python -m consistory_svd tell --help` lists them."""

import dataclasses
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from consistory_svd.compat import quiet_libraries
from consistory_svd.export import commands as export_commands
from consistory_svd.flags import REWEIGHTS, SELECTS, changed_spectrum, number, run, wrong_values
from consistory_svd.limits import hides_sexual_pictures
from consistory_svd.loading import ModelRequest, load_with_bar, with_recipe
from consistory_svd.model_flags import CONFIG, DEVICE, DTYPE, HIDE_SEXUAL, LORA, MEMORY, MODEL
from consistory_svd.presets import PRESETS, preset
from consistory_svd.schedulers import Recipe
from consistory_svd.scores import commands as score_commands
from consistory_svd.screening import load_screen, screened
from consistory_svd.serve import studio
from consistory_svd.settings import SWITCHES, WORDED, Settings, Story, check, knob
from consistory_svd.sharing import AnchorBank
from consistory_svd.story import tell
from consistory_svd.telling import CONSOLE, check_folder, clear_folder, tell_into

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
    field = knob(owner, name)
    if field.minimum is None:
        return typer.Option(*declarations, help=field.help)
    return typer.Option(
        *declarations, help=f"{field.help} From {field.minimum} to {field.maximum}.", metavar="NUMBER"
    )


def _switch(name: str) -> Any:
    """The flag and its opposite of a switch of Settings."""
    flag = name.replace("_", "-")
    return typer.Option(f"--{flag}/--no-{flag}", help=knob(Settings, name).help, show_default=False)


def _spectrum_flag(help: str, allowed: str) -> Any:
    """A flag of the spectral filter, and what it takes."""
    return typer.Option(help=f"{help} Give {allowed}.", metavar="TEXT")


def _choice(name: str) -> Any:
    """The flag of a field of Settings that is one of a few words."""
    known = knob(Settings, name)
    return typer.Option(help=f"{known.help} One of {', '.join(known.choices)}.", metavar="TEXT")


@app.command("tell")
def tell_story(
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
    keys: Annotated[str | None, _spectrum_flag(knob(Settings, "spectrum_k").help, SELECTS)] = None,
    values: Annotated[str | None, _spectrum_flag(knob(Settings, "spectrum_v").help, SELECTS)] = None,
    keys_reweight: Annotated[str | None, _spectrum_flag(RESCALED.format("keys"), REWEIGHTS)] = None,
    values_reweight: Annotated[str | None, _spectrum_flag(RESCALED.format("values"), REWEIGHTS)] = None,
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
            raise ValueError(
                f"keep-anchors: {keep_anchors} is not allowed with the filter for sexual pictures; an anchor "
                "that is withheld would be kept in it"
            )
        request = ModelRequest.of(source, device, dtype, lora or (), memory, config)
        bank = None if anchors_from is None else AnchorBank.load(anchors_from)
        before = () if bank is None else bank.origin.scenes
        story = Story(subject, (*before, *scene), style, tuple(concept or ()), negative, number(seed))
        settings, said = told_settings(context.params, request.recipe, len(story.scenes))
        check(story, settings)
        check_folder(out, overwrite)
        if keep_anchors is not None:
            check_folder(keep_anchors, overwrite, "keep-anchors")
        quiet_libraries()
        screen = load_screen() if hides else None
        # One bar of its own for a download in place of the libraries' many.
        model = load_with_bar(request, CONSOLE)
        for line in (model.describe(), said):
            if line:
                CONSOLE.print(line, highlight=False)
        new = None if bank is None else range(len(before), len(story.scenes))
        kept: list[AnchorBank] = []
        events = tell(
            model,
            story,
            settings,
            stop := threading.Event(),
            bank=bank,
            frames=new,
            keep_anchors=keep_anchors is not None,
        )
        if screen:
            screen.to(model.device)
            events = screened(events, screen)
        clear_folder(out)
    code = tell_into(out, model.name, story, settings, events, stop, kept)
    if keep_anchors is not None and kept:
        kept[0].save(keep_anchors)
    raise typer.Exit(code)


def told_settings(given: Mapping[str, Any], recipe: Recipe | None, frames: int) -> tuple[Settings, str]:
    """The settings that the flags of `tell` say, by name, None where one is not given, and what to say of the
    model's own recipe for few steps.

    Raises:
        ValueError: a value is not allowed.
    """
    changes = {name: number(given[name]) for name in NUMBERS if given[name] is not None}
    changes |= {name: given[name] for name in (*SWITCHES, *WORDED) if given[name] is not None}
    own, said = with_recipe(recipe, changes)
    changes = own | changes
    settings = preset(given["preset_name"])
    for name, flag in (("spectrum_k", "keys"), ("spectrum_v", "values")):
        before = getattr(settings, name)
        changes[name] = changed_spectrum(before, flag, given[flag], given[f"{flag}_reweight"])
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


if __name__ == "__main__":
    sys.exit(main())
