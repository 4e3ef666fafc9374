"""The studio on ZeroGPU, the Hugging Face hardware that lends a GPU for the time of a function.

The function runs in a forked process: it sees the model that was loaded before, is given what can be pickled,
and what it yields comes back by value. Nothing is shared: a story that is stopped here stops there because
its generator is closed, and the anchors stay there. Import this before anything that may touch CUDA, and only
where the package `spaces` is: the Space's `app.py` does. Off ZeroGPU `spaces.GPU` changes nothing.
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

from consistory_svd.attention import FilterLog
from consistory_svd.models.model import Model, load_model
from consistory_svd.pipeline import Cancelled, Event, Finished, FrameDone, Started, generate, picture_size
from consistory_svd.settings import Settings, Story, check
from consistory_svd.studio.model_manager import ModelManager

log = logging.getLogger(__name__)

# Of SDXL on the lent half of an H200, reckoned from its work and not measured there: a U-Net call with
# guidance for a picture of 1024 x 1024 is 12 TFLOP, done in 0.1 s; sharing and all the rest double it.
SECONDS_TO_START = 12
SECONDS_PER_STEP = 0.2
SECONDS_PER_PICTURE = 1.0
MILLION_PIXELS = 1024 * 1024
# The filter takes the singular values of large matrices, at every step.
FILTER_FACTOR = 2.0
NO_ANCHORS = "keep_anchors: has no effect on a GPU that is lent for one story; they are told again"
SMALLER = "fewer scenes, fewer steps or smaller pictures need less of the GPU's time"

_shared: dict[str, Model] = {}  # by name: the forked process finds the model here, it cannot be sent


@dataclass(frozen=True)
class _Failed:
    """What went wrong over there, in words: an exception itself would come back as its class' name alone."""

    words: str


class ZeroGpuModelManager(ModelManager):
    """An engine whose stories are told on a GPU that is lent for each.

    The model is loaded at once, in the thread that makes the engine: ZeroGPU stands in for CUDA in that
    thread only, and keeps what was moved there until a function has a GPU. Scores are computed on the CPU,
    and pictures are screened there once they came back.

    Raises:
        ValueError: as `load_model`.
    """

    def __init__(self, source: str | None = None, device: str | None = None) -> None:
        super().__init__(source, device, may_switch=False)
        self._model = load_model(source, device=device)
        _shared[self._model.name] = self._model
        self._loaded.set()

    def start(self) -> None:
        """Nothing is left to do."""

    scores_on = "cpu"
    keeps_anchors = False

    @staticmethod
    def _generate(
        model: Model,
        story: Story,
        settings: Settings,
        stop: threading.Event | None = None,
        **given: Any,
    ) -> Iterator[Event]:
        """As `consistory_svd.tell`, with two differences: anchors are not kept, and a story that is stopped
        says nothing of its spectra.

        Raises:
            ValueError: at once, as there, and before a GPU is asked for.
            RuntimeError: no GPU was lent, or the story failed; the message says why.
        """
        check(story, settings)
        picture_size(model, settings)
        return _generated_elsewhere(model, story, settings, stop or threading.Event(), given)


def seconds_of(name: str, story: Story, settings: Settings, given: dict[str, Any]) -> int:
    """For how long a GPU is asked: whole seconds, from frames, steps and picture size."""
    frames = len(story.scenes if given.get("frames") is None else given["frames"])
    height, width = picture_size(_shared[name], settings)
    passes = 2 if settings.injection else 1
    if settings.query_blending:
        passes += 0.1
    step = SECONDS_PER_STEP * height * width / MILLION_PIXELS
    if settings.filters:
        step *= FILTER_FACTOR
    return math.ceil(SECONDS_TO_START + frames * (settings.steps * passes * step + SECONDS_PER_PICTURE))


@spaces.GPU(duration=seconds_of)
def _generate_there(name: str, story: Story, settings: Settings, given: dict[str, Any]) -> Iterator[Any]:
    """Runs where the GPU is: events as they can be sent, the log of spectra before the last, or a failure."""
    try:
        for event in generate(_shared[name], story, settings, **given):
            match event:
                case FrameDone():
                    maps = None if event.maps is None else event.maps.numpy()
                    yield replace(event, latents=event.latents.numpy(), maps=maps)
                case Finished():  # the pictures have been sent
                    yield given.get("filter_log")
                    yield replace(event, images=(), masks=())
                case _:
                    yield event
    except Exception as error:  # this process' top
        log.exception("telling a story failed")
        yield _Failed(str(error))


def _generated_elsewhere(
    model: Model, story: Story, settings: Settings, stop: threading.Event, given: dict[str, Any]
) -> Iterator[Event]:
    """The events of a story that `_tell_there` tells, as they would be here."""
    notes = (NO_ANCHORS,) if given.pop("keep_anchors", False) else ()
    made: list[FrameDone] = []
    with closing(_generate_there(model.name, story, settings, given)) as sent:
        for event in _in_words(sent):
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
                case FilterLog():
                    vars(given["filter_log"]).update(vars(event))
                    continue
                case None:
                    continue
            yield event
            if stop.is_set() and not isinstance(event, Finished):
                break
        else:
            return
    yield Cancelled(len(made))  # after the GPU was given back


def _in_words(sent: Iterator[Any]) -> Iterator[Any]:
    """What was sent, with what went wrong as a RuntimeError in words."""
    try:
        for event in sent:
            if isinstance(event, _Failed):
                raise RuntimeError(event.words)
            yield event
    except Error as error:  # ZeroGPU's own: no GPU was free, or the visitor's share is used up
        raise RuntimeError(f"{str(error.message).rstrip('.')}; {SMALLER}") from error
