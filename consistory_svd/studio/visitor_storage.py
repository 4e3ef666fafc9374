"""Whose stories are where: one library for all who come, or one for each visitor that goes with them."""

import tempfile
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe

from consistory_svd.library import Library, remove_folder
from consistory_svd.studio.session import Session

DAY_SECONDS = 24 * 3600.0
GOES = "Your stories go when you close or reload this page; take them along."
STAYS = (
    "Your stories stay for a day after your last visit, and go earlier when this studio is started anew; "
    "take them along."
)
# Whose shelf it is: the name of a signed-in user, otherwise the session itself.
_Owner = str | Session


@dataclass
class _VisitorLibrary:
    """A visitor's own library, and their sessions that are open."""

    library: Library
    open: set[Session] = field(default_factory=set)
    left: float = 0.0  # on the monotonic clock


class VisitorStorage:
    """The libraries of the studio's visitors, by their sessions, or by their names where they sign in.

    `library` is everyone's. Without one each visitor has their own, in a temporary folder, and sees no other:
    for the visit, or where they sign in until a day, or `keep_seconds`, after it.

    Folders are looked up by their owner and have random names; nothing that a visitor sends is part of one.
    """

    def __init__(self, library: Library | None = None, keep_seconds: float = DAY_SECONDS) -> None:
        self._library = library
        self._keep_seconds = keep_seconds
        self._own: dict[_Owner, _VisitorLibrary] = {}
        self._lock = threading.Lock()
        # Removed when the studio ends; what a visitor has in it goes when the visitor does.
        self._home = tempfile.TemporaryDirectory(prefix="story-studio-")

    @property
    def roots(self) -> list[Path]:
        """The folders that all files of all visitors are in."""
        return [Path(self._home.name), *([self._library.root] if self._library else [])]

    def private_folder(self, session: Session) -> Path | None:
        """The folder of a visitor's stories, if they are deleted when the visitor leaves; None otherwise."""
        with self._lock:
            shelf = self._own.get(session)
        return shelf and shelf.library.root

    def of(self, session: Session) -> Library:
        """The library that the visitor sees."""
        if self._library is not None:
            return self._library
        with self._lock:
            owner = _owner(session)
            if owner not in self._own:
                note = STAYS if session.user else GOES
                self._own[owner] = _VisitorLibrary(Library(self._hidden("stories"), note))
            self._own[owner].open.add(session)
            return self._own[owner].library

    def export_folder(self, session: Session, part: str) -> Path:
        """A new folder for files that the visitor takes along from a part of the page; the former one of that
        part is gone."""
        with self._lock:
            self._clear_export_folder(session, part)
            session.exports[part] = self._hidden("export")
            return session.exports[part]

    def leave(self, session: Session, busy: Collection[Path] = ()) -> None:
        """The visitor has gone: remove what was theirs alone, but for folders that are still written to."""
        owner = _owner(session)
        with self._lock:
            for part in list(session.exports):
                self._clear_export_folder(session, part)
            shelf = self._own.get(owner)
            if shelf is None:
                return
            shelf.open.discard(session)
            shelf.left = time.monotonic()
            if session.user:
                timer = threading.Timer(self._keep_seconds, self._clear, (owner,))
                timer.daemon = True
                timer.start()
                return
        self._clear(owner, busy)

    def _clear(self, owner: _Owner, busy: Collection[Path] = ()) -> None:
        """Remove a shelf, unless its owner is here again or was here since."""
        with self._lock:
            shelf = self._own.get(owner)
            kept = self._keep_seconds if isinstance(owner, str) else 0.0
            if shelf is None or shelf.open or time.monotonic() - shelf.left < kept:
                return
            del self._own[owner]
        root = shelf.library.root
        for folder in root.iterdir():
            if folder not in busy:
                with suppress(OSError):  # the rest goes nevertheless, and this when the studio ends
                    remove_folder(folder, root)
        with suppress(OSError):  # not empty yet
            root.rmdir()

    def _hidden(self, name: str) -> Path:
        """A new folder whose address nobody guesses: whoever knows it sees its files."""
        folder = Path(self._home.name, f"{name}-{token_urlsafe(16)}")
        folder.mkdir(mode=0o700)
        return folder

    def _clear_export_folder(self, session: Session, part: str) -> None:
        folder = session.exports.pop(part, None)
        if folder is not None:
            with suppress(OSError):
                remove_folder(folder, Path(self._home.name))


def _owner(session: Session) -> _Owner:
    return session.user or session
