"""Whose stories are where: one library for all who come, or one for each visitor that goes with them."""

import shutil
import tempfile
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe

from consistory_svd.library import Library

DAY_SECONDS = 24 * 3600.0
GOES = "Your stories go when you close or reload this page; take them along."
STAYS = (
    "Your stories stay for a day after your last visit, and go earlier when this studio is started anew; "
    "take them along."
)


@dataclass
class _Shelf:
    """A visitor's own library, and their pages that are open."""

    library: Library
    open: set[str] = field(default_factory=set)
    left: float = 0.0  # on the monotonic clock


class Shelves:
    """The libraries of the studio's visitors, by their sessions, or by their names where they sign in.

    `library` is everyone's. Without one each visitor has their own, in a temporary folder, and sees no other:
    for the visit, or where they sign in until a day, or `keep_seconds`, after it.
    """

    def __init__(self, library: Library | None = None, keep_seconds: float = DAY_SECONDS) -> None:
        self._library = library
        self._keep_seconds = keep_seconds
        self._own: dict[tuple[str, str], _Shelf] = {}
        self._making = threading.Lock()
        # Removed when the studio ends; what a visitor has in it goes when the visitor does.
        self._home = tempfile.TemporaryDirectory(prefix="story-studio-")

    @property
    def roots(self) -> list[Path]:
        """The folders that all files of all visitors are in."""
        return [Path(self._home.name), *([self._library.root] if self._library else [])]

    def goes_with(self, user: str | None) -> bool:
        """Whether what a visitor has told goes when they leave; `user` is who has signed in, if anyone."""
        return self._library is None and not user

    def of(self, session: str, user: str | None = None) -> Library:
        """The library that the visitor sees."""
        if self._library is not None:
            return self._library
        with self._making:
            key = _key(session, user)
            if key not in self._own:
                self._own[key] = _Shelf(Library(self._hidden("stories"), STAYS if user else GOES))
            self._own[key].open.add(session)
            return self._own[key].library

    def desk(self, session: str, part: str = "") -> Path:
        """A new folder for files that the visitor takes along from a part of the page; the former one of that
        part is gone."""
        self._clear_desk(session, part)
        return self._hidden(f"export-{session}-{part}")

    def leave(self, session: str, busy: Collection[Path] = (), user: str | None = None) -> None:
        """The visitor has gone: remove what was theirs alone, but for folders that are still written to."""
        self._clear_desk(session)
        with self._making:
            shelf = self._own.get(_key(session, user))
            if shelf is None:
                return
            shelf.open.discard(session)
            shelf.left = time.monotonic()
            if user:
                timer = threading.Timer(self._keep_seconds, self._clear, (_key(session, user),))
                timer.daemon = True
                timer.start()
                return
        self._clear(_key(session, user), busy)

    def _clear(self, key: tuple[str, str], busy: Collection[Path] = ()) -> None:
        """Remove a shelf, unless its owner is here again or was here since."""
        with self._making:
            shelf = self._own.get(key)
            kept = self._keep_seconds if key[0] == "user" else 0.0
            if shelf is None or shelf.open or time.monotonic() - shelf.left < kept:
                return
            del self._own[key]
        for folder in shelf.library.root.iterdir():
            if folder not in busy:
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # not empty yet
            shelf.library.root.rmdir()

    def _hidden(self, name: str) -> Path:
        """A new folder whose address nobody guesses: whoever knows it sees its files."""
        folder = Path(self._home.name, f"{name}-{token_urlsafe(16)}")
        folder.mkdir(mode=0o700)
        return folder

    def _clear_desk(self, session: str, part: str = "") -> None:
        for folder in Path(self._home.name).glob(f"export-{session}-{part}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _key(session: str, user: str | None) -> tuple[str, str]:
    return ("user", user) if user else ("session", session)
