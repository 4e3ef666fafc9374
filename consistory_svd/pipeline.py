"""`generate`: a story as a generator of events, the anchors first, then the other frames."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from consistory_svd.attention import AnchorCache, FilterLog, Origin, Schedule
from consistory_svd.decoding import Decoder, NumericalOverflow
from consistory_svd.errors import FieldError
from consistory_svd.events import Cancelled, Event, Finished, FrameDone, Note, Preview, Started, Timings
from consistory_svd.memory.manager import MemoryManager
from consistory_svd.memory.offload import is_out_of_memory
from consistory_svd.memory.plan import Workload
from consistory_svd.models.model import Model
from consistory_svd.prompt_truncation import unread
from consistory_svd.sampling import free_u, guides, prepare_scheduler
from consistory_svd.schedulers import noise_levels
from consistory_svd.settings import Settings, check, notes
from consistory_svd.story import Story
from consistory_svd.wave import Clock, Request, Wave


def picture_size(model: Model, settings: Settings) -> tuple[int, int]:
    """Height and width in pixels, by default the model's own.

    ValueError, naming the field, for a size that the model's factors do not divide.
    """
    multiple = model.size_multiple
    native = dict(zip(("height", "width"), model.native_size, strict=True))
    size = {name: getattr(settings, name) or native[name] for name in native}
    for name, side in size.items():
        if side % multiple:
            raise FieldError(name, side, f"a multiple of {multiple} with this model")
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
    """Generate a story: `Started`, then `Preview` and `FrameDone`, then `Finished` or `Cancelled`.

    The anchors are generated first, all together; the other frames follow in batches and attend to the
    cached anchors. A frame does not depend on the others of its batch: the same seed gives the same story,
    and a scene added at the end changes no earlier image. With random anchors, where every frame attends to
    any other, neither holds, and all frames are generated together.

    Setting `stop` ends the story before the next call of the U-Net. The model is locked from the first event
    to the last: consume the generator, or close it, before generating another story in the same thread. In
    any case the model is restored.

    `Started.memory` is the memory plan. If memory runs out, the story continues in a smaller memory mode from
    the first unfinished frame, and a `Note` says so; below the smallest it is `Cancelled` with a reason. A
    frame is the same in every mode, except as the mode's description says.

    Args:
        latents: initial noise of unit variance, [scenes, channels, h, w], instead of the seeds' noise.
        anchor_cache: the anchors of an earlier story, from `Finished.anchor_cache` or `AnchorCache.load`:
            every frame attends to them, and none is an anchor itself.
        frames: positions of the scenes to generate, from 0; all by default. A part without the anchors needs
            an anchor cache, or settings that share nothing.
        keep_anchors: fill `Finished.anchor_cache`, for later frames.
        with_masks: compute the subject masks even if nothing is shared.
        filter_log: a log that the SVD filter writes to.
        preview_share: the largest share of the denoising time that previews may take; previews beyond it are
            skipped. None: no limit.

    Raises:
        ValueError: at once, naming the field, if story, settings, model, latents, anchor_cache and frames do
            not fit together.
    Source: Tewel et al. 2024; docs/method.md.
    """
    check(story, settings if anchor_cache is None else replace(settings, anchors=1, random_anchors=False))
    size, factor = picture_size(model, settings), model.pipe.vae_scale_factor
    shape = (len(story.scenes), model.pipe.unet.config.in_channels, size[0] // factor, size[1] // factor)
    if latents is not None and tuple(latents.shape) != shape:
        raise FieldError("latents", tuple(latents.shape), f"of shape {shape}")
    chosen = _chosen_frames(story, settings, frames, anchor_cache)
    if keep_anchors and (not settings.shares or settings.random_anchors):
        raise FieldError("keep_anchors", True, "off without anchors, that is without sharing or if random")
    guidance = settings.guidance
    if not guides(model.pipe, guidance):  # distilled guidance has no unconditional half
        settings = replace(settings, guidance=min(guidance, 1.0))
    timesteps = noise_levels(
        prepare_scheduler(model.pipe, settings.steps, settings.scheduler, settings.spacing)
    )
    cache = anchor_cache or AnchorCache()
    if anchor_cache is not None or keep_anchors:
        made_with = model.name, model.pipe.unet, size, timesteps, story, settings, settings.anchors
        origin = Origin.of(*made_with)
        if anchor_cache is None:
            cache.origin = origin
        else:
            anchor_cache.check_fits(origin)
    request = Request(
        model,
        story,
        settings,
        guidance,
        size,
        chosen,
        Schedule.of(timesteps, settings),
        notes=(*notes(settings), *unread(model.pipe, story, settings, chosen)),
        anchor_cache=cache,
        cached=anchor_cache is not None,
        keep_anchors=keep_anchors,
        with_masks=with_masks,
        latents=latents,
        filter_log=filter_log,
        preview_share=preview_share,
        stop=stop or threading.Event(),
    )
    return _locked_events(request)


def _chosen_frames(
    story: Story, settings: Settings, frames: Sequence[int] | None, anchor_cache: AnchorCache | None
) -> tuple[int, ...]:
    """The frames in order. ValueError for positions without a scene, and for frames without their anchors."""
    count = len(story.scenes)
    if frames is None:
        return tuple(range(count))
    chosen = tuple(sorted(set(frames)))
    if not chosen or not all(isinstance(frame, int) and 0 <= frame < count for frame in chosen):
        raise FieldError("frames", list(frames), f"positions from 0 to {count - 1}")
    anchored = not settings.random_anchors and set(range(settings.anchors)) <= set(chosen)
    if len(chosen) < count and settings.shares and anchor_cache is None and not anchored:
        raise FieldError(
            "frames", list(chosen), "all frames, or include the anchors, without an anchor cache"
        )
    return chosen


def _locked_events(request: Request) -> Iterator[Event]:
    """The events of a request, while its model is locked."""
    model = request.model
    while not model.lock.acquire(timeout=0.1):  # while another story is generated, this one can be cancelled
        if request.stop.is_set():
            yield Cancelled(0)
            return
    try:
        if model.placement.retired:
            yield Cancelled(0, reason="another model was loaded while this story waited; generate it again")
        else:
            yield from _Generation(request).events()
    finally:
        model.lock.release()


class _Generation:
    """One request while it is generated; the model is locked."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._notes: list[str] = []
        self._decoder = Decoder(request.model.pipe, self._notes.append)
        self._clock = Clock()
        self._steps_done = 0
        self._frames: dict[int, FrameDone] = {}
        settings = request.settings
        if request.cached:  # cached anchors are never random
            settings = replace(settings, random_anchors=False)
        halves = 2 if guides(request.model.pipe, request.guidance) else 1
        workload = Workload(request.latent_size, len(request.frames), settings, halves)
        self._memory = MemoryManager(request.model, workload)

    def events(self) -> Iterator[Event]:
        request = self._request
        story, settings = request.story, request.settings
        try:
            self._memory.apply(request.anchor_cache)
            yield Started(
                story.prompts,
                story.frame_seeds,
                story.concept_words,
                *request.size,
                request.schedule.steps,
                total_steps=len(request.frames) * request.schedule.calls,
                notes=request.notes,
                memory=self._memory.plan,
            )
            with free_u(request.model.pipe.unet, settings.freeu):
                reason = yield from self._waves_until_done()
        finally:
            self._memory.end()
        kept = request.anchor_cache if request.keep_anchors or request.cached else None
        if len(self._frames) < len(request.frames):
            anchors_done = all(frame in self._frames for frame in range(request.anchors))
            yield Cancelled(len(self._frames), kept if anchors_done else None, reason)
            return
        frames = [self._frames[frame] for frame in request.frames]
        yield Finished(
            tuple(frame.image for frame in frames),
            tuple(frame.mask for frame in frames),
            Timings(self._clock.denoising, self._clock.decoding, len(frames), request.anchor_cache.size),
            kept,
        )

    def _waves_until_done(self) -> Iterator[Event]:
        """Generate wave after wave, in smaller memory modes where needed; returns why it ended early."""
        while frames := self._next_frames():
            steps, out_of_memory = self._steps_done, ""
            try:
                yield from self._wave(frames)
            except NumericalOverflow as error:
                return str(error)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                out_of_memory = str(error).strip().partition("\n")[0]
            yield from map(Note, self._notes)
            self._notes.clear()
            if out_of_memory:  # outside of the handler, whose error refers to what was allocated
                self._steps_done = steps
                if not self._memory.step_down(self._request.anchor_cache):
                    return f"memory ran out, and there is no smaller memory mode: {out_of_memory}"
                yield Note(self._memory.step_down_note(len(self._frames)))
            if self._request.stop.is_set():
                return ""
        return ""

    def _wave(self, frames: tuple[int, ...]) -> Iterator[Event]:
        wave = Wave(self._request, frames, self._decoder, self._clock)
        for event in wave.events(self._steps_done, self._frames):
            match event:
                case Preview():
                    self._steps_done = event.done
                case FrameDone():
                    self._frames[event.frame] = event
            yield event

    def _next_frames(self) -> tuple[int, ...]:
        """The next unfinished frames; the anchors together, even if one of them is finished."""
        request = self._request
        left = tuple(frame for frame in request.frames if frame not in self._frames)
        if request.anchors and request.settings.random_anchors:
            return request.frames if left else ()
        anchors = request.frames[: request.anchors]
        if set(anchors) & set(left):
            return anchors
        return left[: min(request.settings.batch, self._memory.plan.batch)]
