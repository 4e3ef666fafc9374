"""The weights of DreamSim: the `dreamsim` package reads them from a folder that is downloaded here.

The archive of the package's authors is unpacked beside its place and renamed into it with a manifest, so that
an interrupted download never counts as present.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import zipfile
from pathlib import Path

from consistory_svd.downloads import (
    DownloadError,
    ProgressCallback,
    download_file,
    ignore_progress,
    is_complete,
    write_manifest,
)
from consistory_svd.errors import FieldError, one_of

# Backbone -> the first weights in its archive, without which `dreamsim` would download by itself. These are
# single models and the papers' ensemble; backbones that also compare patches have another embedding.
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
BACKBONES = tuple(FIRST_WEIGHTS)
# `dreamsim` takes the architecture and first weights of these from torch.hub.
TORCH_HUB_MODELS = {
    "ensemble": ("facebookresearch/dino:main", "dino_vitb16"),
    "dino_vitb16": ("facebookresearch/dino:main", "dino_vitb16"),
    "dinov2_vitb14": ("facebookresearch/dinov2", "dinov2_vitb14"),
}


def check_backbone(backbone: str) -> None:
    """ValueError unless it is a DreamSim backbone that the metric supports."""
    if backbone not in BACKBONES:
        raise FieldError("backbone", backbone, one_of(BACKBONES))


def dreamsim_folder(backbone: str, cache: Path) -> Path:
    """The folder of a backbone's weights, downloaded or not."""
    return cache / "dreamsim" / backbone


def download_dreamsim(
    backbone: str, cache: Path, url: str | None = None, report: ProgressCallback = ignore_progress
) -> Path:
    """Download DreamSim's weights unless they are present, and return their folder.

    Args:
        url: the archive's address instead of the one that the package knows: a mirror, or file:// for an
            archive on this machine. The layout is that of `dreamsim` 0.2.1.

    Raises:
        ValueError: the backbone is unknown.
        DownloadError: the weights could not be downloaded, or are not those of the backbone.
    """
    check_backbone(backbone)
    folder = dreamsim_folder(backbone, cache)
    if is_complete(folder):
        return folder
    address = url or _address(backbone)
    archive = folder.with_name(f"{backbone}.zip")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        download_file(address, archive, report)
        with tempfile.TemporaryDirectory(prefix=f".{backbone}-", dir=folder.parent) as scratch:
            unpacked = Path(scratch) / backbone
            _unpack(archive, unpacked)
            _check_contents(backbone, unpacked, archive)
            _load_torch_hub(backbone, unpacked)
            # Python's compiled files of torch.hub's code come and go.
            files = [p for p in unpacked.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
            write_manifest(unpacked, [path.relative_to(unpacked).as_posix() for path in files])
            if folder.exists():
                shutil.rmtree(folder)
            unpacked.replace(folder)
    except OSError as error:
        raise DownloadError(f"weights: cannot be written to {folder.parent}: {error}") from error
    archive.unlink()
    return folder


def _address(backbone: str) -> str:
    if importlib.util.find_spec("dreamsim") is None:
        raise DownloadError("weights: the package dreamsim is not installed; run `pip install dreamsim`")
    from dreamsim.config import dreamsim_weights

    return dreamsim_weights[backbone]


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive and check its checksums. A corrupted archive is deleted: resuming cannot mend it."""
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise DownloadError(f"weights: the archive is corrupted ({error}); download it again") from error


def _check_contents(backbone: str, folder: Path, archive: Path) -> None:
    adapter = "ensemble_lora" if backbone == "ensemble" else f"{backbone}_single_lora"
    for name in (*FIRST_WEIGHTS[backbone], f"{adapter}/adapter_config.json"):
        if not (folder / name).is_file():
            archive.unlink()
            raise DownloadError(f"weights: the archive has no {name}; it is not DreamSim's {backbone}")


def _load_torch_hub(backbone: str, folder: Path) -> None:
    """Let torch.hub download, into the same folder, what `dreamsim` loads through it."""
    if backbone not in TORCH_HUB_MODELS:
        return
    import torch

    before = torch.hub.get_dir()
    torch.hub.set_dir(str(folder))
    try:
        torch.hub.load(*TORCH_HUB_MODELS[backbone])
    except OSError as error:
        model = TORCH_HUB_MODELS[backbone][1]
        raise DownloadError(
            f"weights: {model} could not be downloaded from torch.hub: {error}; check the network"
        ) from error
    finally:
        torch.hub.set_dir(before)
