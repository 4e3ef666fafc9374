"""How a story is told: the anchors first, then the other frames, as a generator of events."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from consistory_svd.attention import AnchorCache, FilterLog, Origin, Schedule, SharingState, sharing
from consistory_svd.decoding import Decoder, Overflow
from consistory_svd.events import Cancelled, Event, Finished, FrameDone, Note, Preview, Started, Timings
from consistory_svd.memory import Job, is_out_of_memory
from consistory_svd.memory.manager import MemoryManager
from consistory_svd.models.model import Model
from consistory_svd.prompt_truncation import unread
from consistory_svd.sampling import (
    Step,
    TextEmbeddings,
    Trajectory,
    denoise,
    encode_prompts,
    frame_generators,
    free_u,
    guides,
    initial_latents,
    locate_concepts,
    predicted_image,
    prepare_scheduler,
)
from consistory_svd.schedulers import noise_levels
from consistory_svd.settings import Settings, check, notes
from consistory_svd.story import Story

PREVIEW_SIDE = 256
T = TypeVar("T")
__all__ = [
    "Cancelled",
    "Event",
    "Finished",
    "FrameDone",
    "Note",
    "Preview",
    "Started",
    "Timings",
    "generate",
    "picture_size",
]


def picture_size(model: Model, settings: Settings) -> tuple[int, int]:
    """Height and width in pixels, the model's own where the settings leave them open.

    ValueError, naming the field, for a size that the model's factors do not divide.
    """
    multiple = model.size_multiple
    native = dict(zip(("height", "width"), model.native_size, strict=True))
    size = {name: getattr(settings, name) or native[name] for name in native}
    for name, side in size.items():
        if side % multiple:
            raise ValueError(f"{name}: {side} is not allowed with this model; give a multiple of {multiple}")
    return size["height"], size["width"]


def generate(
    model: Model,
    story: Story,
    settings: Settings,
    stop: threading.Event | None = None,
    latents: Tensor | None = None,
    anchor_cache: AnchorCache | None = None,
    frames: Sequence[int] | None = None,
    keep_anchors: bool = False,
    with_masks: bool = False,
    filter_log: FilterLog | None = None,
    preview_share: float | None = None,
) -> Iterator[Event]:
    """Tell a story: `Started`, then `Preview` and `FrameDone` as they come, then `Finished` or `Cancelled`.

    The anchors are told first, all together; the other frames follow in batches against what the anchors
    lend. A frame does not depend on the frames it is told with: the same seed tells the same story, and a
    scene added at the end changes no earlier picture; with random anchors, where every frame looks at every
    other, neither holds and all frames are told together. Setting `stop` ends the story before the next call
    of the U-Net. The model is locked from the first event to the last: consume the generator or close it
    before telling another story in the same thread. However it ends, the model is as it was.

    `Started.memory` is the memory plan. Where memory runs out all the same, the story goes on with a smaller
    plan from the first frame that is not finished, and a `Note` says so; below the smallest it is `Cancelled`
    with a reason. A frame is the same with every plan but for what the plan's words say.

    Args:
        latents: initial noise of unit variance, [frames, channels, h, w], instead of the seeds' own; a row
            a scene of the story, whichever are told.
        bank: the anchors of a story told before, as `Finished.bank` gave them or `AnchorCache.load` did:
            every frame is told against them, none is an anchor itself.
        frames: which scenes are told, by position from 0; all by default. A part without the anchors needs
            a bank, or settings that share nothing: told without them, frames would not be the story's.
        keep_anchors: fill `Finished.bank`, for frames that come later.
        with_masks: look for the subject's masks also where nothing is shared.
        spectra: a log that the spectral filter writes to.
        preview_share: the share of the denoising time that previews may take; one that would take more is
            left out. None: they may take what they take.

    Raises:
        ValueError: at once, naming the field, when story, settings, model, latents, bank and frames do not
            fit together.
    Source: issues 2 and 3; spec sections 2 to 6.
    """
    check(story, settings if anchor_cache is None else replace(settings, anchors=1, random_anchors=False))
    height, width = picture_size(model, settings)
    factor = model.pipe.vae_scale_factor
    shape = (len(story.scenes), model.pipe.unet.config.in_channels, height // factor, width // factor)
    if latents is not None and tuple(latents.shape) != shape:
        raise ValueError(f"latents: the shape {tuple(latents.shape)} is not allowed; give {shape}")
    chosen = _chosen(frames, len(story.scenes))
    anchored = not settings.random_anchors and set(range(settings.anchors)) <= set(chosen)
    if len(chosen) < len(story.scenes) and settings.shares and anchor_cache is None and not anchored:
        raise ValueError(
            f"frames: {len(chosen)} of {len(story.scenes)} scenes need the anchors of the others; give a bank"
        )
    if keep_anchors and (not settings.shares or settings.random_anchors):
        raise ValueError(
            "keep_anchors: True is not allowed without anchors; share the subject, from the first frames"
        )
    generation = _Generation(model, story, settings, (height, width), stop or threading.Event())
    generation.given(latents, anchor_cache, chosen, keep_anchors, with_masks, filter_log, preview_share)
    return generation.events()


def _chosen(frames: Sequence[int] | None, count: int) -> tuple[int, ...]:
    if frames is None:
        return tuple(range(count))
    chosen = tuple(sorted(set(frames)))
    if not chosen or not all(isinstance(frame, int) and 0 <= frame < count for frame in chosen):
        raise ValueError(f"frames: {list(frames)} is not allowed; give positions from 0 to {count - 1}")
    return chosen


class _Generation:
    """One story while it is told."""

    def __init__(
        self, model: Model, story: Story, settings: Settings, size: tuple[int, int], stop: threading.Event
    ) -> None:
        self._model, self._pipe = model, model.pipe
        # A U-Net with distilled guidance has no unconditional half, whatever the guidance.
        self._guidance = settings.guidance
        if not guides(model.pipe, settings.guidance):
            settings = replace(settings, guidance=min(settings.guidance, 1.0))
        self._story, self._settings = story, settings
        self._said: list[str] = []
        self._decoder = Decoder(model.pipe, self._said.append)
        self._size, self._stop = size, stop
        self._steps_done = 0
        self._denoising = self._decoding = self._previewing = 0.0
        self._frames: dict[int, FrameDone] = {}

    def given(
        self,
        latents: Tensor | None,
        anchor_cache: AnchorCache | None,
        chosen: tuple[int, ...],
        keep_anchors: bool,
        with_masks: bool,
        filter_log: FilterLog | None,
        preview_share: float | None,
    ) -> None:
        """Take what `tell` was given beside the story; ValueError for a bank that does not fit."""
        settings = self._settings
        scheduler = prepare_scheduler(self._pipe, settings.steps, settings.scheduler, settings.spacing)
        timesteps, self._scheduler = noise_levels(scheduler), scheduler
        self._schedule = Schedule.of(timesteps, settings)
        self._latents, self._chosen, self._with_masks = latents, chosen, with_masks
        self._filter_log, self._has_cache, self._preview_share = (
            filter_log,
            anchor_cache is not None,
            preview_share,
        )
        self._keeps_anchors = keep_anchors
        self._anchor_cache = AnchorCache() if anchor_cache is None else anchor_cache
        self._unread = unread(self._pipe, self._story, settings, chosen)
        self._memory = MemoryManager(self._model, self._job(), self._schedule, len(chosen))
        if anchor_cache is not None or keep_anchors:
            origin = Origin.of(
                self._model.name,
                self._pipe.unet,
                self._size,
                timesteps,
                self._story,
                settings,
                settings.anchors,
            )
            if anchor_cache is None:
                self._anchor_cache.origin = origin
            elif anchor_cache.origin is None:
                raise ValueError("bank: it is empty; give one that a story with anchors has filled")
            else:
                anchor_cache.origin.check_fits(origin)

    def events(self) -> Iterator[Event]:
        lock = self._model.lock
        while not lock.acquire(timeout=0.1):  # someone else's story: waiting can be cancelled, too
            if self._stop.is_set():
                yield Cancelled(0)
                return
        try:
            if self._model.placement.retired:
                yield Cancelled(0, reason="another model was chosen while this story waited; tell it again")
                return
            yield from self._events()
        finally:
            lock.release()

    def _events(self) -> Iterator[Event]:
        story, schedule = self._story, self._schedule
        try:
            self._memory.begin(self._anchor_cache)
            yield Started(
                story.prompts,
                story.frame_seeds,
                story.concept_words,
                *self._size,
                schedule.steps,
                total_steps=len(self._chosen) * schedule.calls,
                notes=(*notes(self._settings), *self._unread),
                memory=self._memory.plan,
                estimate=self._memory.estimate,
            )
            with free_u(self._pipe.unet, self._settings.freeu):
                reason = yield from self._generate_waves()
        finally:
            self._memory.end()
        if len(self._frames) < len(self._chosen):
            anchors_done = all(frame in self._frames for frame in range(self._anchors))
            yield Cancelled(len(self._frames), self._new_cache if anchors_done else None, reason)
            return
        made = [self._frames[frame] for frame in self._chosen]
        self._memory.learn(self._denoising + self._decoding)
        yield Finished(
            tuple(frame.image for frame in made),
            tuple(frame.mask for frame in made),
            Timings(self._denoising, self._decoding, len(made), self._anchor_cache.size),
            self._new_cache,
        )

    def _generate_waves(self) -> Iterator[Event]:
        """Tell wave after wave, with a smaller memory plan where needed; returns why it ended early."""
        while waves := self._waves():
            steps, ran_out = self._steps_done, ""
            try:
                yield from self._generate_wave(waves[0])
            except Overflow as error:
                return str(error)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                ran_out = str(error).strip().partition("\n")[0]
            yield from self._notes()
            if ran_out:  # outside of the handler, whose error holds on to what was allocated
                self._steps_done = steps
                if not self._memory.step_down(self._anchor_cache):
                    return f"memory ran out, and there is no smaller plan: {ran_out}"
                yield Note(self._memory.stepped_down(len(self._frames)))
            if self._stop.is_set() and self._waves():
                return ""
        return ""

    def _notes(self) -> Iterator[Note]:
        yield from map(Note, self._said)
        self._said.clear()

    def _job(self) -> Job:
        factor = self._pipe.vae_scale_factor
        halves = 2 if guides(self._pipe, self._guidance) else 1
        latent = (self._size[0] // factor, self._size[1] // factor)
        settings = self._settings if not self._has_cache else replace(self._settings, random_anchors=False)
        return Job(latent, len(self._chosen), settings, halves)

    @property
    def _new_cache(self) -> AnchorCache | None:
        return self._anchor_cache if self._keeps_anchors or self._has_cache else None

    @property
    def _anchors(self) -> int:
        """How many frames are anchors of this telling."""
        settings = self._settings
        return settings.anchors if settings.shares and not self._has_cache else 0

    def _waves(self) -> list[tuple[int, ...]]:
        """The frames that are left, as they are told together: all anchors, then the others in batches."""
        left = tuple(frame for frame in self._chosen if frame not in self._frames)
        batch = min(self._settings.batch, self._memory.plan.batch)
        if self._anchors and self._settings.random_anchors:
            return [self._chosen] if left else []
        first = self._chosen[: self._anchors]
        others = [frame for frame in left if frame not in first]
        waves = [tuple(others[start : start + batch]) for start in range(0, len(others), batch)]
        # Anchors are drawn together, even if only one of them is left.
        return [first, *waves] if set(first) & set(left) else waves

    def _generate_wave(self, wave: tuple[int, ...]) -> Iterator[Event]:
        state = self._sharing_state(wave)
        steps = self._steps(wave, state)
        last: Step | None = None
        with nullcontext() if state is None else sharing(self._pipe.unet, state):
            while True:
                began = time.perf_counter()  # what happens between two steps is not the model's time
                step = next(steps, None)
                self._denoising += time.perf_counter() - began
                if step is None:
                    break
                last = step
                first_pass = state is not None and state.first_pass
                yield from self._previews(wave, step, first_pass)
        for position, frame in enumerate(wave):
            if self._stop.is_set():
                return
            if frame not in self._frames:
                yield self._finish(frame, last.latents[position], state, position)

    def _steps(self, wave: tuple[int, ...], state: SharingState | None) -> Iterator[Step]:
        """The steps of a wave: one pass, or with feature injection two that begin as one."""
        trajectory, text = self._begin(wave)

        def run(way: Trajectory, until: int | None = None) -> Iterator[Step]:
            return denoise(self._pipe, way, text, self._guidance, state, self._stop, until)

        if not self._schedule.injected:
            yield from run(trajectory)
            return
        yield from run(trajectory, self._schedule.fork)
        second, memory = trajectory.fork(), state.save_snapshot()
        yield from run(trajectory, self._schedule.first_pass_end)
        if self._stop.is_set():
            return
        state.find_matches()
        state.restore_snapshot(memory)
        yield from run(second)

    def _begin(self, wave: tuple[int, ...]) -> tuple[Trajectory, TextEmbeddings]:
        settings, pipe = self._settings, self._pipe
        with self._model.placement.encoding():
            prompts = self._of(wave, self._story.prompts)
            text = encode_prompts(pipe, prompts, self._story.negative, settings.guidance)
        seeds = self._of(wave, self._story.frame_seeds)
        generators = frame_generators(seeds)
        noise = initial_latents(pipe, generators, self._size)
        if settings.same_latent:
            first = initial_latents(pipe, frame_generators([self._story.seed_at(0)]), self._size)
            own = noise.new_tensor(
                [self._story.scenes[frame].seed is not None for frame in wave], dtype=torch.bool
            )
            noise = torch.where(own.view(-1, 1, 1, 1), noise, first)
        if self._latents is not None:
            noise = self._latents[list(wave)].to(noise)
        return Trajectory.begin(
            pipe, noise, settings.steps, generators, settings.scheduler, settings.spacing
        ), text

    def _sharing_state(self, wave: tuple[int, ...]) -> SharingState | None:
        """What the wave shares; None when nothing is: then the model's own processors stay."""
        settings = self._settings
        if not settings.shares and not self._with_masks:
            return None
        anchors = self._anchors
        anchors_wave = anchors > 0 and wave[0] == 0
        fills = anchors_wave and not settings.random_anchors
        fills = fills and (self._keeps_anchors or len(self._chosen) > len(wave))
        factor = self._pipe.vae_scale_factor
        return SharingState(
            self._pipe.unet,
            (self._size[0] // factor, self._size[1] // factor),
            locate_concepts(self._pipe, self._of(wave, self._story.prompts), self._story.concept_words),
            settings,
            self._of(wave, self._story.frame_seeds),
            anchors=len(wave) if anchors_wave else 0,
            schedule=self._schedule,
            read_cache=self._anchor_cache if settings.shares and not anchors_wave else None,
            write_cache=self._anchor_cache if fills else None,
            story_seed=self._story.seed,
            filter_log=self._filter_log,
        )

    def _previews(self, wave: tuple[int, ...], step: Step, first_pass: bool) -> Iterator[Preview]:
        every = self._settings.preview_every
        shown = every > 0 and (step.index + 1) % every == 0 and self._time_for_previews()
        predict_x0 = predicted_image(self._pipe, step, self._scheduler) if shown else None
        for position, frame in enumerate(wave):
            self._steps_done += 1
            image = None
            if predict_x0 is not None and not self._stop.is_set():
                before = self._decoding
                image = self._decode(_small(predict_x0[position], self._pipe.vae_scale_factor))
                self._previewing += self._decoding - before
                image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
            yield Preview(frame, step.index, step.steps, self._steps_done, image, first_pass)

    def _time_for_previews(self) -> bool:
        share = self._preview_share
        return share is None or self._previewing <= share * self._denoising

    def _finish(self, frame: int, latents: Tensor, state: SharingState | None, position: int) -> FrameDone:
        done = FrameDone(
            frame,
            self._decode(latents),
            None if state is None else self._mask_picture(state, position),
            self._story.prompts[frame],
            self._story.frame_seeds[frame],
            latents.float().cpu(),
            None if state is None else state.maps[position].cpu(),
        )
        self._frames[frame] = done
        return done

    def _mask_picture(self, state: SharingState, position: int) -> Image.Image:
        grid = state.finest_grid
        mask = state.masks(grid)[position].view(grid).to(torch.uint8) * 255
        height, width = self._size
        return Image.fromarray(mask.cpu().numpy()).resize((width, height), Image.Resampling.NEAREST)

    def _decode(self, latents: Tensor) -> Image.Image:
        began = time.perf_counter()
        image = self._decoder.decode(latents)
        self._decoding += time.perf_counter() - began
        return image

    @staticmethod
    def _of(wave: tuple[int, ...], values: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(values[frame] for frame in wave)


def _small(latents: Tensor, factor: int) -> Tensor:
    """Latents, [channels, h, w], shrunk until their picture is no larger than a preview: what is averaged
    before it is decoded need not be decoded at full size."""
    shrink = max(latents.shape[-2:]) * factor // PREVIEW_SIDE
    return latents if shrink < 2 else avg_pool2d(latents, shrink)
