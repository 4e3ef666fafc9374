"""A run as the page's gallery and status show it."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from consistory_svd.studio import html as view
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.progress import Progress


def gallery_items(progress: Progress, masks: bool = False) -> list[tuple[str, str]]:
    """A snapshot's pictures as Gradio's gallery wants them, file and scene, those that are being drawn
    among them; with `masks` the subject of each is marked where its mask is known."""
    items = {
        picture.frame: (
            str((picture.marked if masks else None) or picture.path),
            view.caption(progress.scene(picture.prompt), picture.filtered),
        )
        for picture in progress.pictures
    }
    for frame, path in progress.previews:
        items[frame] = (str(path), f"{progress.scene(progress.prompts[frame])} (being drawn)")
    return [items[frame] for frame in sorted(items)]


def updates(run: GenerationJob) -> Iterator[tuple[Any, ...]]:
    """Snapshots as (gallery, status); what has not changed is not sent again.

    The last update is whole: it is all that a programme gets which asked for the result alone.
    """
    shown_pictures: tuple[Any, ...] | None = None
    shown_status = ""
    for progress in run.watch():
        status = view.status(progress)
        pictures = progress.pictures, progress.previews, run.show_masks
        same = pictures == shown_pictures and not progress.over
        yield (
            gr.skip() if same else gallery_items(progress, run.show_masks),
            gr.skip() if status == shown_status else status,
        )
        shown_pictures, shown_status = pictures, status
