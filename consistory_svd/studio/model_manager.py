"""The one model that all visitors share: loaded in the background, behind the page that is served already."""

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from consistory_svd.models.request import ModelRequest
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio.components.svd_filter_settings import MOST_VALUES
from consistory_svd.studio.generated_story import GeneratedStory
from consistory_svd.studio.queue import GenerationQueue, Ticket

if TYPE_CHECKING:
    from consistory_svd.content_filter import ContentFilter
    from consistory_svd.events import Event
    from consistory_svd.models.few_step import FewStepModel
    from consistory_svd.models.model import Model

log = logging.getLogger(__name__)
BY_BOX = "; “Use another model” takes another"  # as the box is called on the page
Generate = Callable[..., "Iterator[Event]"]


class ModelManager:
    """Owner of the one model that all visitors share.

    Args:
        requested: which model, or its source alone; None: the one that suits the machine.
        device: the device, if `requested` is a source or None.
        may_switch: whether visitors may load another model; off on a shared demo.
        model: the model, if it is loaded already.
        generate: replaces `consistory_svd.generate`, if the GPU is elsewhere.
        keeps_anchors: whether `generate` can keep the anchor cache.
        scores_on: the device of scores and of the content filter; None: that of the model.
        queue: the queue for the model; by default one without a limit.
        content_filter: checks every image before anyone sees it.
    """

    def __init__(
        self,
        requested: ModelRequest | str | None = None,
        device: str | None = None,
        may_switch: bool = True,
        *,
        model: "Model | None" = None,
        generate: Generate | None = None,
        keeps_anchors: bool = True,
        scores_on: str | None = None,
        queue: GenerationQueue | None = None,
        content_filter: "ContentFilter | None" = None,
    ) -> None:
        self.may_switch = may_switch
        self.keeps_anchors = keeps_anchors
        self.queue = queue or GenerationQueue()
        self.content_filter = content_filter
        self.requested = requested if isinstance(requested, ModelRequest) else ModelRequest(requested, device)
        self.loading: ModelRequest | None = None  # the model that replaces the present one
        self.error = ""  # why there is no model
        self.last_error = ""  # why the model that was requested last could not replace the present one
        self.download_progress: tuple[int, int | None] = (0, None)  # bytes done, and in all if known
        self._model = model
        self._generate = generate
        self._scores_on = scores_on
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._loaded = threading.Event()  # there is a model, or an error
        self._settled = threading.Event()  # and no other one is on its way
        self._settled.set()
        if model is not None:
            self._loaded.set()

    def generate(
        self,
        model: "Model",
        story: Story,
        settings: Settings,
        stop: threading.Event | None = None,
        **options: Any,
    ) -> "Iterator[Event]":
        """Generate as `consistory_svd.generate` does, through the content filter if there is one."""
        from consistory_svd.content_filter import filter_events
        from consistory_svd.pipeline import generate

        run = self._generate or generate
        if self.content_filter is None:
            return run(model, story, settings, stop, **options)
        # Previews would not be shown: none are made.
        events = run(model, story, replace(settings, preview_every=0), stop, **options)
        return filter_events(events, self.content_filter)

    def start(self) -> None:
        """Start loading in the background; does nothing if that was done before."""
        with self._starting:
            if self._thread is None and not self.loaded:
                self._begin(partial(self._load, self.requested))

    def check_may_switch(self) -> None:
        """Raise ValueError if visitors may not load another model."""
        if not self.may_switch:
            raise ValueError("model: another one cannot be chosen here, because this page is shared")

    def switch(self, requested: ModelRequest) -> None:
        """Load another model in the background, after the jobs that are in the queue now.

        The old model is freed first. If the new one cannot be loaded, the old one is loaded again, and
        `last_error` says why.

        Raises:
            ValueError: switching is off here, a model is being loaded already, or the queue is full.
        """
        self.check_may_switch()
        with self._starting:
            is_loading = self._thread is not None and not self.loaded
            if is_loading or not self._settled.is_set():
                raise ValueError("model: one is being loaded already; wait until it is there")
            # A ticket, so that earlier jobs run on the model that they were requested for.
            ticket = self.queue.enqueue(0)
            self._settled.clear()
            self.loading = requested
            self._begin(partial(self._replace, ticket, requested))

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for all loading to end, well or badly; return whether it has."""
        return self._settled.wait(seconds) and self._loaded.wait(seconds)

    def wait_for_model(self, seconds: float) -> bool:
        """Wait at most `seconds` for a model or an error, but not for a switch that waits for its turn."""
        return self._loaded.wait(seconds)

    @property
    def loaded(self) -> bool:
        """Whether there is a model, or an error."""
        return self._loaded.is_set()

    @property
    def ready(self) -> bool:
        """Whether there is a model."""
        return self.loaded and not self.error

    def has(self, requested: ModelRequest) -> bool:
        """Whether the loaded model is the requested one."""
        from consistory_svd.metrics.folder import STORYBOOK_NAME
        from consistory_svd.models.model import EMBEDDED_NAME

        model, now = self._model, self.requested
        if model is None:
            return False
        source = now.source or (EMBEDDED_NAME if model.checkpoint == STORYBOOK_NAME else model.checkpoint)
        return replace(now, source=source) == requested

    @property
    def model(self) -> "Model":
        """The loaded model. RuntimeError, with the reason, if there is none."""
        if self._model is None:
            raise RuntimeError(self.error or "The model is still loading.")
        return self._model

    @property
    def recipe(self) -> "FewStepModel | None":
        """The settings of a few-step model; None for others. Known by name until the model is loaded."""
        return self.requested.recipe if self._model is None else self._model.recipe

    @property
    def description(self) -> str:
        """The model and the content filter in a sentence. RuntimeError as `model`."""
        from consistory_svd.content_filter import NOTICE
        from consistory_svd.models.model import BY_FLAG

        text = self.model.describe().replace(BY_FLAG, BY_BOX if self.may_switch else "")
        return text if self.content_filter is None else f"{text.rstrip('.')}. {NOTICE}."

    @property
    def scores_on(self) -> str:
        """The device of scores and of the content filter."""
        return self._scores_on or ("cpu" if self._model is None else str(self._model.device))

    @property
    def most_values(self) -> int:
        """The number of singular values of the widest shared keys; a usual number until a model is loaded."""
        if self._model is None:
            return MOST_VALUES
        return max(self._model.pipe.unet.config.block_out_channels)

    def refuses(self, generated: GeneratedStory) -> str:
        """Return why the loaded model cannot continue a story; empty if it can, or if there is none yet."""
        return other_model(self.model.name, generated, self.may_switch) if self.ready else ""

    def _begin(self, work: Callable[[], None]) -> None:
        self.download_progress, self.last_error = (0, None), ""
        self._thread = threading.Thread(target=work, name="load-model", daemon=True)
        self._thread.start()

    def _load(self, requested: ModelRequest) -> None:
        self.error = self._try(requested)
        self._loaded.set()

    def _replace(self, ticket: Ticket, requested: ModelRequest) -> None:
        try:
            with self.queue.wait_turn(ticket, threading.Event(), lambda position: None):
                self._loaded.clear()
                before = self.requested
                self._free()
                self.last_error = self._try(requested)
                self.error = self._try(before) if self.last_error else ""
                self._loaded.set()
        finally:
            self.loading = None
            self._loaded.set()
            self._settled.set()

    def _try(self, requested: ModelRequest) -> str:
        """Load a model; return why that failed."""
        try:
            self._model = requested.load(self._report)
            self.requested = requested
            if self.content_filter is not None:  # before memory is planned by what is free
                self.content_filter.to(self.scores_on)
        except (ValueError, OSError) as error:  # the request is wrong, not the program
            log.warning("the model could not be loaded: %s", " ".join(str(error).split()))
            return f"The model could not be loaded. {error}"
        except Exception as error:  # the thread's top: the page reports any failure
            log.exception("loading the model failed")
            return f"The model could not be loaded. {error}"
        return ""

    def _free(self) -> None:
        """Free the model, after the job that uses it."""
        model, self._model = self._model, None
        if model is None:
            return
        with model.lock:
            model.placement.retire()
        del model
        gc.collect()

    def _report(self, done: int, total: int | None) -> None:
        self.download_progress = (done, total)


def other_model(name: str, generated: GeneratedStory, may_switch: bool) -> str:
    """Return why the model `name` cannot continue a story and what to do about it; empty if it can."""
    if not generated.pictures or generated.model == name:
        return ""
    load = f"Load {generated.model} to continue it, or press" if may_switch else "Press"
    return (
        f"This story was generated with {generated.model}, but {name} is loaded, and a story uses one model. "
        f"{load} Generate to generate it again with {name}."
    )
