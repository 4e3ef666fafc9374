"""The studio's visitors: who asks, and everything that the studio keeps of them while their page is open.

Gradio's `session_hash` comes from the client, which can send anything. So it is a key of a dict and nothing
else: whatever becomes part of a path or of an address is a token that the studio has drawn.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from secrets import token_urlsafe
from typing import TYPE_CHECKING

import gradio as gr

from consistory_svd.scores import ScoreSettings, Suite

if TYPE_CHECKING:
    from consistory_svd.studio.compare_room import RunningComparison
    from consistory_svd.studio.told import Opened
    from consistory_svd.studio.worker import StoryRun

# Gradio's page sends up to 11 letters and digits, its queue 32 for a call without a hash.
SESSION_HASH = re.compile(r"[A-Za-z0-9]{1,64}")
LONGEST_QUOTE = 40


@dataclass(eq=False)
class Session:
    """One visitor's page. `user` is who has signed in, None where nobody has to.

    `waiting` says that a story was asked for and is not in the model's queue yet, `cancelled` that it was
    called back before it got there. `missing_weights` are what the scores of the story on the page lack.
    """

    user: str | None = None
    token: str = field(default_factory=partial(token_urlsafe, 16), repr=False)
    run: "StoryRun | None" = None
    comparison: "RunningComparison | None" = None
    opened: "Opened | None" = None
    waiting: bool = False
    cancelled: bool = False
    missing_weights: tuple[str, ...] = ()
    suite: Suite | None = None

    def suite_for(self, settings: ScoreSettings) -> Suite:
        """The scores of this visitor with these settings; embeddings that are known stay."""
        if self.suite is None or self.suite.settings != settings:
            self.suite = Suite(settings, self.suite and self.suite.embeddings)
        return self.suite


class Sessions:
    """Every open page's `Session`, under one lock.

    A page is known by its hash and its signed-in user together: another user's hash gives nobody their page.
    """

    def __init__(self) -> None:
        self._sessions: dict[tuple[str | None, str], Session] = {}
        self._lock = threading.Lock()

    def of(self, request: gr.Request) -> Session:
        """The session that asks, made when it asks for the first time.

        Raises:
            gr.Error: the hash is not of the form that Gradio's page sends.
        """
        key = _key(request)
        with self._lock:
            return self._sessions.setdefault(key, Session(request.username))

    def find(self, request: gr.Request) -> Session | None:
        """The session that asks; None where it has nothing here yet. Raises as `of`."""
        key = _key(request)
        with self._lock:
            return self._sessions.get(key)

    def remove(self, request: gr.Request) -> Session | None:
        """Forget the session that asks, and give it back. None where there is none, whatever its hash: nobody
        is left who could read a refusal."""
        try:
            key = _key(request)
        except gr.Error:
            return None
        with self._lock:
            return self._sessions.pop(key, None)

    def all(self) -> list[Session]:
        """All sessions as they are now."""
        with self._lock:
            return list(self._sessions.values())

    def begin_waiting(self, session: Session, check: Callable[[int], None]) -> int:
        """Let a session wait for the model's queue, unless `check` raises for the number that waits already.

        Returns that number. Both happen at once, so that no two sessions take the last place.
        """
        with self._lock:
            before = sum(other.waiting for other in self._sessions.values())
            check(before)
            session.waiting = True
        return before

    def end_waiting(self, session: Session) -> bool:
        """Whether the session waited; it does no longer."""
        with self._lock:
            waited, session.waiting = session.waiting, False
        return waited


def _key(request: gr.Request) -> tuple[str | None, str]:
    sent = request.session_hash
    if isinstance(sent, str) and SESSION_HASH.fullmatch(sent):
        return request.username, sent
    quoted = repr(sent)
    if len(quoted) > LONGEST_QUOTE:
        quoted = f"{quoted[:LONGEST_QUOTE]}…"
    raise gr.Error(f"session_hash must be 1 to 64 letters and digits, got {quoted}", print_exception=False)
