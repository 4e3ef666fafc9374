"""A story that was generated, or is on disk: its images and files, undo, and what a change regenerates."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from consistory_svd.library import KeptStory, look_at
from consistory_svd.metadata import mark_subject, read_frame, replace_file, save_frame, write_story_json
from consistory_svd.models.request import ModelRequest
from consistory_svd.settings import Settings
from consistory_svd.story import Story

if TYPE_CHECKING:
    from consistory_svd.attention import AnchorCache, FilterSummary
    from consistory_svd.events import Filtered, FrameDone


@dataclass(frozen=True)
class Picture:
    """A finished frame.

    Attributes:
        path: the image, a PNG with metadata.
        frame: its number in the story, from 0.
        prompt, scene: the whole prompt, and the scene in it.
        mask: the subject's mask, if there is one.
        filtered: why the content filter replaced the image; empty if it did not.
    """

    path: Path
    frame: int
    prompt: str
    scene: str
    mask: Path | None = None
    filtered: "Filtered" = ""

    def marked(self) -> Path:
        """Return the image with the subject highlighted, drawn on first use; the image if it has no mask."""
        if self.mask is None:
            return self.path
        path = self.path.with_name(self.path.name.replace("frame-", "marked-", 1))
        if not path.is_file():
            content = io.BytesIO()
            with Image.open(self.path) as image, Image.open(self.mask) as mask:
                mark_subject(image.convert("RGB"), mask).save(content, format="PNG")
            replace_file(path, content.getvalue())
        return path


@dataclass(frozen=True)
class GeneratedStory:
    """A story with the images that it has so far.

    Attributes:
        folder: where its files are.
        anchor_story: the story that its anchors were generated from. It differs from `story` once the scene
            or seed of an anchor was changed, because anchors stay as they were.
        pictures: in the order of the frames.
        replaced: what `pictures` replaced, the latest last.
        anchor_cache: None if anchors were not kept.
        filter_log: what the SVD filter did, if that was recorded.
        seconds: how long it took.
        model: the name of the model.
    """

    story: Story
    settings: Settings
    folder: Path
    anchor_story: Story
    pictures: tuple[Picture, ...] = ()
    replaced: tuple[Picture, ...] = ()
    anchor_cache: "AnchorCache | None" = field(default=None, repr=False)
    filter_log: "FilterSummary | None" = field(default=None, repr=False)
    seconds: float = 0.0
    model: str = ""

    @classmethod
    def from_saved(cls, saved: KeptStory) -> "GeneratedStory":
        """Return the story of a folder. It must have images."""
        record = saved.record
        files = zip(saved.pictures, saved.prompts, saved.scenes, saved.masks, saved.filtered, strict=True)
        pictures = [
            Picture(path, _frame_of(path, position), prompt, scene, mask, filtered)
            for position, (path, prompt, scene, mask, filtered) in enumerate(files)
        ]
        return cls(
            record.story,
            record.settings,
            saved.folder,
            record.anchor_story or record.story,
            in_order(pictures),
            seconds=record.seconds or 0.0,
            model=record.model,
        )

    @property
    def missing(self) -> tuple[int, ...]:
        """The frames that have no image yet."""
        made = {picture.frame for picture in self.pictures}
        return tuple(frame for frame in range(len(self.story.scenes)) if frame not in made)

    @property
    def needs_full_run(self) -> bool:
        """Whether any change regenerates all frames: anchors are random, or were never finished."""
        if not self.settings.shares:
            return False
        return self.settings.random_anchors or any(frame < self.settings.anchors for frame in self.missing)

    def frames_for(self, requested: Sequence[int]) -> tuple[int, ...] | None:
        """Return the frames to generate to get the requested ones; None: all."""
        return None if self.needs_full_run else tuple(requested)

    def can_undo(self, frame: int | None) -> bool:
        """Return whether a frame has an image that was replaced."""
        return any(picture.frame == frame for picture in self.replaced)

    def with_picture(self, picture: Picture) -> "GeneratedStory":
        """Return the story with a new image, which replaces the frame's present one."""
        replaced = tuple(old for old in self.pictures if old.frame == picture.frame)
        others = tuple(old for old in self.pictures if old not in replaced)
        return replace(self, pictures=in_order((*others, picture)), replaced=(*self.replaced, *replaced))


@dataclass(frozen=True)
class GenerationRequest:
    """What a job generates.

    Attributes:
        story: as it is to become.
        folder: where its files go.
        frames: which frames, from 0; None: all. The others keep their images.
        previous: the story as it is now, if the job continues one.
        model: the one model to use; None: the one that is loaded when the job's turn comes.
        note: shown beside the model's own notes.
        record_svd: whether to record what the SVD filter does.
    """

    story: Story
    settings: Settings
    folder: Path
    frames: Sequence[int] | None = None
    previous: GeneratedStory | None = None
    model: ModelRequest | None = None
    note: str = ""
    record_svd: bool = False

    @classmethod
    def continuing(cls, previous: GeneratedStory, story: Story, frames: Sequence[int]) -> "GenerationRequest":
        """Return the request that turns `previous` into `story` and generates at least these frames."""
        return cls(story, previous.settings, previous.folder, previous.frames_for(frames), previous)

    @property
    def indices(self) -> tuple[int, ...]:
        """The frames to generate."""
        return tuple(range(len(self.story.scenes)) if self.frames is None else self.frames)

    @property
    def attends_to_previous(self) -> bool:
        """Whether the frames attend to anchors of the previous story."""
        return self.previous is not None and self.frames is not None

    def begin(self) -> GeneratedStory:
        """Return the story as it is before the job."""
        if self.previous is None:
            return GeneratedStory(
                self.story, self.settings, self.folder, self.story, filter_log=self._new_log()
            )
        return replace(self.previous, filter_log=self.previous.filter_log or self._new_log())

    def change(self, generated: GeneratedStory) -> GeneratedStory:
        """Return the story as it is with the job's first image."""
        if self.attends_to_previous:
            return replace(generated, story=self.story, anchor_story=self.previous.anchor_story)
        return replace(generated, story=self.story, anchor_story=self.story, anchor_cache=None)

    def _new_log(self) -> "FilterSummary | None":
        from consistory_svd.attention import FilterSummary

        return FilterSummary(self.settings.steps) if self.record_svd else None


