"""Whose stories are where: one library for all who come, or one for each visitor that goes with them."""

import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from consistory_svd.library import Library


class Shelves:
    """The libraries of the studio's visitors, by their sessions.

    `library` is everyone's. Without one each visitor has their own, in a temporary folder, and sees no other.
    """

    def __init__(self, library: Library | None = None) -> None:
        self._library = library
        self._own: dict[str, Library] = {}
        self._making = threading.Lock()
        # Removed when the studio ends; what a visitor has in it goes when the visitor does.
        self._home = tempfile.TemporaryDirectory(prefix="story-studio-")

    @property
    def private(self) -> bool:
        """Whether each visitor has a library of their own."""
        return self._library is None

    def of(self, session: str) -> Library:
        """The library that the visitor sees."""
        if self._library is not None:
            return self._library
        with self._making:
            if session not in self._own:
                self._own[session] = Library(Path(tempfile.mkdtemp(prefix="stories-", dir=self._home.name)))
            return self._own[session]

    def desk(self, session: str) -> Path:
        """A new folder for files that the visitor takes along; the visitor's former one is gone."""
        self._clear_desk(session)
        return Path(tempfile.mkdtemp(prefix=f"export-{session}-", dir=self._home.name))

    def leave(self, session: str, busy: Path | None = None) -> None:
        """The visitor has gone: remove what was theirs alone, but for the folder that is still written to."""
        self._clear_desk(session)
        library = self._own.pop(session, None)
        if library is None:
            return
        for folder in library.root.iterdir():
            if folder != busy:
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # not empty yet
            library.root.rmdir()

    def _clear_desk(self, session: str) -> None:
        for folder in Path(self._home.name).glob(f"export-{session}-*"):
            shutil.rmtree(folder, ignore_errors=True)
