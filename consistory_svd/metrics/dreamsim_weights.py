"""Weights that scores need and the house does not bring: fetched once, checked, and there only when whole.

A download goes to a file of its own that a later one goes on from. What arrived is unpacked beside its place
and renamed into it together with a list of its files and their sizes; without that list, or with a file of
another size, weights do not count as present.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import logging
import os
import shlex
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

CACHE_VARIABLE = "CONSISTORY_SVD_CACHE"
# Single models and the papers' ensemble; those that also compare patches have another embedding.
BACKBONES = (
    "ensemble",
    "dino_vitb16",
    "clip_vitb32",
    "open_clip_vitb32",
    "dinov2_vitb14",
    "synclr_vitb16",
)
# These take their architecture and first weights from torch.hub, as `dreamsim` asks for them.
HUB_PARTS = {
    "ensemble": ("facebookresearch/dino:main", "dino_vitb16"),
    "dino_vitb16": ("facebookresearch/dino:main", "dino_vitb16"),
    "dinov2_vitb14": ("facebookresearch/dinov2", "dinov2_vitb14"),
}
# Without these `dreamsim` would go and download by itself.
FIRST_WEIGHTS = {
    "ensemble": (
        "dino_vitb16_pretrain.pth",
        "clip_vitb16_pretrain.pth.tar",
        "open_clip_vitb16_pretrain.pth.tar",
    ),
    "dino_vitb16": ("dino_vitb16_pretrain.pth",),
    "clip_vitb32": ("clip_vitb32_pretrain.pth.tar",),
    "open_clip_vitb32": ("open_clip_vitb32_pretrain.pth.tar",),
    "dinov2_vitb14": ("dinov2_vitb14_pretrain.pth",),
    "synclr_vitb16": ("synclr_vit_b_16.pth",),
}
MANIFEST = "files.json"
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30
# done bytes, all bytes; all is None where the server does not say.
Report = Callable[[int, int | None], None]


class FetchError(OSError):
    """Weights could not be fetched; the message is one line for a person."""


def cache_folder(chosen: str | Path | None = None) -> Path:
    """Where weights are kept: `chosen`, else the environment variable, else the user's cache folder."""
    if chosen:
        return Path(chosen).expanduser()
    if generated := os.environ.get(CACHE_VARIABLE):
        return Path(generated).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "consistory_svd"


def fetch_command(what: str, cache: Path, *flags: str) -> str:
    """The sentence that tells how to fetch `what` into `cache`."""
    place = () if cache == cache_folder() else ("--cache", str(cache))
    return f"Get them by `{shlex.join(('python', '-m', 'consistory_svd', 'fetch', what, *flags, *place))}`."


def check_backbone(backbone: str) -> None:
    """ValueError unless it is a DreamSim backbone that can be scored with."""
    if backbone not in BACKBONES:
        raise ValueError(f"backbone: {backbone!r} is not allowed; give one of {', '.join(BACKBONES)}")


def dreamsim_folder(backbone: str, cache: Path) -> Path:
    """Where the weights of a backbone are, or would be."""
    return cache / "dreamsim" / backbone


