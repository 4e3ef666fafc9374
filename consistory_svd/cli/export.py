"""The export's part of the command line."""

from pathlib import Path
from typing import Annotated, Any

import typer

from consistory_svd.cli.options import number, wrong_values
from consistory_svd.export.exporter import export as export_story
from consistory_svd.export.settings import (
    CAPTIONS,
    FORMATS,
    LAYOUTS,
    LONGEST_TITLE,
    PAPERS,
    PLACES,
    ExportSettings,
)
from consistory_svd.fields import field_of

CHOICES = {"format": FORMATS, "captions": CAPTIONS, "place": PLACES, "layout": LAYOUTS, "paper": PAPERS}
MOST_NAMED = 5


def _flag(name: str, *declarations: str) -> Any:
    """The flag of a field of ExportSettings: its help and what it takes are the field's own."""
    known = field_of(ExportSettings, name)
    allowed = ""
    if name in CHOICES:
        allowed = f" One of {', '.join(str(choice) for choice in CHOICES[name])}."
    elif known.minimum is not None:
        allowed = f" From {known.minimum} to {known.maximum}."
    elif name == "title":
        allowed = f" At most {LONGEST_TITLE} characters."
    return typer.Option(*declarations, help=f"{known.help}{allowed}", metavar="TEXT")


def export(
    story: Annotated[Path, typer.Argument(help="A story's folder, with its pictures and story.json.")],
    form: Annotated[str, _flag("format", "--format")] = ExportSettings.format,
    captions: Annotated[str, _flag("captions")] = ExportSettings.captions,
    place: Annotated[str, _flag("place")] = ExportSettings.place,
    layout: Annotated[str | None, _flag("layout")] = None,
    paper: Annotated[str, _flag("paper")] = ExportSettings.paper,
    title: Annotated[str, _flag("title")] = ExportSettings.title,
    seconds: Annotated[str, _flag("seconds")] = str(ExportSettings.seconds),
    side: Annotated[str, _flag("side")] = str(ExportSettings.side),
    repeat: Annotated[
        bool, typer.Option("--repeat/--once", help=field_of(ExportSettings, "repeat").help)
    ] = ExportSettings.repeat,
    font: Annotated[
        Path | None, typer.Option(help="A TrueType file for letters that the storybook's fonts lack.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for what is made.")] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same names.")] = False,
) -> None:
    """Take a told story along: as ZIP, storybook, comic pages or animation. Prints the files' names."""
    with wrong_values():
        settings = ExportSettings(
            format=form,
            captions=captions,
            place=place,
            layout=None if layout is None else number(layout),
            paper=paper,
            title=title,
            seconds=number(seconds),
            side=number(side),
            repeat=repeat,
        )
        files = export_story(story, settings, font)
        there = [file.name for file in files if (out / file.name).exists()]
        if there and not overwrite:
            named = ", ".join(there[:MOST_NAMED])
            raise ValueError(f"out: {out} holds {named} already; give another folder, or --overwrite")
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            (out / file.name).write_bytes(file.content)
            typer.echo(out / file.name)
