"""Downloads of model weights: cache folder, progress, offline mode and error messages.

Everything that the package downloads passes through here: repositories of the Hugging Face Hub through
`huggingface_hub.snapshot_download`, other files through `download_file`. Weights count as present only if a
download finished: a folder lists its files and their sizes in `files.json`, written last.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import shlex
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub  # loads its parts on first use
from huggingface_hub import constants
from tqdm import tqdm

from consistory_svd.text_format import first_line, format_bytes

CACHE_VARIABLE = "CONSISTORY_SVD_CACHE"
OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
MANIFEST = "files.json"
PROBE_SECONDS = 1.5
TIMEOUT_SECONDS = 30
CHUNK = 1 << 20
# Called with the bytes downloaded so far and the total, which is None if the server does not send it.
ProgressCallback = Callable[[int, int | None], None]


class DownloadError(ValueError):
    """A download failed. The message is one line: the field, the reason and what the user can do."""


def ignore_progress(done: int, total: int | None) -> None:
    """Do nothing with the progress of a download."""


# -- the cache folder ------------------------------------------------------------------------------------


def cache_folder(chosen: str | Path | None = None) -> Path:
    """The folder of downloaded weights: `chosen`, else CONSISTORY_SVD_CACHE, else the user's cache folder.

    The same on every platform: `platformdirs` would look elsewhere on macOS and Windows, where weights that
    were downloaded before would no longer be found.
    """
    if chosen := chosen or os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "consistory_svd"


def fetch_command(what: str, cache: Path, *flags: str) -> str:
    """The sentence that tells how to download `what` into `cache`."""
    place = () if cache == cache_folder() else ("--cache", str(cache))
    command = shlex.join(("python", "-m", "consistory_svd", "fetch", what, *flags, *place))
    return f"Download them with `{command}`."


def write_manifest(folder: Path, names: Sequence[str]) -> None:
    """Mark a folder as complete: write the sizes of these files into it."""
    sizes = {name: (folder / name).stat().st_size for name in sorted(names)}
    (folder / MANIFEST).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")


def is_complete(folder: Path) -> bool:
    """Whether every file that the folder's manifest lists is there with its size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


