"""The folder of a story that is told on the page: its pictures, masks and record. Nothing in it is replaced
but the record: a picture that is told again is a file more."""

from pathlib import Path

from consistory_svd.events import FrameDone
from consistory_svd.record import mark_subject, save_frame, write_story_json
from consistory_svd.settings import Settings, Story
from consistory_svd.studio.told import Picture, Told, foreign_lenders


def save_picture(
    folder: Path,
    event: FrameDone,
    version: int,
    story: Story,
    settings: Settings,
    model_name: str,
    lenders: Story,
) -> Picture:
    """Write a finished frame, its mask and the two together; `version` counts the frame's pictures from 1."""
    ending = f"{event.frame + 1:02d}" + (f"-{version}" if version > 1 else "") + ".png"
    path = folder / f"frame-{ending}"
    others = foreign_lenders(story, lenders, settings)
    save_frame(
        path, event.image, event.prompt, event.seed, story, settings, model_name, others, event.withheld
    )
    marked = mask = None
    if event.mask is not None:
        mask = path.with_name(f"mask-{ending}")
        event.mask.save(mask)
        marked = path.with_name(f"marked-{ending}")
        mark_subject(event.image, event.mask).save(marked)
    return Picture(path, event.prompt, marked, mask, event.frame, event.withheld)


def write_record(folder: Path, told: Told, model_name: str, seconds: float | None) -> None:
    """Write `story.json` of the story as it stands."""
    masks = [picture.mask for picture in told.pictures if not picture.withheld]
    write_story_json(
        folder,
        told.story,
        told.settings,
        model_name,
        [picture.path for picture in told.pictures],
        masks if all(masks) else (),
        seconds,
        [picture.frame for picture in told.pictures],
        foreign_lenders(told.story, told.lenders, told.settings),
        [picture.withheld for picture in told.pictures],
    )
