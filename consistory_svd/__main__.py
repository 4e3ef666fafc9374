"""The command line: the studio's calls with flags. `python -m consistory_svd tell --help` lists them."""

import dataclasses
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consistory_svd.compat import quiet_libraries
from consistory_svd.export import commands as export_commands
from consistory_svd.flags import REWEIGHTS, SELECTS, changed_spectrum, number, run, wrong_values
from consistory_svd.limits import hides_sexual_pictures
from consistory_svd.loading import ModelRequest, load_with_bar, with_recipe
from consistory_svd.model_flags import CONFIG, DEVICE, DTYPE, HIDE_SEXUAL, LORA, MEMORY, MODEL
from consistory_svd.models import Model
from consistory_svd.record import save_frame, write_story_json
from consistory_svd.scores import commands as score_commands
from consistory_svd.screening import WORDS, load_screen, screened
from consistory_svd.serve import studio
from consistory_svd.settings import PRESETS, Settings, Story, check, knob, preset
from consistory_svd.sharing import AnchorBank
from consistory_svd.story import Cancelled, Event, Finished, FrameDone, Note, Preview, Started, tell

INTERRUPTED, FAILED = 130, 1
# What a story leaves in its folder; nothing else is ever removed from it.
OWN_FILES = re.compile(r"(frame|mask)-\d+\.png|story\.json")
RESCALED = "How the kept singular values of the anchors' {} are rescaled."

# Pictures and files are the result; what the program says while it works goes to stderr.
CONSOLE = Console(stderr=True)

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
    numbers = {
        "steps": steps,
        "guidance": guidance,
        "anchors": anchors,
        "mask_dropout": mask_dropout,
        "height": height,
        "width": width,
        "batch": batch,
    }
    switches = {
        "sdsa": sdsa,
        "query_blending": query_blending,
        "masking": masking,
        "random_anchors": random_anchors,
        "same_latent": same_latent,
        "injection": injection,
        "short_first_pass": short_first_pass,
        "freeu": freeu,
    }
    with wrong_values():
        quiet_libraries()
        screen = load_screen() if hides_sexual_pictures(os.environ) or hide_sexual else None
        if screen and keep_anchors is not None:
            raise ValueError(
                f"keep-anchors: {keep_anchors} is not allowed with the filter for sexual pictures; an anchor "
                "that is withheld would be kept in it"
            )
        request = ModelRequest.of(source, device, dtype, lora or (), memory, config)
        bank = None if anchors_from is None else AnchorBank.load(anchors_from)
        before = () if bank is None else bank.origin.scenes
        story = Story(
            subject=subject,
            scenes=(*before, *scene),
            concepts=tuple(concept or ()),
            style=style,
            negative=negative,
            seed=number(seed),
        )
        changes = {name: number(text) for name, text in numbers.items() if text is not None}
        changes |= {name: on for name, on in switches.items() if on is not None}
        words = {"scheduler": scheduler, "spacing": spacing}
        changes |= {name: word for name, word in words.items() if word is not None}
        recipe, said = with_recipe(request.recipe, changes)
        changes = recipe | changes
        settings = preset(preset_name)
        changes["spectrum_k"] = changed_spectrum(settings.spectrum_k, "keys", keys, keys_reweight)
        changes["spectrum_v"] = changed_spectrum(settings.spectrum_v, "values", values, values_reweight)
        # A preset's anchors are "at most so many"; only a number that was asked for can be too large.
        changes.setdefault("anchors", min(settings.anchors, len(story.scenes)))
        settings = dataclasses.replace(settings, **changes)
        check(story, settings)
        check_folder(out, overwrite)
        if keep_anchors is not None:
            check_folder(keep_anchors, overwrite, "keep-anchors")
        model = quietly_loaded(request)
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


def quietly_loaded(request: ModelRequest) -> Model:
    """The model, with one bar of its own for a download in place of the libraries' many."""
    quiet_libraries()
    return load_with_bar(request, CONSOLE)


def check_folder(folder: Path, overwrite: bool, flag: str = "out") -> None:
    """ValueError unless `folder` can be written to: it is new or empty, or `overwrite` is on."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{flag}: {folder} is a file; give a folder")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f"{flag}: {folder} is not empty; give another folder or --overwrite")


def clear_folder(folder: Path) -> None:
    """Make `folder` and remove an earlier story's own files; others stay.

    ValueError where the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out: {folder} cannot be made: {error.strerror}") from error
    for path in folder.iterdir():
        if OWN_FILES.fullmatch(path.name):
            path.unlink()


def tell_into(
    folder: Path,
    model_name: str,
    story: Story,
    settings: Settings,
    events: Iterator[Event],
    stop: threading.Event,
    kept: list[AnchorBank],
) -> int:
    """Write a story's events into `folder`, each picture as soon as it is done; returns the exit code.

    A bank that the story ends with is put into `kept`. Ctrl-C ends the story within a step: pictures that are
    done stay, and story.json names them.
    """
    pictures: list[Path] = []
    masks: list[Path] = []
    frames: list[int] = []
    withheld: list[str] = []
    seconds, code = None, INTERRUPTED
    with _interrupts_set(stop), _progress_bar() as bar:
        task = bar.add_task("Telling", total=None)
        for event in events:
            match event:
                case Started():
                    bar.update(task, total=event.total_steps)
                    for note in event.notes:
                        CONSOLE.print(f"note: {note}", highlight=False)
                    for plan in (event.memory, event.estimate):
                        CONSOLE.print(f"{plan.words()}.", highlight=False)
                case Note():
                    CONSOLE.print(f"note: {event.text}", highlight=False)
                case Preview():
                    bar.update(task, completed=event.done)
                case FrameDone():
                    frames.append(event.frame)
                    withheld.append(event.withheld)
                    pictures.append(_file(folder, "frame", event))
                    made = event.image, event.prompt, event.seed
                    save_frame(pictures[-1], *made, story, settings, model_name, withheld=event.withheld)
                    masks += _saved_mask(folder, event)
                    if event.withheld:
                        CONSOLE.print(f"note: {pictures[-1].name}: {WORDS[event.withheld]}", highlight=False)
                case Finished():
                    seconds = event.timings.seconds
                    kept += [event.bank] if event.bank else []
                case Cancelled(reason=reason) if reason:
                    CONSOLE.print(f"error: {reason}; finished pictures are kept", highlight=False)
                    code = FAILED
    write_story_json(folder, story, settings, model_name, pictures, masks, seconds, frames, withheld=withheld)
    return code if seconds is None else 0


def _file(folder: Path, kind: str, event: FrameDone) -> Path:
    return folder / f"{kind}-{event.frame + 1:02d}.png"


def _saved_mask(folder: Path, event: FrameDone) -> list[Path]:
    """The frame's mask as a file beside its picture; none where nothing is shared."""
    if event.mask is None:
        return []
    path = _file(folder, "mask", event)
    event.mask.save(path)
    return [path]


def _progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=CONSOLE)


@contextmanager
def _interrupts_set(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `stop` while this is entered; a second Ctrl-C interrupts at once."""

    def ask(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


app.command("export")(export_commands.export)
app.command("fetch")(score_commands.fetch)
app.command("score")(score_commands.score)
app.command("studio")(studio)


def main() -> int:
    """Run the command line of the process."""
    return run(app)


if __name__ == "__main__":
    sys.exit(main())