def is_whole(folder: Path) -> bool:
    """True when everything that was fetched into `folder` is there with the size that it arrived with."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def fetch_dreamsim(
    backbone: str,
    cache: Path,
    url: str | None = None,
    report: Report = lambda done, whole: None,
) -> Path:
    """Fetch DreamSim's weights unless they are there; returns their folder.

    `url` replaces the address that the package knows: a mirror, or file:// for a checkpoint that was carried
    here. Raises ValueError for a backbone that is not known, FetchError when weights cannot be had.
    Source: issue 5; the layout is that of `dreamsim` 0.2.1.
    """
    check_backbone(backbone)
    folder = dreamsim_folder(backbone, cache)
    if is_whole(folder):
        return folder
    address = url or _address(backbone)
    archive = folder.with_name(f"{backbone}.zip")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        download(address, archive, report)
        with tempfile.TemporaryDirectory(prefix=f".{backbone}-", dir=folder.parent) as scratch:
            unpacked = Path(scratch) / backbone
            _unpack(archive, unpacked)
            _check_contents(backbone, unpacked, archive)
            _hub_part(backbone, unpacked)
            _write_manifest(unpacked)
            if folder.exists():
                shutil.rmtree(folder)
            unpacked.replace(folder)
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(f"weights: cannot be kept in {folder.parent}: {error}") from error
    archive.unlink()
    return folder


def download(
    url: str, target: Path, report: Report = lambda done, whole: None, token: str | None = None
) -> Path:
    """Download into `target`, which appears only when all bytes are there.

    `token` is shown to the server of `url` alone, not to those that it sends us on to.

    Bytes of an interrupted download lie in `target`.part and are gone on from where the server allows it and
    still has the same file. Raises FetchError, after which the part stays.
    """
    if target.is_file():
        return target
    part, tag_file = (target.with_name(target.name + end) for end in (".part", ".tag"))
    have = part.stat().st_size if part.exists() and tag_file.exists() else 0
    request = urllib.request.Request(url)
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag_file.read_text(encoding="utf-8"))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            if getattr(answer, "status", None) != 206:
                have = 0
            length = answer.headers.get("Content-Length")
            whole = None if length is None else have + int(length)
            tag_file.unlink(missing_ok=True)
            if tag := answer.headers.get("ETag"):
                tag_file.write_text(tag, encoding="utf-8")
            _append(answer, part, have, whole, report)
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        if getattr(error, "code", None) == 416:  # more bytes here than the server has: begin anew next time
            part.unlink(missing_ok=True)
        raise FetchError(f"weights: {url} cannot be had: {getattr(error, 'reason', error)}") from error
    arrived = part.stat().st_size
    if whole is not None and arrived != whole:
        raise FetchError(
            f"weights: {arrived} of {whole} bytes of {url} arrived; the same command goes on from there"
        )
    part.replace(target)
    tag_file.unlink(missing_ok=True)
    return target


def _append(answer, part: Path, have: int, whole: int | None, report: Report) -> None:
    with part.open("ab" if have else "wb") as file:
        report(have, whole)
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            report(have, whole)


def _address(backbone: str) -> str:
    if importlib.util.find_spec("dreamsim") is None:
        raise FetchError("weights: the package dreamsim is not installed; pip install dreamsim")
    from dreamsim.config import dreamsim_weights

    return dreamsim_weights[backbone]


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack, with every file's checksum looked at. A broken archive is removed: going on cannot mend it."""
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise FetchError(f"weights: what arrived is no whole archive ({error}); fetch it again") from error


def _check_contents(backbone: str, folder: Path, archive: Path) -> None:
    adapter = "ensemble_lora" if backbone == "ensemble" else f"{backbone}_single_lora"
    for name in (*FIRST_WEIGHTS[backbone], f"{adapter}/adapter_config.json"):
        if not (folder / name).is_file():
            archive.unlink()
            raise FetchError(f"weights: what arrived holds no {name}; it is not DreamSim's {backbone}")


def _hub_part(backbone: str, folder: Path) -> None:
    """What `dreamsim` has torch.hub load when a model is built, loaded into the same folder."""
    if backbone not in HUB_PARTS:
        return
    import torch

    before = torch.hub.get_dir()
    torch.hub.set_dir(str(folder))
    try:
        torch.hub.load(*HUB_PARTS[backbone])
    except OSError as error:
        raise FetchError(
            f"weights: {HUB_PARTS[backbone][1]} cannot be had from torch.hub: {error}"
        ) from error
    finally:
        torch.hub.set_dir(before)


def _write_manifest(folder: Path) -> None:
    # Python's own files of torch.hub's code come and go with the interpreter.
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)}
    if not sizes:
        raise FetchError("weights: the archive that arrived is empty")
    (folder / MANIFEST).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
