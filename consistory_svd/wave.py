"""A wave: a batch of frames that are denoised together, the anchors first, then the others in batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from consistory_svd.attention import AnchorCache, FilterLog, Schedule, SharingState, sharing
from consistory_svd.decoding import Decoder
from consistory_svd.events import FrameDone, Preview
from consistory_svd.models.model import Model
from consistory_svd.sampling import (
    Step,
    TextEmbeddings,
    Trajectory,
    denoise,
    encode_prompts,
    frame_generators,
    initial_latents,
    locate_concepts,
)
from consistory_svd.settings import Settings
from consistory_svd.story import Story

PREVIEW_SIDE = 256
T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What to generate, after all checks.

    `settings.guidance` is at most 1 if the U-Net has no unconditional half; `guidance` is as asked for.
    `size` is (height, width) in pixels, `frames` are positions of scenes. `cached`: the anchor cache was
    given, else it is filled. The others are as in `generate`.
    """

    model: Model
    story: Story
    settings: Settings
    guidance: float
    size: tuple[int, int]
    frames: tuple[int, ...]
    schedule: Schedule
    notes: tuple[str, ...]
    anchor_cache: AnchorCache
    cached: bool
    keep_anchors: bool
    with_masks: bool
    latents: Tensor | None
    filter_log: FilterLog | None
    preview_share: float | None
    stop: threading.Event

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        factor = self.model.pipe.vae_scale_factor
        return self.size[0] // factor, self.size[1] // factor

    @property
    def anchors(self) -> int:
        """Number of the frames that are anchors; 0 if nothing is shared, or the anchors are cached."""
        return self.settings.anchors if self.settings.shares and not self.cached else 0


@dataclass
class Clock:
    """Seconds spent on a story so far; `previewing` is a part of `decoding`."""

    denoising: float = 0.0
    decoding: float = 0.0
    previewing: float = 0.0

    @contextmanager
    def measure(self, *activities: str) -> Iterator[None]:
        """Add the time while entered to the activities."""
        began = time.perf_counter()
        yield
        elapsed = time.perf_counter() - began
        for activity in activities:
            setattr(self, activity, getattr(self, activity) + elapsed)


