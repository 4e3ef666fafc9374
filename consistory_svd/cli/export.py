"""The command `export`."""

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
MAX_NAMED = 5


def _flag(name: str, *declarations: str) -> Any:
    """An option for a field of ExportSettings, with its help and allowed values."""
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
    story: Annotated[Path, typer.Argument(help="Folder of a saved story, with images and story.json.")],
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
        Path | None, typer.Option(help="A TrueType file for letters that the built-in fonts lack.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the exported files.")] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Export a saved story as a ZIP, storybook, comic or animation, and print the names of the files."""
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
        existing = [file.name for file in files if (out / file.name).exists()]
        if existing and not overwrite:
            named = ", ".join(existing[:MAX_NAMED])
            raise ValueError(f"out: {out} already has {named}; give another folder, or --overwrite")
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            (out / file.name).write_bytes(file.content)
            typer.echo(out / file.name)
