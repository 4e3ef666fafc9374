"""How a story is told: the anchors first, then the other frames, as a generator of events."""

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from consistory_svd.events import Cancelled, Event, Finished, FrameDone, Preview, Started, Timings
from consistory_svd.models import Model
from consistory_svd.sampling import (
    Step,
    decode,
    denoise,
    encode_prompts,
    frame_generators,
    initial_latents,
    locate_concepts,
    predicted_picture,
    prepare_scheduler,
)
from consistory_svd.settings import Settings, Story, check
from consistory_svd.sharing import AnchorBank, SharingState, sharing

PREVIEW_SIDE = 256
T = TypeVar("T")
__all__ = [
    "Cancelled",
    "Event",
    "Finished",
    "FrameDone",
    "Preview",
    "Started",
    "Timings",
    "picture_size",
    "tell",
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


def tell(
    model: Model,
    story: Story,
    settings: Settings,
    stop: threading.Event | None = None,
    latents: Tensor | None = None,
) -> Iterator[Event]:
    """Tell a story: `Started`, then `Preview` and `FrameDone` as they come, then `Finished` or `Cancelled`.

    The anchors are told first, all together; the other frames follow in batches against what the anchors
    lend. A frame does not depend on the frames it is told with: the same seed tells the same story, and a
    scene added at the end changes no earlier picture. Setting `stop` ends the story before the next call of
    the U-Net. The model is locked from the first event to the last: consume the generator or close it
    before telling another story in the same thread. However it ends, the model is as it was.

    Args:
        latents: initial noise of unit variance, [frames, channels, h, w], instead of the seeds' own.

    Raises:
        ValueError: at once, naming the field, when story, settings, model and latents do not fit together.
    Source: issue 2, section 4; spec sections 3, 4 and 6.
    """
    check(story, settings)
    height, width = picture_size(model, settings)
    factor = model.pipe.vae_scale_factor
    shape = (len(story.scenes), model.pipe.unet.config.in_channels, height // factor, width // factor)
    if latents is not None and tuple(latents.shape) != shape:
        raise ValueError(f"latents: the shape {tuple(latents.shape)} is not allowed; give {shape}")
    return _Telling(model, story, settings, (height, width), stop or threading.Event(), latents).events()


class _Telling:
    """One story while it is told."""

    def __init__(
        self,
        model: Model,
        story: Story,
        settings: Settings,
        size: tuple[int, int],
        stop: threading.Event,
        latents: Tensor | None,
    ) -> None:
        self._model, self._pipe = model, model.pipe
        self._story, self._settings = story, settings
        self._size, self._stop, self._latents = size, stop, latents
        self._bank = AnchorBank()
        self._steps_done = 0
        self._denoising = self._decoding = 0.0
        self._frames: dict[int, FrameDone] = {}

    def events(self) -> Iterator[Event]:
        lock = self._model.lock
        while not lock.acquire(timeout=0.1):  # someone else's story: waiting can be cancelled, too
            if self._stop.is_set():
                yield Cancelled(0)
                return
        try:
            yield from self._events()
        finally:
            lock.release()

    def _events(self) -> Iterator[Event]:
        steps = len(prepare_scheduler(self._pipe, self._settings.steps).timesteps)
        story, count = self._story, len(self._story.scenes)
        yield Started(
            story.prompts,
            story.frame_seeds,
            story.concept_words,
            *self._size,
            steps,
            total_steps=count * steps,
        )
        for wave in self._waves():
            yield from self._tell_wave(wave)
            if self._stop.is_set() and len(self._frames) < count:
                yield Cancelled(len(self._frames))
                return
        made = [self._frames[frame] for frame in range(count)]
        yield Finished(
            tuple(frame.image for frame in made),
            tuple(frame.mask for frame in made),
            Timings(self._denoising, self._decoding, count, self._bank.size),
        )

    def _waves(self) -> list[range]:
        """The frames that are told together: all anchors, then the others in batches."""
        count, batch = len(self._story.scenes), self._settings.batch
        anchors = self._settings.anchors if self._settings.sdsa else 0
        others = [range(start, min(start + batch, count)) for start in range(anchors, count, batch)]
        return [range(anchors), *others] if anchors else others

    def _tell_wave(self, wave: range) -> Iterator[Event]:
        state = self._sharing_state(wave)
        last: Step | None = None
        if state is None:
            for last in self._denoise(wave, None):
                yield from self._previews(wave, last)
        else:
            with sharing(self._pipe.unet, state):
                for last in self._denoise(wave, state):
                    yield from self._previews(wave, last)
        for position, frame in enumerate(wave):
            if self._stop.is_set():
                return
            yield self._finish(frame, last.latents[position], state, position)

    def _denoise(self, wave: range, state: SharingState | None) -> Iterator[Step]:
        """The steps of a wave, timed without what happens between them."""
        began = time.perf_counter()
        for step in self._steps(wave, state):
            self._denoising += time.perf_counter() - began
            yield step
            began = time.perf_counter()

    def _steps(self, wave: range, state: SharingState | None) -> Iterator[Step]:
        settings, pipe = self._settings, self._pipe
        prompts = self._of(wave, self._story.prompts)
        text = encode_prompts(pipe, prompts, self._story.negative, settings.guidance)
        generators = frame_generators(self._of(wave, self._story.frame_seeds))
        latents = initial_latents(pipe, generators, self._size)
        if self._latents is not None:
            latents = self._latents[wave.start : wave.stop].to(latents)
        return denoise(pipe, latents, text, settings.steps, settings.guidance, generators, state, self._stop)

    def _sharing_state(self, wave: range) -> SharingState | None:
        """What the wave shares; None when nothing is: then the model's own processors stay."""
        if not self._settings.sdsa:
            return None
        anchors_wave = wave.start == 0
        more_to_come = len(self._story.scenes) > len(wave)
        factor = self._pipe.vae_scale_factor
        return SharingState(
            self._pipe.unet,
            (self._size[0] // factor, self._size[1] // factor),
            locate_concepts(self._pipe, self._of(wave, self._story.prompts), self._story.concept_words),
            self._settings,
            self._of(wave, self._story.frame_seeds),
            anchors=len(wave) if anchors_wave else 0,
            reading=None if anchors_wave else self._bank,
            filling=self._bank if anchors_wave and more_to_come else None,
        )

    def _previews(self, wave: range, step: Step) -> Iterator[Preview]:
        every = self._settings.preview_every
        shown = every > 0 and (step.index + 1) % every == 0
        foreseen = predicted_picture(self._pipe, step) if shown else None
        for position, frame in enumerate(wave):
            self._steps_done += 1
            image = None
            if foreseen is not None and not self._stop.is_set():
                image = self._decode(foreseen[position])
                image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
            yield Preview(frame, step.index, step.steps, self._steps_done, image)

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
        image = decode(self._pipe, latents)
        self._decoding += time.perf_counter() - began
        return image

    @staticmethod
    def _of(wave: range, values: tuple[T, ...]) -> tuple[T, ...]:
        return values[wave.start : wave.stop]
