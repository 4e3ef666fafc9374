"""Where stories are saved: one library for all visitors, or one for each that is deleted after the visit."""

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
DELETED_ON_LEAVING = "Your stories are deleted when you close or reload this page. Export them to keep them."
DELETED_LATER = (
    "Your stories are deleted a day after your last visit, or when this studio restarts. Export them to keep "
    "them."
)
# The owner of a library: the name of a signed-in user, otherwise the session itself.
_Owner = str | Session


@dataclass
class _VisitorLibrary:
    """A visitor's library, and their open sessions."""

    library: Library
    open: set[Session] = field(default_factory=set)
    left: float = 0.0  # on the monotonic clock


class VisitorStorage:
    """The libraries of a studio's visitors.

    Folders are looked up by their owner and have random names; nothing that a visitor sends is part of one.

    Args:
        library: shared by all visitors. Without one each visitor has a library in a temporary folder.
        keep_seconds: how long the library of a signed-in visitor is kept after their last visit; others are
            deleted at once.
    """

    def __init__(self, library: Library | None = None, keep_seconds: float = DAY_SECONDS) -> None:
        self._library = library
        self._keep_seconds = keep_seconds
        self._own: dict[_Owner, _VisitorLibrary] = {}
        self._lock = threading.Lock()
        # Removed when the studio ends; a visitor's part of it when the visitor leaves.
        self._root = tempfile.TemporaryDirectory(prefix="story-studio-")

    @property
    def roots(self) -> list[Path]:
        """The folders that hold all files of all visitors."""
        return [Path(self._root.name), *([self._library.root] if self._library else [])]

    def private_folder(self, session: Session) -> Path | None:
        """Return the folder of a visitor's stories if it is deleted when the visitor leaves; else None."""
        with self._lock:
            known = self._own.get(session)
        return known and known.library.root

    def of(self, session: Session) -> Library:
        """Return the library that a visitor sees."""
        if self._library is not None:
            return self._library
        with self._lock:
            owner = _owner(session)
            if owner not in self._own:
                note = DELETED_LATER if session.user else DELETED_ON_LEAVING
                self._own[owner] = _VisitorLibrary(Library(self._new_folder("stories"), note))
            self._own[owner].open.add(session)
            return self._own[owner].library

    def export_folder(self, session: Session, part: str) -> Path:
        """Return a new folder for the exports of a part of the page, and remove that part's previous one."""
        with self._lock:
            self._clear_export_folder(session, part)
            session.exports[part] = self._new_folder("export")
            return session.exports[part]

    def leave(self, session: Session, busy: Collection[Path] = ()) -> None:
        """Remove what belongs to a visitor who left, except for folders that are still written to."""
        owner = _owner(session)
        with self._lock:
            for part in list(session.exports):
                self._clear_export_folder(session, part)
            known = self._own.get(owner)
            if known is None:
                return
            known.open.discard(session)
            known.left = time.monotonic()
            if session.user:
                timer = threading.Timer(self._keep_seconds, self._clear, (owner,))
                timer.daemon = True
                timer.start()
                return
        self._clear(owner, busy)

    def _clear(self, owner: _Owner, busy: Collection[Path] = ()) -> None:
        """Remove a library, unless its owner came back."""
        with self._lock:
            known = self._own.get(owner)
            kept = self._keep_seconds if isinstance(owner, str) else 0.0
            if known is None or known.open or time.monotonic() - known.left < kept:
                return
            del self._own[owner]
        root = known.library.root
        for folder in root.iterdir():
            if folder not in busy:
                with suppress(OSError):  # it is removed when the studio ends
                    remove_folder(folder, root)
        with suppress(OSError):  # not empty yet
            root.rmdir()

    def _new_folder(self, name: str) -> Path:
        """Return a new folder with an address that nobody guesses: whoever knows it can read its files."""
        folder = Path(self._root.name, f"{name}-{token_urlsafe(16)}")
        folder.mkdir(mode=0o700)
        return folder

    def _clear_export_folder(self, session: Session, part: str) -> None:
        folder = session.exports.pop(part, None)
        if folder is not None:
            with suppress(OSError):
                remove_folder(folder, Path(self._root.name))


def _owner(session: Session) -> _Owner:
    return session.user or session
