"""What all tabs share: the model, the limits, the visitors' sessions and their libraries."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import gradio as gr

from consistory_svd.limits import Limits
from consistory_svd.studio.session import Session, Sessions
from consistory_svd.studio.visitor_storage import VisitorStorage

if TYPE_CHECKING:
    from consistory_svd.library import Library
    from consistory_svd.studio.model_manager import ModelManager

# How long Cancel waits for the current step before it reports; a step on a slow machine can take this long.
STOP_SECONDS = 120.0
NOT_WRITABLE = "The library folder cannot be written:"


class StoryOwner(Protocol):
    """Another tab that generates stories."""

    def leave(self, session: Session, remove_from: Path | None) -> Path | None:
        """Stop the visitor's jobs. Remove their files if they are in `remove_from`. Return the folder that is
        still being written, if any."""

    def is_generating_into(self, folder: Path) -> bool:
        """Return whether a job writes to the folder."""


@dataclass(eq=False)
class Services:
    """The services of a studio. By default each visitor has a library of their own."""

    manager: "ModelManager"
    limits: Limits = field(default_factory=Limits)
    storage: VisitorStorage = field(default_factory=VisitorStorage)
    sessions: Sessions = field(default_factory=Sessions)
    owners: list[StoryOwner] = field(default_factory=list)

    def library_of(self, request: gr.Request) -> "Library":
        """Return the library that the visitor sees."""
        return self.storage.of(self.sessions.of(request))

    def is_generating(self, request: gr.Request) -> bool:
        """Return whether a story of the visitor is being generated or waits in the queue."""
        session = self.sessions.find(request)
        return session is not None and session.is_generating

    def is_generating_into(self, folder: Path) -> bool:
        """Return whether any visitor's job writes to the folder."""
        sessions = self.sessions.all()
        busy = any(one.is_generating and one.job.request.folder == folder for one in sessions)
        return busy or any(owner.is_generating_into(folder) for owner in self.owners)

    def forget_folder(self, folder: Path) -> None:
        """Remove a deleted story from all pages."""
        for session in self.sessions.all():
            if session.generated is not None and session.generated.folder == folder:
                session.show(None)

    def leave(self, request: gr.Request) -> None:
        """Handle a closed page: stop the visitor's jobs and remove their private files."""
        session = self.sessions.remove(request)
        if session is None:
            return
        private = self.storage.private_folder(session)
        busy = [folder for owner in self.owners if (folder := owner.leave(session, private))]
        job = session.show(None)
        if job is not None and not job.progress.over:
            busy.append(job.request.folder)
            if private:
                job.remove_files(private)
        self.storage.leave(session, busy)
