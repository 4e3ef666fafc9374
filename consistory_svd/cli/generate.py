"""The command `generate`: a story's images and story.json in a folder."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consistory_svd.cli.options import (
    CONFIG,
    DEVICE,
    DTYPE,
    HIDE_SEXUAL,
    KEEP_VALUES,
    LORA,
    MEMORY,
    MODEL,
    REWEIGHT_VALUES,
    changed_filter,
    field_option,
    number,
    switch_option,
    wrong_values,
)
from consistory_svd.cli.progress import load_with_bar
from consistory_svd.errors import FieldError
from consistory_svd.events import (
    Cancelled,
    Event,
    Finished,
    FrameDone,
    Note,
    Preview,
    Started,
)
from consistory_svd.fields import field_of
from consistory_svd.limits import hides_sexual_pictures
from consistory_svd.metadata import save_frame, write_story_json
from consistory_svd.presets import PRESETS, preset
from consistory_svd.settings import BOOL_FIELDS, CHOICE_FIELDS, Settings, check
from consistory_svd.story import Story

if TYPE_CHECKING:
    from consistory_svd.attention import AnchorCache
    from consistory_svd.models.few_step import FewStepModel
    from consistory_svd.models.model import Model

INTERRUPTED, FAILED = 130, 1
# Files of a story in its folder; nothing else is ever removed.
OWN_FILES = re.compile(r"(frame|mask)-\d+\.png|story\.json")
# Numbers of Settings that have an option.
NUMBER_FIELDS = ("steps", "guidance", "anchors", "mask_dropout", "height", "width", "batch")

# Images and files are the result; messages go to stderr.
CONSOLE = Console(stderr=True)


def _filter_option(side: str) -> Any:
    text = f"{field_of(Settings, f'{side}_filter').help} Give {KEEP_VALUES}."
    return typer.Option(help=text, metavar="TEXT")


def _reweight_option(side: str) -> Any:
    return typer.Option(
        help=f"How kept singular values of {side.upper()} are rescaled. Give {REWEIGHT_VALUES}.",
        metavar="TEXT",
    )


def generate(
    context: typer.Context,
    subject: Annotated[str, field_option(Story, "subject")],
    scene: Annotated[list[str], field_option(Story, "scenes", "--scene")],
    concept: Annotated[list[str] | None, field_option(Story, "concepts", "--concept")] = None,
    style: Annotated[str, field_option(Story, "style")] = Story.style,
    negative: Annotated[str, field_option(Story, "negative")] = Story.negative,
    seed: Annotated[str, field_option(Story, "seed")] = str(Story.seed),
    preset_name: Annotated[
        str, typer.Option("--preset", help=f"Defaults of all settings: {', '.join(PRESETS)}.")
    ] = "consistory",
    steps: Annotated[str | None, field_option(Settings, "steps")] = None,
    guidance: Annotated[str | None, field_option(Settings, "guidance")] = None,
    anchors: Annotated[str | None, field_option(Settings, "anchors")] = None,
    mask_dropout: Annotated[str | None, field_option(Settings, "mask_dropout")] = None,
    sdsa: Annotated[bool | None, switch_option(Settings, "sdsa")] = None,
    query_blending: Annotated[bool | None, switch_option(Settings, "query_blending")] = None,
    masking: Annotated[bool | None, switch_option(Settings, "masking")] = None,
    random_anchors: Annotated[bool | None, switch_option(Settings, "random_anchors")] = None,
    same_latent: Annotated[bool | None, switch_option(Settings, "same_latent")] = None,
    injection: Annotated[bool | None, switch_option(Settings, "injection")] = None,
    short_first_pass: Annotated[bool | None, switch_option(Settings, "short_first_pass")] = None,
    freeu: Annotated[bool | None, switch_option(Settings, "freeu")] = None,
    k_filter: Annotated[str | None, _filter_option("k")] = None,
    v_filter: Annotated[str | None, _filter_option("v")] = None,
    k_filter_reweight: Annotated[str | None, _reweight_option("k")] = None,
    v_filter_reweight: Annotated[str | None, _reweight_option("v")] = None,
    height: Annotated[str | None, field_option(Settings, "height")] = None,
    width: Annotated[str | None, field_option(Settings, "width")] = None,
    batch: Annotated[str | None, field_option(Settings, "batch")] = None,
    scheduler: Annotated[str | None, field_option(Settings, "scheduler")] = None,
    spacing: Annotated[str | None, field_option(Settings, "spacing")] = None,
    keep_anchors: Annotated[
        Path | None, typer.Option(help="Folder to save the anchors in, for later scenes.")
    ] = None,
    anchors_from: Annotated[
        Path | None, typer.Option(help="Folder of saved anchors, for scenes after theirs.")
    ] = None,
    source: Annotated[str | None, MODEL] = None,
    lora: Annotated[list[str] | None, LORA] = None,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    memory: Annotated[str, MEMORY] = "auto",
    config: Annotated[Path | None, CONFIG] = None,
    out: Annotated[Path, typer.Option(help="Folder for the images and story.json.")] = Path("story"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the story in the folder.")] = False,
    hide_sexual: Annotated[bool, HIDE_SEXUAL] = False,
) -> None:
    """Generate a story: one image per scene, and story.json with all settings."""
    from consistory_svd.compat import quiet_libraries

    from consistory_svd.attention import AnchorCache
    from consistory_svd.content_filter import filter_events, load_content_filter
    from consistory_svd.models.request import ModelRequest
    from consistory_svd.pipeline import generate as generate_events

    with wrong_values():
        hides = hides_sexual_pictures(os.environ, asked=hide_sexual)
        if hides and keep_anchors is not None:
            # A filtered anchor would be saved in it.
            raise FieldError("keep-anchors", str(keep_anchors), "left out with --hide-sexual-pictures")
        request = ModelRequest.parse(source, device, dtype, lora or (), memory, config)
        anchor_cache = None if anchors_from is None else AnchorCache.load(anchors_from)
        earlier = () if anchor_cache is None else anchor_cache.origin.scenes
        story = Story(subject, (*earlier, *scene), style, tuple(concept or ()), negative, number(seed))
        settings, note = given_settings(context.params, request.recipe, len(story.scenes))
        check(story, settings)
        check_folder(out, overwrite)
        if keep_anchors is not None:
            check_folder(keep_anchors, overwrite, "keep-anchors")
        quiet_libraries()
        content_filter = load_content_filter() if hides else None
        model = load_with_bar(request, CONSOLE)
        for line in filter(None, (model.describe(), note)):
            CONSOLE.print(line, highlight=False)
        events = generate_events(
            model,
            story,
            settings,
            stop := threading.Event(),
            anchor_cache=anchor_cache,
            frames=None if anchor_cache is None else range(len(earlier), len(story.scenes)),
            keep_anchors=keep_anchors is not None,
        )
        if content_filter:
            content_filter.to(model.device)
            events = filter_events(events, content_filter)
        clear_folder(out)
    code, anchor_cache = save_events(out, model, story, settings, preset_name, events, stop)
    if keep_anchors is not None and anchor_cache:
        anchor_cache.save(keep_anchors)
    raise typer.Exit(code)


def given_settings(
    given: Mapping[str, Any], recipe: FewStepModel | None, frames: int
) -> tuple[Settings, str]:
    """Return the settings of the options, None where one is not given, and a note on a few-step model.

    Raises:
        FieldError: a value is not allowed.
    """
    from consistory_svd.models.request import with_recipe

    changes = {name: number(given[name]) for name in NUMBER_FIELDS if given[name] is not None}
    changes |= {name: given[name] for name in (*BOOL_FIELDS, *CHOICE_FIELDS) if given[name] is not None}
    of_model, note = with_recipe(recipe, changes)
    changes = of_model | changes
    base = preset(given["preset_name"])
    for name in ("k_filter", "v_filter"):
        option, reweight = name.replace("_", "-"), given[f"{name}_reweight"]
        changes[name] = changed_filter(getattr(base, name), option, given[name], reweight)
    # A preset's anchors are a maximum; only a number that was given can be too large.
    changes.setdefault("anchors", min(base.anchors, frames))
    return dataclasses.replace(base, **changes), note


def check_folder(folder: Path, overwrite: bool, option: str = "out") -> None:
    """Raise ValueError unless `folder` is new or empty, or may be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise FieldError(option, str(folder), "a folder")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise FieldError(option, str(folder), "an empty folder unless --overwrite is given")


