"""The command `export`."""

from pathlib import Path
from typing import Annotated

import typer

from consistory_svd.cli.options import field_option, number, wrong_values
from consistory_svd.export.settings import ExportSettings

MOST_NAMES = 5


def export(
    story: Annotated[Path, typer.Argument(help="A story's folder, with its images and story.json.")],
    form: Annotated[str, field_option(ExportSettings, "format", "--format")] = ExportSettings.format,
    captions: Annotated[str, field_option(ExportSettings, "captions")] = ExportSettings.captions,
    place: Annotated[str, field_option(ExportSettings, "place")] = ExportSettings.place,
    layout: Annotated[str | None, field_option(ExportSettings, "layout")] = None,
    paper: Annotated[str, field_option(ExportSettings, "paper")] = ExportSettings.paper,
    title: Annotated[str, field_option(ExportSettings, "title")] = ExportSettings.title,
    seconds: Annotated[str, field_option(ExportSettings, "seconds")] = str(ExportSettings.seconds),
    side: Annotated[str, field_option(ExportSettings, "side")] = str(ExportSettings.side),
    repeat: Annotated[
        bool, field_option(ExportSettings, "repeat", "--repeat/--once")
    ] = ExportSettings.repeat,
    font: Annotated[
        Path | None, typer.Option(help="A TrueType file for characters that the included fonts lack.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the exported files.")] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Export a story as ZIP, storybook, comic pages or animation. Prints the paths of the files."""
    from consistory_svd.export.exporter import export as export_story

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
            names = ", ".join(existing[:MOST_NAMES])
            raise ValueError(f"out: {out} already holds {names}; give another folder or --overwrite")
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            (out / file.name).write_bytes(file.content)
            typer.echo(out / file.name)
