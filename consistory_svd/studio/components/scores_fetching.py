"""Weights of scores fetched from the page: a thread that downloads, and snapshots of how far it is.

There is one download for all visitors. It goes on when the page is closed, and holds no story up: pictures
are made and shown whether it runs, ends or fails.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from consistory_svd.downloads import DownloadError
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.weights import NAMES, SIZES, fetch_weights
from consistory_svd.text_format import format_progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """How far a download is: what comes now, its bytes (whole: None where unknown), and how it ended."""

    what: str
    done: int = 0
    whole: int | None = None
    over: bool = False
    error: str = ""


class Fetching:
    """One download at a time, shared by all who ask for one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now: Fetched | None = None

    def start(self, wanted: Sequence[str], settings: ScoreSettings) -> None:
        """Begin to fetch; does nothing while a download runs, or where nothing is wanted."""
        with self._changed:
            if not wanted or (self._now is not None and not self._now.over):
                return
            self._now = Fetched(wanted[0])
        work = threading.Thread(target=self._work, args=(wanted, settings), name="fetch", daemon=True)
        work.start()

    def watch(self, tick: float = 0.5) -> Iterator[Fetched]:
        """The download that runs or ran last, every `tick` seconds and at once when it is over."""
        seen = None
        while self._now is not None and (seen is None or not seen.over):
            with self._changed:
                self._changed.wait_for(lambda: self._now.over, 0 if seen is None else tick)
                seen = self._now
            yield seen

    def _work(self, wanted: Sequence[str], settings: ScoreSettings) -> None:
        what, error = wanted[0], ""
        try:
            for what in wanted:
                fetch_weights(what, settings, partial(self._generate, what))
        except DownloadError as failure:
            error = str(failure)
        except Exception as failure:  # the thread's top: whatever went wrong, the page has to tell it
            log.exception("fetching weights failed")
            error = f"{type(failure).__name__}: {failure}"
        self._generate(what, 0, None, over=True, error=error)

    def _generate(self, *how_far: Any, **ended: Any) -> None:
        with self._changed:
            self._now = Fetched(*how_far, **ended)
            self._changed.notify_all()


def button_label(wanted: Sequence[str]) -> str:
    """What the button says: "Fetch DreamSim, CLIP and DINO"."""
    *first, last = (NAMES[what] for what in wanted)
    return f"Fetch {', '.join(first)} and {last}" if first else f"Fetch {last}"


def offer(wanted: Sequence[str]) -> str:
    """What the button would do, in a line below it."""
    sizes = ", ".join(f"{NAMES[what]} {SIZES[what]}" for what in wanted)
    return _note(f"Weights that are downloaded once and stay on this machine: {sizes}. It needs a network.")


def progress(now: Fetched) -> str:
    """A snapshot as a piece of the page."""
    name = NAMES[now.what]
    if now.error:
        return (
            f'<div class="note note-alert" role="alert">{escape(name)} could not be downloaded: '
            f"{escape(now.error.removeprefix('weights: '))}. Your images and all other scores "
            "do not need it. Press the button to try again.</div>"
        )
    if now.over:
        return _note("The weights are here.")
    share = now.done / now.whole if now.whole else None
    detail = format_progress(now.done, now.whole) if now.done or now.whole else "Asking its server"
    percent = "" if share is None else f' aria-valuenow="{100 * share:.0f}"'
    width = "" if share is None else f' style="width:{100 * share:.0f}%"'
    return (
        f'<div class="progress" data-say="Fetching {escape(name)}">'
        f'<div class="progress-words"><strong>Fetching {escape(name)}</strong>'
        f"<span>{detail}</span></div>"
        f'<div class="bar{"" if width else " bar-waiting"}" role="progressbar" '
        f'aria-label="Fetching {escape(name)}" aria-valuemin="0" aria-valuemax="100"{percent}>'
        f"<div{width}></div></div></div>"
    )


def _note(message: str) -> str:
    return f'<div class="note" data-say>{escape(message)}</div>'
