"""The commands `fetch` and `score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from consistory_svd.cli.options import DEVICE, wrong_values
from consistory_svd.cli.progress import download_bar
from consistory_svd.downloads import CACHE_VARIABLE
from consistory_svd.errors import FieldError, one_of
from consistory_svd.metrics.dreamsim_weights import BACKBONES
from consistory_svd.metrics.report import FORMATS, write
from consistory_svd.metrics.settings import ScoreSettings, check_source
from consistory_svd.metrics.weights import DOWNLOADS, NAMES, PICTURE_FILTER, SEXUAL_PICTURES, fetch_weights

CONSOLE = Console(stderr=True)
Cache = Annotated[
    Path | None,
    typer.Option(help=f"Folder of downloaded weights. Default: {CACHE_VARIABLE}, or the user's cache."),
]
Backbone = Annotated[str, typer.Option(help=f"DreamSim's network: {', '.join(BACKBONES)}.")]


def fetch(
    what: Annotated[str, typer.Argument(help=f"{', '.join(NAMES)}, or {PICTURE_FILTER}.")],
    backbone: Backbone = "ensemble",
    model: Annotated[str | None, typer.Option(help="Another Hub id for clip or dino.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Another address of DreamSim's archive: a mirror, or file://.")
    ] = None,
    cache: Cache = None,
) -> None:
    """Download the weights of a score or of the content filter.

    Files that are complete are not downloaded again.
    """
    with wrong_values():
        if what not in DOWNLOADS:
            raise FieldError("what", what, one_of(DOWNLOADS))
        if model and what == PICTURE_FILTER:
            raise FieldError("model", model, f"left out; {what} is always {SEXUAL_PICTURES}")
        if url and what != "dreamsim":
            raise FieldError("url", url, f"left out; {what} comes from the Hub")
        if model:
            check_source("model", model)
        networks = {what: model} if model and what != "dreamsim" else {}
        settings = ScoreSettings(backbone, cache=cache, **networks)
        fetch_with_bar(what, settings, url)
        which = {"dreamsim": backbone, PICTURE_FILTER: SEXUAL_PICTURES}.get(what) or getattr(settings, what)
        CONSOLE.print(f"{DOWNLOADS[what]}, {which}: present", highlight=False)


def fetch_with_bar(what: str, settings: ScoreSettings, url: str | None = None) -> None:
    """Download weights, with a progress bar on stderr."""
    from consistory_svd.compat import quiet_libraries

    quiet_libraries()
    with download_bar(CONSOLE) as bar:
        task = bar.add_task(DOWNLOADS[what], total=None)
        fetch_weights(what, settings, lambda done, total: bar.update(task, completed=done, total=total), url)


def score(
    folder: Annotated[Path, typer.Argument(help="Images with story.json or a CSV: picture,prompt,mask.")],
    backbone: Backbone = ScoreSettings.backbone,
    clip: Annotated[str, typer.Option(help="Folder or Hub id of a CLIP model.")] = ScoreSettings.clip,
    dino: Annotated[str, typer.Option(help="Folder or Hub id of a DINO model.")] = ScoreSettings.dino,
    fill: Annotated[
        str, typer.Option(help="What replaces the background: noise or grey.")
    ] = ScoreSettings.fill,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = ScoreSettings.seed,
    device: Annotated[str | None, DEVICE] = None,
    cache: Cache = None,
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "table",
    fetch_first: Annotated[bool, typer.Option("--fetch", help="Download missing weights first.")] = False,
) -> None:
    """Score a folder of images: consistency of the subject, and alignment with the prompts."""
    from consistory_svd.compat import quiet_libraries

    import torch

    from consistory_svd.metrics.folder import read_folder
    from consistory_svd.metrics.suite import Suite

    with wrong_values():
        if form not in FORMATS:
            raise FieldError("format", form, one_of(FORMATS))
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        settings = ScoreSettings(backbone, clip, dino, fill, seed, chosen, cache=cache)
        frames = read_folder(folder)
        if fetch_first:
            for what in NAMES:
                fetch_with_bar(what, settings)
    quiet_libraries()
    with CONSOLE.status("Scoring"):
        entries = list(Suite(settings).measure(frames))
    write(entries, form, Console())
