"""A folder of pictures with prompts, as scores take it: our own `story.json`, or a CSV."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from consistory_svd.metadata import FILE_NAME, read_story_json
from consistory_svd.metrics.result import Frames

log = logging.getLogger(__name__)

# What `Model.checkpoint` says of the embedded model, and so what story.json says first.
STORYBOOK_NAME = "the embedded storybook model"


def of_storybook(model_name: str) -> bool:
    """Whether pictures are of the storybook's world, by what story.json says of their model."""
    return model_name == STORYBOOK_NAME or model_name.startswith(f"{STORYBOOK_NAME} with ")


def read_folder(folder: Path) -> Frames:
    """Pictures, prompts and masks of `story.json`, or else of the folder's only CSV.

    A CSV has a header with `picture` and `prompt`, and may have `mask`; files are named relative to it.
    Raises ValueError, naming the field, for what is missing or cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(
            f"folder: {str(folder)!r} is no folder; give one with pictures and story.json or a CSV"
        )
    if (folder / FILE_NAME).is_file():
        return _from_story(folder)
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        raise ValueError(f"folder: {folder} has no {FILE_NAME} and {len(tables)} CSV files; one is wanted")
    return _from_csv(tables[0])


def _from_story(folder: Path) -> Frames:
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no UTF-8, no JSON
        raise ValueError(f"{FILE_NAME}: {path} cannot be read: {error}") from error
    record = read_story_json(folder)
    shown = [k for k, why in enumerate(record.reasons) if not why]
    if len(shown) < len(record.pictures):
        log.warning("%d withheld pictures are not scored", len(record.pictures) - len(shown))
    # A story that was told later has prompts of some scenes only; its own list says which.
    said = [content["frames"][k] for k in shown]
    masks = record.masks if len(record.masks) == len(shown) else ()
    return Frames(
        images=tuple(_open(folder / record.pictures[k], "pictures") for k in shown),
        prompts=tuple(str(frame["prompt"]) if "prompt" in frame else _unnamed(folder) for frame in said),
        masks=tuple(_open(folder / name, "masks") for name in masks),
        storybook=of_storybook(record.model),
    )


def _unnamed(folder: Path) -> str:
    raise ValueError(f"prompts: a frame of {folder / FILE_NAME} has no prompt")


def _from_csv(path: Path) -> Frames:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"csv: {path} cannot be read: {error}; UTF-8 with commas is wanted") from error
    for column in ("picture", "prompt"):
        missing = [k for k, line in enumerate(lines, start=2) if not line.get(column)]
        if missing or not lines:
            where = f"line {missing[0]} of {path}" if missing else f"{path}, which has no lines"
            raise ValueError(f"{column}: is missing in {where}; the header is picture,prompt or with ,mask")
    named = [line.get("mask") for line in lines]
    return Frames(
        images=tuple(_open(path.parent / line["picture"], "picture") for line in lines),
        prompts=tuple(line["prompt"] for line in lines),
        masks=tuple(_open(path.parent / name, "mask") if name else None for name in named),
    )


def _open(path: Path, field: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("L" if field.startswith("mask") else "RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{field}: {path} cannot be read as a picture") from error
