"""Progress bars of downloads in the terminal."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from consistory_svd.models.model import Model
    from consistory_svd.models.request import ModelRequest


def download_bar(console: Console, transient: bool = False) -> Progress:
    """A progress bar in bytes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
    )


def load_with_bar(request: ModelRequest, console: Console) -> Model:
    """Load a model with a status line, and a bar in its place during a download."""
    with ExitStack() as shown:
        status = shown.enter_context(console.status("Loading the model"))
        bars: list[Progress] = []

        def report(done: int, total: int | None) -> None:
            if not bars:
                status.stop()
                bars.append(shown.enter_context(download_bar(console, transient=True)))
                bars[0].add_task("Downloading")
            bars[0].update(bars[0].task_ids[0], completed=done, total=total)

        return request.load(report)
