"""The studio on ZeroGPU, the Hugging Face hardware that lends a GPU for the duration of a function call.

The function runs in a forked process: it sees the model that was loaded before, its arguments must be
picklable, and what it yields comes back by value. Nothing is shared: a job is stopped by closing the
generator, and the anchor cache stays in the other process. Import this before anything that may touch CUDA,
and only if the package `spaces` is installed. Off ZeroGPU `spaces.GPU` changes nothing.
"""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import spaces
import torch
from gradio import Error

from consistory_svd.attention import FilterSummary
from consistory_svd.content_filter import ContentFilter
from consistory_svd.models.model import Model, load_model
from consistory_svd.pipeline import Cancelled, Event, Finished, FrameDone, Started, generate, picture_size
from consistory_svd.settings import Settings, check
from consistory_svd.story import Story
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.queue import GenerationQueue

log = logging.getLogger(__name__)

# Estimated for SDXL on the lent half of an H200 from its work, not measured there: a U-Net call with guidance
# for an image of 1024 x 1024 is 12 TFLOP, done in 0.1 s; sharing and the rest double it.
SECONDS_TO_START = 12
SECONDS_PER_STEP = 0.2
SECONDS_PER_PICTURE = 1.0
MILLION_PIXELS = 1024 * 1024
# The filter takes the singular values of large matrices at every step.
FILTER_FACTOR = 2.0
NO_ANCHORS = "keep_anchors: has no effect on a GPU that is lent for one story; they are generated again"
SMALLER = "fewer scenes, fewer steps or smaller images need less GPU time"

_models: dict[str, Model] = {}  # by name: the forked process finds the model here, it cannot be sent


def zero_gpu_manager(
    source: str | None = None,
    device: str | None = None,
    queue: GenerationQueue | None = None,
    content_filter: ContentFilter | None = None,
) -> ModelManager:
    """Load a model and return a manager that generates on a GPU lent for each story.

    The model is loaded in the calling thread: ZeroGPU stands in for CUDA in that thread only, and keeps what
    was moved there until a function has a GPU. Scores and the content filter run on the CPU.

    Raises:
        ValueError: as `load_model`.
    """
    model = load_model(source, device=device)
    _models[model.name] = model
    return ModelManager(
        source,
        device,
        may_switch=False,
        model=model,
        generate=generate_on_lent_gpu,
        keeps_anchors=False,
        scores_on="cpu",
        queue=queue,
        content_filter=content_filter,
    )


def generate_on_lent_gpu(
    model: Model,
    story: Story,
    settings: Settings,
    stop: threading.Event | None = None,
    **options: Any,
) -> Iterator[Event]:
    """Generate as `consistory_svd.generate` does, but without keeping anchors.

    A story that is stopped leaves its filter log empty.

    Raises:
        ValueError: at once and before a GPU is requested, as `consistory_svd.generate`.
        RuntimeError: no GPU was lent, or the story failed; the message says why.
    """
    check(story, settings)
    picture_size(model, settings)
    return _events(model, story, settings, stop or threading.Event(), options)


def gpu_seconds(name: str, story: Story, settings: Settings, options: dict[str, Any]) -> int:
    """Return how long a GPU is requested for: whole seconds, from frames, steps and image size."""
    frames = len(story.scenes if options.get("frames") is None else options["frames"])
    height, width = picture_size(_models[name], settings)
    passes = 2 if settings.injection else 1
    if settings.query_blending:
        passes += 0.1
    step = SECONDS_PER_STEP * height * width / MILLION_PIXELS
    if settings.filters:
        step *= FILTER_FACTOR
    return math.ceil(SECONDS_TO_START + frames * (settings.steps * passes * step + SECONDS_PER_PICTURE))


@dataclass(frozen=True)
class _Failure:
    """The message of an error in the other process; the exception itself would lose it."""

    message: str


@spaces.GPU(duration=gpu_seconds)
def _generate_there(name: str, story: Story, settings: Settings, options: dict[str, Any]) -> Iterator[Any]:
    """Run in the other process. Yield picklable events, before the last the filter log, or a failure."""
    try:
        for event in generate(_models[name], story, settings, **options):
            match event:
                case FrameDone():
                    maps = None if event.maps is None else event.maps.numpy()
                    yield replace(event, latents=event.latents.numpy(), maps=maps)
                case Finished():  # the images have been sent
                    yield options.get("filter_log")
                    yield replace(event, images=(), masks=())
                case _:
                    yield event
    except Exception as error:  # the process's top
        log.exception("generating a story failed")
        yield _Failure(str(error))


def _events(
    model: Model, story: Story, settings: Settings, stop: threading.Event, options: dict[str, Any]
) -> Iterator[Event]:
    """Yield the events of `_generate_there` as they would be in this process."""
    notes = (NO_ANCHORS,) if options.pop("keep_anchors", False) else ()
    made: list[FrameDone] = []
    with closing(_generate_there(model.name, story, settings, options)) as sent:
        for event in _raise_failures(sent):
            match event:
                case Started():
                    event = replace(event, notes=(*event.notes, *notes))
                case FrameDone():
                    maps = None if event.maps is None else torch.from_numpy(event.maps)
                    event = replace(event, latents=torch.from_numpy(event.latents), maps=maps)
                    made.append(event)
                case Finished():
                    images, masks = ([getattr(one, kind) for one in made] for kind in ("image", "mask"))
                    event = replace(event, images=tuple(images), masks=tuple(masks))
                case FilterSummary():
                    options["filter_log"].stats.update(event.stats)
                    continue
                case None:
                    continue
            yield event
            if stop.is_set() and not isinstance(event, Finished):
                break
        else:
            return
    yield Cancelled(len(made))  # after the GPU was given back


def _raise_failures(sent: Iterator[Any]) -> Iterator[Any]:
    """Yield what was sent; raise a failure as RuntimeError."""
    try:
        for event in sent:
            if isinstance(event, _Failure):
                raise RuntimeError(event.message)
            yield event
    except Error as error:  # ZeroGPU's own: no GPU was free, or the visitor's quota is used up
        raise RuntimeError(f"{str(error.message).rstrip('.')}; {SMALLER}") from error
