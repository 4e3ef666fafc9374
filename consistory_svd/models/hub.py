"""Models of the Hugging Face hub: what is kept here goes first, then a download that can be gone on with.

The hub's own client (version 2) throws a file away that broke off, and SDXL's largest has 5 GB. So files come
through our own download, which goes on where it ended, into a folder in diffusers' layout.
"""

import hashlib
import json
import logging
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import HfApi, constants, get_token, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_session

from consistory_svd.metrics.dreamsim_weights import FetchError, Report, cache_folder, download, is_whole
from consistory_svd.models.diffusers_folder import (
    CLASSES,
    INDEX,
    WEIGHTED,
    check_index,
    chosen_variant,
    first_line,
)

log = logging.getLogger(__name__)

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PROBE_SECONDS = 1.5
LISTING_SECONDS = 20
MANIFEST = "files.json"
OFFLINE = "HF_HUB_OFFLINE"


@dataclass(frozen=True)
class Listed:
    """A file of the hub: its name in the model, its bytes, and their SHA-256 where the hub knows it."""

    name: str
    size: int
    sha256: str | None = None


def reachable(seconds: float = PROBE_SECONDS) -> str:
    """Why the hub cannot be reached, in words; empty where it answers. Never takes longer than `seconds`.

    Asked in a thread, because looking up a name has no time limit of its own.
    """
    if constants.is_offline_mode():
        return f"{OFFLINE} is set"
    said: list[str] = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=seconds)
            said.append("")
        except Exception as error:  # every kind of network trouble has a class of its own
            said.append(first_line(error))

    thread = threading.Thread(target=ask, name="ask-hub", daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else f"no answer within {seconds:g} s"


def our_folder(place: str) -> Path:
    """Where a model of the hub is kept that we fetched."""
    return cache_folder() / "models" / place.replace("/", "--")


def kept_folder(place: str) -> Path | None:
    """The folder of a hub's model that is here whole, ours or in the hub's own cache; None without one."""
    ours = our_folder(place)
    if is_whole(ours):
        return ours
    try:
        theirs = Path(snapshot_download(place, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return theirs if _is_complete(theirs) else None


def is_kept(place: str) -> bool:
    """Whether a model of the hub can be loaded without a network."""
    return kept_folder(place) is not None


def _is_complete(folder: Path) -> bool:
    """Whether a snapshot, which may have broken off, has its index, tokenizers and weights of each part."""
    if not (folder / INDEX).is_file():
        return False
    return all(any((folder / part).glob("*")) for part in (*CLASSES, "scheduler")) and all(
        any((folder / part).glob("*.safetensors")) for part in WEIGHTED
    )


def fetch_model(place: str, dtype: torch.dtype, report: Report = lambda done, whole: None) -> Path:
    """Fetch a model of the hub and return its folder; what is there is not fetched again.

    A download that broke off is gone on with by the next call. Only the files that will be read are fetched:
    of weights safetensors alone, in half precision where that is wanted and there.

    Raises:
        ValueError: the hub is out of reach (said within two seconds), has no such model or wants a token, the
            model is no SDXL, or the download broke off.
    """
    if why := reachable():
        raise ValueError(_unreachable(place, why))
    folder = our_folder(place)
    try:
        revision, listing = _listing(place)
        wanted = wanted_files(place, listing, dtype)
        whole, done = sum(file.size for file in wanted), 0
        _check_room(place, folder, whole)
        _fetch_index(place, revision, folder)
        for file in wanted:
            _fetch_file(place, revision, folder, file, lambda n, _, before=done: report(before + n, whole))
            done += file.size
            report(done, whole)
    except FetchError as error:
        said = first_line(error).removeprefix("weights: ")
        raise ValueError(
            f"model: {place!r} could not be fetched: {said}; try again, it goes on from there"
        ) from error
    except OSError as error:
        if isinstance(error, HfHubHTTPError):
            raise ValueError(f"model: {place!r} cannot be had from the hub: {_hub_words(error)}") from error
        raise ValueError(f"model: {place!r} cannot be kept in {folder}: {first_line(error)}") from error
    sizes = {INDEX: (folder / INDEX).stat().st_size} | {file.name: file.size for file in wanted}
    (folder / MANIFEST).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    return folder


def wanted_files(place: str, listing: Sequence[Listed], dtype: torch.dtype) -> list[Listed]:
    """The files of a model that will be read. ValueError, naming the model, where weights are not safe."""
    names = {file.name for file in listing}
    if INDEX not in names:
        raise ValueError(
            f"model: {place!r} has no {INDEX}; give a model in diffusers' format, or download its "
            ".safetensors file and give that"
        )
    variant = chosen_variant(names, dtype)
    # Not every part of a model need have the variant.
    marked = {name.partition("/")[0] for name in names if f".{variant}" in name}
    wanted = [f for f in listing if _is_read(f.name, variant if f.name.partition("/")[0] in marked else None)]
    for part in WEIGHTED:
        if not any(
            file.name.startswith(f"{part}/") and file.name.endswith(".safetensors") for file in wanted
        ):
            raise ValueError(f"model: {place!r} has no safetensors weights of its {part}; give another model")
    return wanted


def _is_read(name: str, variant: str | None) -> bool:
    part, _, file = name.partition("/")
    if part not in (*CLASSES, "scheduler") or "/" in file:
        return False
    if file.endswith((".json", ".txt")) and not file.endswith(".index.json"):
        return True
    safe = file.endswith((".safetensors", ".safetensors.index.json", f".safetensors.index.{variant}.json"))
    # Other variants than fp16 and other exports are not read; what has no variant has no dot in its stem.
    stem = file.partition(".safetensors")[0]
    marked = f".{variant}" in file if variant else "." not in stem and ".fp16" not in file
    return safe and marked and not file.startswith("openvino")


def _listing(place: str) -> tuple[str, list[Listed]]:
    said = HfApi().model_info(place, files_metadata=True, timeout=LISTING_SECONDS)
    files = [
        Listed(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
        for file in said.siblings or ()
    ]
    return said.sha or "main", files


def _fetch_index(place: str, revision: str, folder: Path) -> None:
    """The index, looked at before gigabytes are fetched."""
    (folder / INDEX).unlink(missing_ok=True)  # of another revision, perhaps
    path = download(hf_hub_url(place, INDEX, revision=revision), _made(folder / INDEX), token=get_token())
    index: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
    check_index(place, index)


def _fetch_file(place: str, revision: str, folder: Path, file: Listed, report: Report) -> None:
    target = _made(folder / file.name)
    if target.is_file() and target.stat().st_size != file.size:
        target.unlink()  # of another revision
    new = not target.is_file()
    download(hf_hub_url(place, file.name, revision=revision), target, report, get_token())
    if new and file.sha256 and _sha256(target) != file.sha256:
        target.unlink()
        raise FetchError(f"weights: {file.name} arrived damaged")


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_room(place: str, folder: Path, whole: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if whole - there > free:
        raise ValueError(
            f"model: {place!r} needs {(whole - there) / 1e9:.1f} GB in {folder}, "
            f"{free / 1e9:.1f} GB are free; make room or set CONSISTORY_SVD_CACHE to another folder"
        )


def _unreachable(place: str, why: str) -> str:
    cure = f"unset {OFFLINE}" if OFFLINE in why else "check the network"
    return (
        f"model: {place!r} is not kept here and the hub cannot be reached ({why}); {cure}, or give a "
        "folder, a .safetensors file, or 'storybook' for the embedded model"
    )


def _hub_words(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return "its licence has to be accepted on its page; then log in with `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such model, or it is private; check the name"
    return first_line(error)