# -- the Hugging Face Hub --------------------------------------------------------------------------------


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: name, size in bytes, and its SHA-256 if the Hub knows it."""

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class HubRepository:
    """A model repository of the Hugging Face Hub.

    Attributes:
        id: owner/name.
        field: the setting that errors name, e.g. "model".
        alternatives: what a user without a network can do instead; ends the message if the Hub is out of
            reach.
        endpoint: the address of a mirror of the Hub.
    """

    id: str
    field: str
    alternatives: str = ""
    endpoint: str | None = None

    def files(self) -> tuple[str, list[HubFile]]:
        """The current revision and its files.

        Raises:
            DownloadError: the Hub is out of reach, or has no such repository; known within seconds.
        """
        if reason := unreachable_reason(endpoint=self.endpoint):
            remedy = f"unset {OFFLINE_VARIABLE}" if OFFLINE_VARIABLE in reason else "check the network"
            raise DownloadError(
                f"{self.field}: {self.id!r} is not downloaded yet and the Hugging Face Hub cannot be reached "
                f"({reason}); {remedy}{self.alternatives}"
            )
        try:
            api = huggingface_hub.HfApi(endpoint=self.endpoint)
            info = api.model_info(self.id, files_metadata=True, timeout=TIMEOUT_SECONDS)
        except Exception as error:
            raise self._failed(error) from error
        return info.sha or "main", [
            HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in info.siblings or ()
        ]

    def download(
        self,
        files: Sequence[HubFile],
        folder: Path,
        report: ProgressCallback = ignore_progress,
        **options: Any,
    ) -> Path:
        """Download files that are not there yet, and check all of them.

        A broken transfer is resumed within the call; after a failed call, complete files stay.

        Args:
            folder: where the files go: its free space is checked first.
            options: as `huggingface_hub.snapshot_download` takes them.

        Returns:
            The folder that holds the files.

        Raises:
            DownloadError: the disk is too full, the transfer failed, or a file arrived damaged.
        """
        total = sum(file.size for file in files)
        self._check_disk_space(folder, total)
        try:
            path = Path(
                huggingface_hub.snapshot_download(
                    self.id,
                    allow_patterns=[file.name for file in files],
                    tqdm_class=_progress_bar(total, report),
                    endpoint=self.endpoint,
                    **options,
                )
            )
        except Exception as error:  # the client has an exception for each kind of trouble
            raise self._failed(error) from error
        for file in files:
            self._check_file(path / file.name, file)
        report(total, total)
        return path

    def _check_disk_space(self, folder: Path, total: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        present = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        free = shutil.disk_usage(folder).free
        if total - present > free:
            raise DownloadError(
                f"{self.field}: {self.id!r} needs {format_bytes(total - present)} in {folder}, but only "
                f"{format_bytes(free)} are free; free some space or set {CACHE_VARIABLE} to another folder"
            )

    def _check_file(self, path: Path, file: HubFile) -> None:
        real = Path(os.path.realpath(path))  # in the Hub's cache, names are links to the contents
        intact = real.is_file() and real.stat().st_size == file.size
        if intact and file.sha256:
            with real.open("rb") as opened:
                intact = hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
        if not intact:
            real.unlink(missing_ok=True)
            raise DownloadError(f"{self.field}: {file.name} of {self.id!r} arrived damaged; try again")

    def _failed(self, error: Exception) -> DownloadError:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

        if isinstance(error, GatedRepoError):
            reason = "accept its licence on its page, then log in with `hf auth login`"
        elif isinstance(error, RepositoryNotFoundError):
            reason = "there is no such model, or it is private; check the name"
        elif isinstance(error, HfHubHTTPError) or not isinstance(error, OSError):
            reason = f"{first_line(error)}; try again, complete files are kept"
        else:
            reason = first_line(error)
        return DownloadError(f"{self.field}: {self.id!r} could not be downloaded from the Hub: {reason}")


def unreachable_reason(seconds: float = PROBE_SECONDS, endpoint: str | None = None) -> str:
    """Why the Hub cannot be reached; empty if it answers. Takes at most `seconds`.

    Asks in a thread, because name resolution has no time limit of its own.
    """
    if constants.is_offline_mode():
        return f"{OFFLINE_VARIABLE} is set"
    reasons: list[str] = []

    def ask() -> None:
        try:
            from huggingface_hub.utils import get_session

            get_session().head(endpoint or constants.ENDPOINT, timeout=seconds)
            reasons.append("")
        except Exception as error:  # every kind of network trouble has its own class
            reasons.append(first_line(error))

    thread = threading.Thread(target=ask, name="ask-hub", daemon=True)
    thread.start()
    thread.join(seconds)
    return reasons[0] if reasons else f"no answer within {seconds:g} s"


def _progress_bar(total: int, report: ProgressCallback) -> type[tqdm]:
    """A silent tqdm class for `snapshot_download` that passes the bytes so far to `report`."""
    lock = threading.Lock()  # files arrive in several threads
    done: dict[int, int] = {}  # by bar: one counts the bytes received, one the bytes written

    class ProgressBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts_bytes = options.get("unit") == "B"  # a third bar counts files
            super().__init__(*args, **(options | {"file": io.StringIO(), "disable": False}))

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts_bytes:
                with lock:
                    done[id(self)] = done.get(id(self), 0) + int(n or 0)
                    report(min(max(done.values()), total), total)
            return super().update(n)

    return ProgressBar


# -- other files -----------------------------------------------------------------------------------------


def download_file(url: str, target: Path, report: ProgressCallback = ignore_progress) -> Path:
    """Download one file; `target` appears only when all its bytes have arrived.

    The bytes of an interrupted download stay in `target`.part; the next call resumes if the server supports
    ranges and still has the same file.

    Raises:
        DownloadError: the server cannot be reached, or the transfer broke off.
    """
    if target.is_file():
        return target
    part, tag_file = (target.with_name(target.name + end) for end in (".part", ".tag"))
    have = part.stat().st_size if part.exists() and tag_file.exists() else 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag_file.read_text(encoding="utf-8"))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            if getattr(answer, "status", None) != 206:
                have = 0
            length = answer.headers.get("Content-Length")
            total = None if length is None else have + int(length)
            tag_file.unlink(missing_ok=True)
            if tag := answer.headers.get("ETag"):
                tag_file.write_text(tag, encoding="utf-8")
            with part.open("ab" if have else "wb") as file:
                report(have, total)
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    report(have, total)
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        if getattr(error, "code", None) == 416:  # more bytes here than the server has: start over next time
            part.unlink(missing_ok=True)
        reason = getattr(error, "reason", error)
        raise DownloadError(f"weights: {url} could not be downloaded: {reason}") from error
    if total is not None and have != total:
        raise DownloadError(f"weights: {have} of {total} bytes of {url} arrived; try again to resume")
    part.replace(target)
    tag_file.unlink(missing_ok=True)
    return target
