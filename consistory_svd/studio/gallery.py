"""A run as the page's gallery and status show it."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from consistory_svd.studio import html as view
from consistory_svd.studio.generated_story import Picture
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.progress import Progress
from consistory_svd.studio.session import Session


def gallery_items(
    pictures: Sequence[Picture], masks: bool = False, progress: Progress | None = None
) -> list[tuple[str, str]]:
    """Return pictures as (file, caption) for a gallery, and the previews of `progress`.

    Args:
        masks: highlight the subject.
    """
    items = {
        picture.frame: (
            str(picture.marked() if masks else picture.path),
            view.caption(picture.scene, picture.filtered),
        )
        for picture in pictures
    }
    for frame, path in progress.previews if progress else ():
        items[frame] = (str(path), f"{progress.scenes[frame]} (being generated)")
    return [items[frame] for frame in sorted(items)]


def updates(session: Session, job: GenerationJob) -> Iterator[tuple[Any, ...]]:
    """Snapshots as (gallery, status); what has not changed is not sent again.

    The last update is whole: it is all that a programme gets which asked for the result alone.
    """
    shown_pictures: tuple[Any, ...] | None = None
    shown_status = ""
    for progress in job.watch():
        status = view.status(progress)
        pictures = progress.pictures, progress.previews, session.show_masks
        same = pictures == shown_pictures and not progress.over
        yield (
            gr.skip() if same else gallery_items(progress.pictures, session.show_masks, progress),
            gr.skip() if status == shown_status else status,
        )
        shown_pictures, shown_status = pictures, status