class Wave:
    """One batch of a request: its sharing state, and its events.

    Args:
        request: the request that the frames are of.
        frames: positions of the batch's scenes.
        decoder: decodes previews and images.
        clock: receives the time that is spent.
    """

    def __init__(self, request: Request, frames: tuple[int, ...], decoder: Decoder, clock: Clock) -> None:
        self._request, self._frames = request, frames
        self._decoder, self._clock = decoder, clock
        self._state = self._sharing_state()

    def events(self, steps_done: int, finished: Container[int]) -> Iterator[Preview | FrameDone]:
        """Denoise and decode the frames; those in `finished` are not decoded again.

        `steps_done` is the number of previews of earlier waves.
        """
        state, stop, last = self._state, self._request.stop, None
        with nullcontext() if state is None else sharing(self._request.model.pipe.unet, state):
            steps = self._steps()
            while True:
                with self._clock.measure("denoising"):  # what happens between two steps is not counted
                    step = next(steps, None)
                if step is None:
                    break
                last, first_pass = step, state is not None and state.first_pass
                for frame, image in zip(self._frames, self._preview_images(step), strict=True):
                    steps_done += 1
                    yield Preview(frame, step.index, step.steps, steps_done, image, first_pass)
        for position, frame in enumerate(self._frames):
            if stop.is_set():
                return
            if frame not in finished:
                yield self._finish(position, last.latents[position])

    def _steps(self) -> Iterator[Step]:
        """The steps of the batch: one pass, or with feature injection two that share their first steps."""
        request, state = self._request, self._state
        schedule = request.schedule
        trajectory, text = self._begin()

        def run(trajectory: Trajectory, until: int | None = None) -> Iterator[Step]:
            pipe, stop = request.model.pipe, request.stop
            return denoise(pipe, trajectory, text, request.guidance, state, stop, until)

        if not schedule.injected:
            yield from run(trajectory)
            return
        yield from run(trajectory, schedule.fork)
        second, snapshot = trajectory.fork(), state.save_snapshot()
        yield from run(trajectory, schedule.first_pass_end)
        if request.stop.is_set():
            return
        state.find_matches()
        state.restore_snapshot(snapshot)
        yield from run(second)

    def _begin(self) -> tuple[Trajectory, TextEmbeddings]:
        request = self._request
        story, settings, pipe = request.story, request.settings, request.model.pipe
        with request.model.placement.encoding():
            text = encode_prompts(pipe, self._of(story.prompts), story.negative, settings.guidance)
        generators = frame_generators(self._of(story.frame_seeds))
        noise = initial_latents(pipe, generators, request.size)
        if settings.same_latent:
            first = initial_latents(pipe, frame_generators([story.seed_at(0)]), request.size)
            own = noise.new_tensor(
                [story.scenes[frame].seed is not None for frame in self._frames], dtype=torch.bool
            )
            noise = torch.where(torch.tensor(own, device=noise.device).view(-1, 1, 1, 1), noise, first)
        if request.latents is not None:
            noise = request.latents[list(self._frames)].to(noise)
        sampling = settings.steps, generators, settings.scheduler, settings.spacing
        return Trajectory.begin(pipe, noise, *sampling), text

    def _sharing_state(self) -> SharingState | None:
        """The batch's state; None if nothing is shared: then the model's own processors stay."""
        request, settings = self._request, self._request.settings
        if not settings.shares and not request.with_masks:
            return None
        has_anchors = request.anchors > 0 and self._frames[0] == 0
        others_follow = request.keep_anchors or len(request.frames) > len(self._frames)
        fills = has_anchors and not settings.random_anchors and others_follow
        story, pipe = request.story, request.model.pipe
        return SharingState(
            pipe.unet,
            request.latent_size,
            locate_concepts(pipe, self._of(story.prompts), story.concept_words),
            settings,
            self._of(story.frame_seeds),
            anchors=len(self._frames) if has_anchors else 0,
            schedule=request.schedule,
            read_cache=request.anchor_cache if settings.shares and not has_anchors else None,
            write_cache=request.anchor_cache if fills else None,
            story_seed=story.seed,
            filter_log=request.filter_log,
        )

    def _preview_images(self, step: Step) -> Iterator[Image.Image | None]:
        """The predicted image of each frame, or None where there is no preview."""
        every, share = self._request.settings.preview_every, self._request.preview_share
        due = every > 0 and (step.index + 1) % every == 0
        affordable = share is None or self._clock.previewing <= share * self._clock.denoising
        predicted = step.predict_x0() if due and affordable else None
        factor = self._request.model.pipe.vae_scale_factor
        for position in range(len(self._frames)):
            image = None
            if predicted is not None and not self._request.stop.is_set():
                with self._clock.measure("decoding", "previewing"):
                    image = self._decoder.decode(_shrink(predicted[position], factor))
                image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
            yield image

    def _finish(self, position: int, latents: Tensor) -> FrameDone:
        frame, state, story = self._frames[position], self._state, self._request.story
        with self._clock.measure("decoding"):
            image = self._decoder.decode(latents)
        return FrameDone(
            frame,
            image,
            None if state is None else self._mask_image(position),
            story.prompts[frame],
            story.frame_seeds[frame],
            latents.float().cpu(),
            None if state is None else state.masks.maps[position].cpu(),
            scene=story.scene_texts[frame],
        )

    def _mask_image(self, position: int) -> Image.Image:
        grid = self._state.layout.finest_grid
        mask = self._state.masks.at(grid)[position].view(grid).to(torch.uint8) * 255
        height, width = self._request.size
        return Image.fromarray(mask.cpu().numpy()).resize((width, height), Image.Resampling.NEAREST)

    def _of(self, values: Sequence[T]) -> tuple[T, ...]:
        """The batch's part of values of all scenes."""
        return tuple(values[frame] for frame in self._frames)


def _shrink(latents: Tensor, factor: int) -> Tensor:
    """Average latents, [channels, h, w], down to a preview's size, to save time in decoding."""
    shrink = max(latents.shape[-2:]) * factor // PREVIEW_SIDE
    return latents if shrink < 2 else avg_pool2d(latents, shrink)
