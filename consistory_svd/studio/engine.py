"""The model behind the page: loaded once, in the background, so that the page is there at once."""

import logging
import threading

from consistory_svd.models import Model, load_model
from consistory_svd.story import tell
from consistory_svd.studio.line import Line
from consistory_svd.studio.spectrum import MOST_VALUES

log = logging.getLogger(__name__)


class Engine:
    """Owner of the one model that all visitors share.

    `source` and `device` are those of `load_model`; None means the embedded model, on the best device.
    `tell` is how its model tells a story: an engine whose GPU is elsewhere has another.
    """

    tell = staticmethod(tell)

    def __init__(self, source: str | None = None, device: str | None = None) -> None:
        self._source = source
        self._device = device
        self._model: Model | None = None
        self._reason = ""
        self._loaded = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self.line = Line()  # of all who want the model

    def start(self) -> None:
        """Begin loading in the background; further calls do nothing."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load, name="load-model", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for loading to end; True when it has ended, well or badly."""
        return self._loaded.wait(seconds)

    @property
    def loaded(self) -> bool:
        """True once loading has ended, well or badly."""
        return self._loaded.is_set()

    @property
    def reason(self) -> str:
        """Why the model could not be loaded, in words; empty while all is well."""
        return self._reason

    @property
    def model(self) -> Model:
        """The loaded model. RuntimeError, with the reason, when loading failed or has not ended."""
        if self._model is None:
            raise RuntimeError(self._reason or "The model is still loading.")
        return self._model

    @property
    def scores_on(self) -> str:
        """The device that scores a story."""
        return str(self.model.device)

    @property
    def most_values(self) -> int:
        """How many singular values the widest keys and values have that the model shares; a usual number
        while it is not there."""
        if self._model is None:
            return MOST_VALUES
        return max(self._model.pipe.unet.config.block_out_channels)

    def _load(self) -> None:
        try:
            self._model = load_model(self._source, device=self._device)
        except Exception as error:  # the thread's top: whatever went wrong, the page has to tell it
            log.exception("loading the model failed")
            self._reason = f"The model could not be loaded. {error}"
        finally:
            self._loaded.set()