@dataclass(frozen=True)
class OpenedStory:
    """A story from a file whose anchors were generated from another one."""

    story: Story
    settings: Settings
    anchor_story: Story


def with_scene(story: Story, scene: str) -> Story:
    """Return the story with one more scene at its end. ValueError for an empty scene."""
    return replace(story, scenes=(*story.scenes, scene.strip()))


def with_text(story: Story, frame: int, scene: str) -> Story:
    """Return the story with another text for one scene. ValueError for an empty one."""
    scenes = list(story.scenes)
    scenes[frame] = (scene.strip(), story.scenes[frame].seed)
    return replace(story, scenes=tuple(scenes))


def with_seed(story: Story, frame: int, seed: int | None) -> Story:
    """Return the story with a custom seed for one frame; None: derived from the story's seed."""
    scenes = list(story.scenes)
    scenes[frame] = replace(scenes[frame], seed=seed)
    return replace(story, scenes=tuple(scenes))


def undo(generated: GeneratedStory, frame: int) -> GeneratedStory:
    """Return the story with the frame's previous image, scene and seed. Undo again to redo.

    Raises:
        ValueError: no image of the frame was replaced.
    """
    of_frame = [picture for picture in generated.replaced if picture.frame == frame]
    if not of_frame:
        raise ValueError(f"frame: {frame + 1} is not allowed; give a picture that was redone")
    previous = of_frame[-1]
    scenes = list(generated.story.scenes)
    scenes[frame] = read_frame(previous.path).story.scenes[frame]
    story = replace(generated.story, scenes=tuple(scenes))
    present = tuple(picture for picture in generated.pictures if picture.frame == frame)
    others = tuple(picture for picture in generated.pictures if picture.frame != frame)
    # The present image becomes the oldest of those replaced: repeated undo goes through all of them.
    replaced = (*present, *(picture for picture in generated.replaced if picture != previous))
    return replace(generated, story=story, pictures=in_order((*others, previous)), replaced=replaced)


def in_order(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """Return pictures in the order of their frames."""
    return tuple(sorted(pictures, key=lambda picture: picture.frame))


def same_frame(one: Story, other: Story, frame: int) -> bool:
    """Return whether a frame has the same prompt and seed in two stories."""
    if frame >= min(len(one.scenes), len(other.scenes)):
        return False
    return (one.prompts[frame], one.frame_seeds[frame]) == (other.prompts[frame], other.frame_seeds[frame])


def changed_anchor_story(story: Story, anchor_story: Story, settings: Settings) -> Story | None:
    """Return the story that the anchors come from, if generating `story` would give other anchors."""
    same = all(same_frame(story, anchor_story, frame) for frame in range(settings.anchors))
    anchored = settings.shares and not settings.random_anchors
    return anchor_story if anchored and not same else None


# -- files: a regenerated frame is one more file, and only story.json is replaced ----------------------------


def save_picture(event: "FrameDone", generated: GeneratedStory) -> Picture:
    """Write a finished frame and its mask into the story's folder."""
    path, ending = _new_file(generated.folder, event.frame + 1)
    save_frame(
        path,
        event.image,
        event.prompt,
        event.seed,
        generated.story,
        generated.settings,
        generated.model,
        changed_anchor_story(generated.story, generated.anchor_story, generated.settings),
        event.filtered,
    )
    mask = None
    if event.mask is not None:
        mask = path.with_name(f"mask-{ending}")
        event.mask.save(mask)
    scene = generated.story.scenes[event.frame].text
    return Picture(path, event.frame, event.prompt, scene, mask, event.filtered)


def write_record(generated: GeneratedStory, seconds: float | None) -> None:
    """Write `story.json` for the story as it is now."""
    masks = [picture.mask for picture in generated.pictures if not picture.filtered]
    write_story_json(
        generated.folder,
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


def is_as_recorded(generated: GeneratedStory) -> bool:
    """Return whether the folder still holds the story that the page shows."""
    saved = look_at(generated.folder)
    shown = [picture.path.name for picture in generated.pictures]
    same = saved.record is not None and saved.record.story == generated.story
    return same and [path.name for path in saved.pictures] == shown


def _new_file(folder: Path, number: int) -> tuple[Path, str]:
    """Create an empty file for a frame; return it and the end of its name. No other frame gets the same."""
    endings = (f"{number:02d}" + (f"-{version}" if version > 1 else "") + ".png" for version in count(1))
    paths = ((folder / f"frame-{ending}", ending) for ending in endings)
    return next((path, ending) for path, ending in paths if _is_created(path))


def _is_created(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:  # another page may be as fast
        return False
    return True


def _frame_of(path: Path, position: int) -> int:
    """Return the frame's number by the file's name, else by its position."""
    named = re.match(r"frame-(\d+)", path.name)
    return int(named[1]) - 1 if named else position
