"""A told story as it stands on the page, and how one goes on with it: what is told, and what it becomes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from consistory_svd.attention import AnchorCache
from consistory_svd.events import Filtered
from consistory_svd.metadata import read_frame
from consistory_svd.settings import Settings, Story


@dataclass(frozen=True)
class Picture:
    """A finished frame: its file (PNG with metadata), its prompt, the same with its subject marked, the
    subject's mask, which frame of the story it is, from 0, and why it is withheld, if it is."""

    path: Path
    prompt: str
    marked: Path | None = None
    mask: Path | None = None
    frame: int = 0
    filtered: Filtered = ""


@dataclass(frozen=True)
class GeneratedStory:
    """A story that was told, wholly or in part.

    `lenders` is the story that its anchors were told from; it differs once an anchor's own scene or seed was
    changed, because anchors stay as they were. `pictures` are in the order of the frames, `former` holds
    those that others took the place of, the latest last. `bank` is None where anchors were not kept. `model`
    is the name of the one that told it.
    """

    story: Story
    settings: Settings
    anchor_story: Story
    pictures: tuple[Picture, ...]
    replaced: tuple[Picture, ...] = ()
    anchor_cache: AnchorCache | None = field(default=None, repr=False)
    seconds: float = 0.0
    model: str = ""

    @property
    def anchored(self) -> bool:
        """Whether frames look at the first frames of the story, the anchors."""
        return self.settings.shares and not self.settings.random_anchors

    @property
    def missing(self) -> tuple[int, ...]:
        """The frames that have no picture yet."""
        made = {picture.frame for picture in self.pictures}
        return tuple(frame for frame in range(len(self.story.scenes)) if frame not in made)

    @property
    def needs_full_run(self) -> bool:
        """Whether any change tells the whole story again: anchors are random, or were never finished."""
        if not self.settings.shares:
            return False
        return self.settings.random_anchors or any(frame < self.settings.anchors for frame in self.missing)

    def frames_for(self, wanted: Sequence[int]) -> tuple[int, ...] | None:
        """The frames that must be told to get the wanted ones; None: the whole story."""
        return None if self.needs_full_run else tuple(wanted)


@dataclass(frozen=True)
class OpenedStory:
    """A story from a file whose anchors were told from another one, the `lenders`."""

    story: Story
    settings: Settings
    anchor_story: Story


def with_scene(story: Story, scene: str) -> Story:
    """The story with a scene more, at its end. ValueError for an empty scene."""
    return replace(story, scenes=(*story.scenes, scene.strip()))


def with_text(story: Story, frame: int, scene: str) -> Story:
    """The story with another text for one scene. ValueError for an empty one."""
    scenes = list(story.scenes)
    scenes[frame] = scene.strip()
    return replace(story, scenes=tuple(scenes))


def with_seed(story: Story, frame: int, seed: int | None) -> Story:
    """The story with a seed of its own for one frame; None: it follows the story's seed again."""
    seeds = [*story.seeds, *(None,) * (frame + 1 - len(story.seeds))]
    seeds[frame] = seed
    while seeds and seeds[-1] is None:
        seeds.pop()
    return replace(story, seeds=tuple(seeds))


def undo(generated: GeneratedStory, frame: int) -> GeneratedStory:
    """The story with the frame's former picture, its scene and its seed; the present one becomes the former.

    ValueError where the frame has no former picture.
    """
    of_frame = [picture for picture in generated.replaced if picture.frame == frame]
    if not of_frame:
        raise ValueError(f"frame: {frame + 1} is not allowed; give a picture that was redone")
    replaced = of_frame[-1]
    was = read_frame(replaced.path).story
    story = with_text(generated.story, frame, was.scenes[frame])
    story = with_seed(story, frame, was.seeds[frame] if was.has_own_seed(frame) else None)
    present = tuple(picture for picture in generated.pictures if picture.frame == frame)
    others = tuple(picture for picture in generated.pictures if picture.frame != frame)
    # The oldest of the frame's former ones: pressed again, each gets its turn.
    kept = (*present, *(picture for picture in generated.replaced if picture != replaced))
    return replace(generated, story=story, pictures=in_order((*others, replaced)), replaced=kept)


def in_order(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """Pictures in the order of their frames."""
    return tuple(sorted(pictures, key=lambda picture: picture.frame))


def same_frame(one: Story, other: Story, frame: int) -> bool:
    """Whether a frame has the same prompt and the same seed in two stories."""
    if frame >= min(len(one.scenes), len(other.scenes)):
        return False
    return (one.prompts[frame], one.frame_seeds[frame]) == (other.prompts[frame], other.frame_seeds[frame])


def changed_anchor_story(story: Story, anchor_story: Story, settings: Settings) -> Story | None:
    """The story that the anchors were told from, where telling `story` anew would give other anchors."""
    count = settings.anchors
    same = all(same_frame(story, anchor_story, frame) for frame in range(count))
    anchored = settings.shares and not settings.random_anchors
    return anchor_story if anchored and not same else None
