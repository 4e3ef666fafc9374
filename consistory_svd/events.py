"""What happens while a story is told. Studio, command line, benchmarks and tests consume the same events."""

from dataclasses import dataclass, field
from typing import Literal

from PIL import Image
from torch import Tensor

from consistory_svd.attention import AnchorCache
from consistory_svd.memory import Estimate, MemoryPlan

# Why the content filter replaced an image: the classifier took it for sexual, or could not check it.
# Empty: it is shown.
Filtered = Literal["", "sexual", "unseen"]


@dataclass(frozen=True)
class Started:
    """The story begins. `total_steps` is the number of `Preview` events to come: frames times steps, those of
    a first pass included.

    `height` and `width` are in pixels; `concepts` are the words whose pixels are shared; `notes` say what is
    switched on and has no effect, and what of the prompts is not read. `memory` is the plan that the story is
    told with, `estimate` the time that it will take.
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
    estimate: Estimate | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Note:
    """Something that had to be done otherwise than asked for while the story is told, in words."""

    text: str


@dataclass(frozen=True)
class Preview:
    """A frame has done a step. `frame` and `step` count from 0; `done` of the story's `total_steps` are over.

    `image` is the picture that the step foresees, at most 256 pixels a side, on every `preview_every`-th
    step, where there is time for it. `first_pass` marks steps that only find out what matches, and are done
    again (feature injection).
    """

    frame: int
    step: int
    steps: int
    done: int
    image: Image.Image | None = None
    first_pass: bool = False


@dataclass(frozen=True)
class FrameDone:
    """A frame is finished. `frame` counts from 0.

    `mask` (white: the subject) is as of the last step, without dropout, or None where nothing is shared.
    `latents` [channels, h, w] and `maps` [occurrences of concepts, h, w] are float32 on the CPU. Of a
    picture that is `withheld` nothing is here: `image` is a plain one, mask and maps are None, latents zeros.
    """

    frame: int
    image: Image.Image
    mask: Image.Image | None
    prompt: str
    seed: int
    latents: Tensor = field(repr=False)
    maps: Tensor | None = field(default=None, repr=False)
    filtered: Filtered = ""


@dataclass(frozen=True)
class Timings:
    """Seconds of work: in denoising with the text's encoding, in decoding. And the bytes of the anchor bank.

    What the consumer of the events does between them is not counted.
    """

    denoising: float
    decoding: float
    frames: int
    cache_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Seconds of work in all."""
        return self.denoising + self.decoding

    @property
    def seconds_per_frame(self) -> float:
        """Seconds a frame, everything included."""
        return self.seconds / self.frames


@dataclass(frozen=True)
class Finished:
    """All frames are finished; `images` and `masks` are in the order of the scenes.

    `bank` holds the anchors where `tell` was asked to keep them, or was given them.
    """

    images: tuple[Image.Image, ...]
    masks: tuple[Image.Image | None, ...]
    timings: Timings
    anchor_cache: AnchorCache | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Cancelled:
    """The story was stopped after `frames` finished frames, which stay good.

    `bank` is as in `Finished`, where all anchors were finished: the other frames can still be told. `reason`
    says why the story was stopped where nobody asked for it: memory ran out, say.
    """

    frames: int
    anchor_cache: AnchorCache | None = field(default=None, repr=False)
    reason: str = ""


Event = Started | Note | Preview | FrameDone | Finished | Cancelled