def clear_folder(folder: Path) -> None:
    """Make `folder` and remove an earlier story's files; OSError if that is not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if OWN_FILES.fullmatch(path.name):
            path.unlink()


def save_events(
    folder: Path,
    model: Model,
    story: Story,
    settings: Settings,
    preset_name: str,
    events: Iterator[Event],
    stop: threading.Event,
) -> tuple[int, AnchorCache | None]:
    """Write a story's events into `folder`, each image as soon as it is finished.

    Ctrl-C ends the story within a step: finished images are kept, and story.json names them.

    Returns:
        The exit code, and the anchor cache of a finished story.
    """
    from consistory_svd.content_filter import FILTER_REASONS

    done: list[FrameDone] = []
    masks: list[Path] = []
    seconds, code, anchor_cache = None, INTERRUPTED, None
    with _interrupts_set(stop), _progress_bar() as bar:
        task = bar.add_task("Generating", total=None)
        for event in events:
            match event:
                case Started():
                    bar.update(task, total=event.total_steps)
                    for note in event.notes:
                        CONSOLE.print(f"note: {note}", highlight=False)
                    CONSOLE.print(f"{event.memory.description()}.", highlight=False)
                case Note():
                    CONSOLE.print(f"note: {event.text}", highlight=False)
                case Preview():
                    bar.update(task, completed=event.done)
                case FrameDone():
                    done.append(event)
                    path = _path(folder, "frame", event)
                    save_frame(
                        path,
                        event.image,
                        event.prompt,
                        event.seed,
                        story,
                        settings,
                        model.name,
                        filtered=event.filtered,
                    )
                    if event.mask is not None:
                        masks.append(_path(folder, "mask", event))
                        event.mask.save(masks[-1])
                    if event.filtered:
                        CONSOLE.print(f"note: {path.name}: {FILTER_REASONS[event.filtered]}", highlight=False)
                case Finished():
                    seconds, anchor_cache, code = event.timings.seconds, event.anchor_cache, 0
                case Cancelled(reason=reason) if reason:
                    CONSOLE.print(f"error: {reason}; finished images are kept", highlight=False)
                    code = FAILED
    write_story_json(
        folder,
        story,
        settings,
        model.name,
        [_path(folder, "frame", event) for event in done],
        masks,
        seconds,
        [event.frame for event in done],
        filtered=[event.filtered for event in done],
        preset=preset_name,
        is_embedded=model.is_embedded,
    )
    return code, anchor_cache


def _path(folder: Path, kind: str, event: FrameDone) -> Path:
    return folder / f"{kind}-{event.frame + 1:02d}.png"


def _progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=CONSOLE)


@contextmanager
def _interrupts_set(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C set `stop` inside; a second Ctrl-C interrupts at once."""

    def ask(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
