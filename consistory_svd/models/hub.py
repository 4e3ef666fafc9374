"""SDXL models of the Hugging Face Hub: found on this machine, or downloaded into the cache folder."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from consistory_svd.downloads import (
    HubFile,
    HubRepository,
    ProgressCallback,
    cache_folder,
    ignore_progress,
    is_complete,
    write_manifest,
)
from consistory_svd.models.diffusers_folder import CLASSES, INDEX, WEIGHTED, choose_variant, read_index

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ALTERNATIVES = ", or give a folder, a .safetensors file, or 'storybook' for the embedded model"


def model_folder(repo_id: str) -> Path:
    """The folder that `download_model` downloads a model into."""
    return cache_folder() / "models" / repo_id.replace("/", "--")


def downloaded_folder(repo_id: str) -> Path | None:
    """The folder of a model that is completely here, ours or in the Hub's own cache, else None."""
    ours = model_folder(repo_id)
    if is_complete(ours):
        return ours
    try:
        theirs = Path(snapshot_download(repo_id, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return theirs if _has_every_part(theirs) else None


def _has_every_part(folder: Path) -> bool:
    """Whether a snapshot has its index, tokenizers and weights: another program may have been interrupted."""
    parts = ((folder / part).glob("*") for part in (*CLASSES, "scheduler"))
    weights = ((folder / part).glob("*.safetensors") for part in WEIGHTED)
    return (folder / INDEX).is_file() and all(any(files) for files in (*parts, *weights))


def download_model(repo_id: str, dtype: torch.dtype, report: ProgressCallback = ignore_progress) -> Path:
    """Download a model and return its folder, in diffusers' layout.

    Only files that will be read are downloaded: safetensors weights, in half precision if `dtype` is that
    and the repository has them. The index is checked before any weights are downloaded.

    Raises:
        ValueError: the Hub is out of reach, has no such model or asks for a token; it is not an SDXL model;
            or the download failed. Downloading again keeps the files that are complete.
    """
    folder, repository = model_folder(repo_id), HubRepository(repo_id, "model", ALTERNATIVES)
    revision, listing = repository.files()
    wanted = wanted_files(repo_id, listing, dtype)
    index = [file for file in listing if file.name == INDEX]
    repository.download(index, folder, revision=revision, local_dir=folder)
    read_index(repo_id, folder)
    repository.download(wanted, folder, report, revision=revision, local_dir=folder)
    write_manifest(folder, [file.name for file in (*index, *wanted)])
    return folder


def wanted_files(repo_id: str, listing: Sequence[HubFile], dtype: torch.dtype) -> list[HubFile]:
    """The files of a model that will be read. ValueError if it has no safetensors weights."""
    names = {file.name for file in listing}
    if INDEX not in names:
        raise ValueError(
            f"model: {repo_id!r} has no {INDEX}; give a model in diffusers' format, or download its "
            ".safetensors file and give that"
        )
    variant = choose_variant(names, dtype)
    # Not every part of a model has files of the variant.
    with_variant = {name.partition("/")[0] for name in names if f".{variant}" in name}
    wanted = [
        file
        for file in listing
        if _is_read(file.name, variant if file.name.partition("/")[0] in with_variant else None)
    ]
    for part in WEIGHTED:
        if not any(f.name.startswith(f"{part}/") and f.name.endswith(".safetensors") for f in wanted):
            raise ValueError(
                f"model: {repo_id!r} has no safetensors weights of its {part}; give another model"
            )
    return wanted


def _is_read(name: str, variant: str | None) -> bool:
    part, _, file = name.partition("/")
    if part not in (*CLASSES, "scheduler") or "/" in file:
        return False
    if file.endswith((".json", ".txt")) and not file.endswith(".index.json"):
        return True
    safe = file.endswith((".safetensors", ".safetensors.index.json", f".safetensors.index.{variant}.json"))
    # Other variants and exports are not read; without a variant, a name has no dot in its stem.
    stem = file.partition(".safetensors")[0]
    fits = f".{variant}" in file if variant else "." not in stem and ".fp16" not in file
    return safe and fits and not file.startswith("openvino")
