"""Events of a story while it is generated. Studio, command line, benchmarks and tests consume the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from consistory_svd.attention import AnchorCache
    from consistory_svd.memory.plan import MemoryPlan

# Why the content filter replaced an image: the classifier rejected it, or could not check it. Empty: it did
# not.
Filtered = Literal["", "sexual", "unseen"]


@dataclass(frozen=True)
class Started:
    """The story begins.

    Attributes:
        concepts: the words whose pixels are shared.
        height, width: in pixels.
        total_steps: number of `Preview` events to come: frames times steps, including a first pass.
        notes: settings without effect, and truncated prompts.
        memory: the memory plan.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    concepts: tuple[str, ...]
    height: int
    width: int
    steps: int
    total_steps: int
    notes: tuple[str, ...] = ()
    memory: MemoryPlan | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Note:
    """A message about a fallback that was used while generating."""

    text: str


@dataclass(frozen=True)
class Preview:
    """A frame has done a step. `frame` and `step` count from 0; `done` of the story's `total_steps` are done.

    `image` is the step's predicted image, at most 256 pixels per side, on every `preview_every`-th step if
    there is time for it. `first_pass` marks steps of the pass that finds matches for feature injection.
    """

    frame: int
    step: int
    steps: int
    done: int
    image: Image.Image | None = None
    first_pass: bool = False


@dataclass(frozen=True)
class FrameDone:
    """A frame is finished. `frame` counts from 0; `scene` is its scene, a part of `prompt`.

    `mask` (white: the subject) is that of the last step, without dropout; None if nothing is shared.
    `latents` [channels, h, w] and `maps` [concept spans, h, w] are float32 on the CPU. If the image was
    `filtered`, it is a placeholder, mask and maps are None, and latents zeros.
    """

    frame: int
    image: Image.Image
    mask: Image.Image | None
    prompt: str
    seed: int
    latents: Tensor = field(repr=False)
    maps: Tensor | None = field(default=None, repr=False)
    filtered: Filtered = ""
    scene: str = ""


@dataclass(frozen=True)
class Timings:
    """Seconds spent on text encoding and denoising, and on decoding; bytes of the anchor cache.

    Time that the consumer spends between events is not counted.
    """

    denoising: float
    decoding: float
    frames: int
    cache_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Seconds in total."""
        return self.denoising + self.decoding

    @property
    def seconds_per_frame(self) -> float:
        """Seconds per frame."""
        return self.seconds / self.frames


@dataclass(frozen=True)
class Finished:
    """All frames are finished; `images` and `masks` are in the order of the scenes.

    `anchor_cache` holds the anchors if they were to be kept, or were given.
    """

    images: tuple[Image.Image, ...]
    masks: tuple[Image.Image | None, ...]
    timings: Timings
    anchor_cache: AnchorCache | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Cancelled:
    """The story ended early, after `frames` finished frames.

    `anchor_cache` is as in `Finished`, if all anchors were finished: the other frames can still be generated.
    `reason` is empty if the user stopped it, else the cause, such as a lack of memory.
    """

    frames: int
    anchor_cache: AnchorCache | None = field(default=None, repr=False)
    reason: str = ""


Event = Started | Note | Preview | FrameDone | Finished | Cancelled
