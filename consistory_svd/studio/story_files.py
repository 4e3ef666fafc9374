"""The folder of a story that is told on the page: its pictures, masks and record. Nothing in it is replaced
but the record: a picture that is told again is a file more."""

from itertools import count
from pathlib import Path

from consistory_svd.events import FrameDone
from consistory_svd.library import look_at
from consistory_svd.metadata import mark_subject, save_frame, write_story_json
from consistory_svd.settings import Settings, Story
from consistory_svd.studio.generated_story import GeneratedStory, Picture, changed_anchor_story


def save_picture(
    folder: Path,
    event: FrameDone,
    story: Story,
    settings: Settings,
    model_name: str,
    anchor_story: Story,
) -> Picture:
    """Write a finished frame, its mask and the two together, beside the pictures that it had before."""
    path, ending = _new_file(folder, event.frame + 1)
    others = changed_anchor_story(story, anchor_story, settings)
    save_frame(
        path, event.image, event.prompt, event.seed, story, settings, model_name, others, event.filtered
    )
    marked = mask = None
    if event.mask is not None:
        mask = path.with_name(f"mask-{ending}")
        event.mask.save(mask)
        marked = path.with_name(f"marked-{ending}")
        mark_subject(event.image, event.mask).save(marked)
    return Picture(path, event.prompt, marked, mask, event.frame, event.filtered)


def _new_file(folder: Path, number: int) -> tuple[Path, str]:
    """A file for a picture of the frame, with a name that no other one has or gets, and the name's ending."""
    endings = (f"{number:02d}" + (f"-{version}" if version > 1 else "") + ".png" for version in count(1))
    paths = ((folder / f"frame-{ending}", ending) for ending in endings)
    return next((path, ending) for path, ending in paths if _is_ours(path))


def _is_ours(path: Path) -> bool:
    """Make an empty file where there is none: whether that was so. Another page may be as fast."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def is_as_recorded(folder: Path, generated: GeneratedStory) -> bool:
    """Whether the folder still says of a story what the page knows."""
    kept = look_at(folder)
    known = [picture.path.name for picture in generated.pictures]
    same = kept.record is not None and kept.record.story == generated.story
    return same and [path.name for path in kept.pictures] == known


def write_record(folder: Path, generated: GeneratedStory, seconds: float | None) -> None:
    """Write `story.json` of the story as it stands."""
    masks = [picture.mask for picture in generated.pictures if not picture.filtered]
    write_story_json(
        folder,
        generated.story,
        generated.settings,
        generated.model,
        [picture.path for picture in generated.pictures],
        masks if all(masks) else (),
        seconds,
        [picture.frame for picture in generated.pictures],
        changed_anchor_story(generated.story, generated.anchor_story, generated.settings),
        [picture.filtered for picture in generated.pictures],
    )
