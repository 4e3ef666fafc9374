"""The model behind the page: loaded once, in the background, so that the page is there at once."""

import gc
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from consistory_svd.content_filter import NOTICE, ContentFilter, filter_events
from consistory_svd.events import Event
from consistory_svd.metrics.folder import STORYBOOK_NAME
from consistory_svd.models.model import BY_FLAG, EMBEDDED_NAME, Model
from consistory_svd.models.request import ModelRequest
from consistory_svd.pipeline import generate
from consistory_svd.schedulers import Recipe
from consistory_svd.settings import Settings, Story
from consistory_svd.studio.components.svd_filter_settings import MOST_VALUES
from consistory_svd.studio.queue import Line, Ticket

log = logging.getLogger(__name__)
BY_BOX = "; “Use another model” takes another"  # as the box is called on the page


class ModelManager:
    """Owner of the one model that all visitors share.

    `screen`, where there is one, looks at every picture before anyone else does.

    Args:
        wanted: which model, or its source alone; None: the one that suits the machine.
        device: of a source that is given alone.
        may_switch: whether visitors may load another model; off on a shared demo.
    """

    _generate = staticmethod(
        generate
    )  # how its model tells: an engine whose GPU is elsewhere has another way
    keeps_anchors = True  # whether `Finished.bank` can be had

    def __init__(
        self, wanted: ModelRequest | str | None = None, device: str | None = None, may_switch: bool = True
    ) -> None:
        self.may_switch = may_switch
        self._wanted = wanted if isinstance(wanted, ModelRequest) else ModelRequest(wanted, device)
        self._model: Model | None = None
        self._reason = self._last_error = ""
        self._loaded = threading.Event()  # a model is there, or it is known why there is none
        self._settled = threading.Event()  # and no other one was chosen
        self._settled.set()
        self.coming: ModelRequest | None = None  # what was chosen, and is not there yet
        self._scores_on = "cpu"
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self.line = Line()  # of all who want the model
        self.content_filter: ContentFilter | None = None
        self._arrived: tuple[int, int | None] = (0, None)

    def generate(
        self,
        model: Model,
        story: Story,
        settings: Settings,
        stop: threading.Event | None = None,
        **given: Any,
    ) -> Iterator[Event]:
        """As `consistory_svd.tell`. All stories of the studio pass here, and where there is a screen, so do
        their pictures."""
        if self.content_filter is None:
            return self._generate(model, story, settings, stop, **given)
        # Previews would not be shown: none are made.
        events = self._generate(model, story, replace(settings, preview_every=0), stop, **given)
        return filter_events(events, self.content_filter)

    def start(self) -> None:
        """Begin loading in the background; further calls do nothing."""
        with self._starting:
            if self._thread is None:
                self._begin(self._load, self._wanted)

    def check_may_switch(self) -> None:
        """ValueError where visitors may not load another model."""
        if not self.may_switch:
            raise ValueError("model: another one cannot be chosen here, because this page is shared")

    def switch(self, wanted: ModelRequest) -> None:
        """Load another model in the background: the stories that are told or wait now are waited for, then
        the old model is freed, then the new one is loaded; where that fails the old one is loaded again, and
        `complaint` says why.

        Raises:
            ValueError: switching is off here, a model is being loaded already, or the line is too long.
        """
        self.check_may_switch()
        with self._starting:
            loading = self._thread is not None and not self._loaded.is_set()
            if loading or not self._settled.is_set():
                raise ValueError("model: one is being loaded already; wait until it is there")
            # A place in the line: who asked for a story before is told it by the model that it was asked of.
            ticket = self.line.join(0)
            self._settled.clear()
            self.coming = wanted
            self._begin(partial(self._replace, ticket), wanted)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for loading to end, well or badly, that of a model chosen meanwhile as well;
        True when it has ended."""
        return self._settled.wait(seconds) and self._loaded.wait(seconds)

    def wait_for_model(self, seconds: float) -> bool:
        """Wait at most `seconds` for a model; True when one is there, or none could be loaded. One that was
        chosen meanwhile, and waits for its turn, is not waited for."""
        return self._loaded.wait(seconds)

    @property
    def loaded(self) -> bool:
        """True while a model is there, or it is known why there is none."""
        return self._loaded.is_set()

    @property
    def reason(self) -> str:
        """Why there is no model, in words; empty while all is well."""
        return self._reason

    @property
    def last_error(self) -> str:
        """Why the model that was asked for last could not be loaded, where the old one is back."""
        return self._last_error

    @property
    def arrived(self) -> tuple[int, int | None]:
        """Bytes of a download that are here, and all of them where that is known; (0, None) without one."""
        return self._arrived

    @property
    def wanted(self) -> ModelRequest:
        """What the model that is there, or is being loaded, was asked for with."""
        return self._wanted

    def has(self, wanted: ModelRequest) -> bool:
        """Whether the model that is there is the one that is wanted."""
        model, now = self._model, self._wanted
        if model is None:
            return False
        source = now.source or (EMBEDDED_NAME if model.checkpoint == STORYBOOK_NAME else model.checkpoint)
        return replace(now, source=source) == wanted

    @property
    def model(self) -> Model:
        """The loaded model. RuntimeError, with the reason, when loading failed or has not ended."""
        if self._model is None:
            raise RuntimeError(self._reason or "The model is still loading.")
        return self._model

    @property
    def recipe(self) -> Recipe | None:
        """How a few-step model wants to be run; None for others. Told by names alone until it is there."""
        return self._wanted.recipe if self._model is None else self._model.recipe

    @property
    def description(self) -> str:
        """The loaded model in words, and what is withheld of its pictures. RuntimeError as `model`."""
        said = self.model.describe().replace(BY_FLAG, BY_BOX if self.may_switch else "")
        return said if self.content_filter is None else f"{said.rstrip('.')}. {NOTICE}."

    @property
    def scores_on(self) -> str:
        """The device that scores a story, and screens it."""
        return self._scores_on

    @property
    def most_values(self) -> int:
        """How many singular values the widest keys and values have that the model shares; a usual number
        while it is not there."""
        if self._model is None:
            return MOST_VALUES
        return max(self._model.pipe.unet.config.block_out_channels)

    def _begin(self, work: object, wanted: ModelRequest) -> None:
        self._arrived, self._last_error = (0, None), ""
        self._thread = threading.Thread(target=work, args=(wanted,), name="load-model", daemon=True)
        self._thread.start()

    def _load(self, wanted: ModelRequest) -> None:
        self._reason = self._tried(wanted)
        self._loaded.set()

    def _replace(self, ticket: Ticket, wanted: ModelRequest) -> None:
        try:
            with self.line.turn(ticket, threading.Event(), lambda place: None):
                self._loaded.clear()
                before = self._wanted
                self._free()
                self._last_error = self._tried(wanted)
                self._reason = self._tried(before) if self._last_error else ""
                self._loaded.set()
        finally:
            self.coming = None
            self._loaded.set()
            self._settled.set()

    def _tried(self, wanted: ModelRequest) -> str:
        """Load a model; why that failed, in words."""
        try:
            self._model = wanted.load(self._report)
            self._wanted, self._scores_on = wanted, str(self._model.device)
            if self.content_filter is not None:  # before memory is planned by what is free
                self.content_filter.to(self.scores_on)
        except (ValueError, OSError) as error:  # what was asked for cannot be had: that is no fault of ours
            log.warning("the model could not be loaded: %s", " ".join(str(error).split()))
            return f"The model could not be loaded. {error}"
        except Exception as error:  # the thread's top: whatever went wrong, the page has to tell it
            log.exception("loading the model failed")
            return f"The model could not be loaded. {error}"
        return ""

    def _free(self) -> None:
        """Let the old model go, after the story that uses it."""
        model, self._model = self._model, None
        if model is None:
            return
        with model.lock:
            model.placement.retire()
        del model
        gc.collect()

    def _report(self, done: int, whole: int | None) -> None:
        self._arrived = (done, whole)
