"""One session per visitor: everything that the studio keeps for them while their page is open.

The client chooses Gradio's `session_hash` and can send anything. It is only used as the key of a dict; paths
and addresses use random names that the studio draws.
"""

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from consistory_svd.studio import html as view

if TYPE_CHECKING:
    from consistory_svd.metrics.settings import ScoreSettings
    from consistory_svd.metrics.suite import Suite
    from consistory_svd.studio.generated_story import GeneratedStory, OpenedStory
    from consistory_svd.studio.job import GenerationJob
    from consistory_svd.studio.tabs.compare import RunningComparison

# Gradio's page sends about 11 characters; its queue makes 32 (a UUID in hex) for a call without a hash.
SESSION_HASH = re.compile(r"[A-Za-z0-9]{1,64}")
LONGEST_QUOTE = 40


@dataclass(eq=False)
class Session:
    """The state of one visitor's page.

    Attributes:
        user: name of the signed-in user; None where no sign-in is required.
        job: the job whose story is on the page.
        story: the story on the page, if it is not the job's: one that was opened or changed by undo.
        show_masks: whether the page highlights the subject.
        comparison: the latest comparison.
        opened: the story opened from a file, if Generate must use its anchors.
        missing_weights: weights that the scores of the story on the page need.
        suite: scores with the settings last used.
        exports: folders of exported files, by the part of the page that made them.
    """

    user: str | None = None
    job: "GenerationJob | None" = None
    story: "GeneratedStory | None" = None
    show_masks: bool = False
    comparison: "RunningComparison | None" = None
    opened: "OpenedStory | None" = None
    missing_weights: tuple[str, ...] = ()
    suite: "Suite | None" = None
    exports: dict[str, Path] = field(default_factory=dict)

    @property
    def generated(self) -> "GeneratedStory | None":
        """The story on the page as it is now."""
        return self.job.generated if self.job else self.story

    @property
    def is_generating(self) -> bool:
        """Whether the story on the page is being generated."""
        return self.job is not None and not self.job.progress.over

    @property
    def failed(self) -> bool:
        """Whether generating the story on the page failed."""
        return self.job is not None and self.job.progress.state == "failed"

    def show(self, story: "GeneratedStory | None") -> "GenerationJob | None":
        """Put a story on the page, or none. Stop and return the job of the one before."""
        job, self.job, self.story = self.job, None, story
        if job is not None:
            job.stop()
        return job

    def suite_for(self, settings: "ScoreSettings") -> "Suite":
        """Return the scores with these settings; cached embeddings are kept."""
        from consistory_svd.metrics.suite import Suite

        if self.suite is None or self.suite.settings != settings:
            self.suite = Suite(settings, self.suite and self.suite.embeddings)
        return self.suite


class Sessions:
    """The registry of all sessions, with one lock.

    The key is the signed-in user and the hash: the hash of another user's page does not open their session.
    """

    def __init__(self) -> None:
        self._sessions: dict[tuple[str | None, str], Session] = {}
        self._lock = threading.Lock()

    def of(self, request: gr.Request) -> Session:
        """Return the session of a request; create it on first use.

        Raises:
            gr.Error: the hash is not 1 to 64 ASCII letters and digits.
        """
        key = _key(request)
        with self._lock:
            return self._sessions.setdefault(key, Session(request.username))

    def find(self, request: gr.Request) -> Session | None:
        """Return the session of a request, or None if there is none. Raises as `of`."""
        key = _key(request)
        with self._lock:
            return self._sessions.get(key)

    def remove(self, request: gr.Request) -> Session | None:
        """Remove and return the session of a request, or None if there is none. An invalid hash is no error:
        the page is closed, and nobody would read it."""
        try:
            key = _key(request)
        except gr.Error:
            return None
        with self._lock:
            return self._sessions.pop(key, None)

    def story_of(self, request: gr.Request) -> "GeneratedStory | None":
        """Return the story on the page of a request, or None if there is none. Raises as `of`."""
        session = self.find(request)
        return session and session.generated

    def all(self) -> list[Session]:
        """Return a snapshot of all sessions."""
        with self._lock:
            return list(self._sessions.values())


def _key(request: gr.Request) -> tuple[str | None, str]:
    sent = request.session_hash
    if isinstance(sent, str) and SESSION_HASH.fullmatch(sent):
        return request.username, sent
    quoted = repr(sent)
    if len(quoted) > LONGEST_QUOTE:
        quoted = f"{quoted[:LONGEST_QUOTE]}…"
    raise view.refusal(f"session_hash must be 1 to 64 letters and digits, got {quoted}")
