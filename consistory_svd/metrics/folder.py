"""Read images, prompts and masks to score from a folder: a saved story, or a CSV."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from consistory_svd.metadata import FILE_NAME, read_story_json
from consistory_svd.metrics.result import Frames

log = logging.getLogger(__name__)

# `Model.checkpoint` of the embedded model, with which its name in story.json begins.
STORYBOOK_NAME = "the embedded storybook model"


def of_storybook(model_name: str) -> bool:
    """Whether the model of this name, as in story.json, is the embedded one, with or without LoRAs."""
    return model_name == STORYBOOK_NAME or model_name.startswith(f"{STORYBOOK_NAME} with ")


def read_folder(folder: Path) -> Frames:
    """Read `story.json`, or else the only CSV of a folder.

    The CSV has a header with the columns `picture` and `prompt`, and optionally `mask`; files are relative to
    it.

    Raises:
        ValueError: something is missing or cannot be read; the message names the field.
    """
    if not folder.is_dir():
        raise ValueError(
            f"folder: {str(folder)!r} is not a folder; give one with images and story.json or a CSV"
        )
    if (folder / FILE_NAME).is_file():
        return _from_story(folder)
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        raise ValueError(
            f"folder: {folder} has no {FILE_NAME} and {len(tables)} CSV files; give a folder with one CSV"
        )
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
        log.warning("%d filtered images are not scored", len(record.pictures) - len(shown))
    # A story may have been generated in part: its own list has the prompts.
    frames_list = [content["frames"][k] for k in shown]
    masks = record.masks if len(record.masks) == len(shown) else ()
    return Frames(
        images=tuple(_open(folder / record.pictures[k], "pictures") for k in shown),
        prompts=tuple(
            str(frame["prompt"]) if "prompt" in frame else _no_prompt(folder) for frame in frames_list
        ),
        masks=tuple(_open(folder / name, "masks") for name in masks),
        storybook=of_storybook(record.model),
    )


def _no_prompt(folder: Path) -> str:
    raise ValueError(f"prompts: a frame of {folder / FILE_NAME} has no prompt")


def _from_csv(path: Path) -> Frames:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"csv: {path} cannot be read: {error}; give UTF-8 with commas") from error
    for column in ("picture", "prompt"):
        missing = [k for k, line in enumerate(lines, start=2) if not line.get(column)]
        if missing or not lines:
            where = f"line {missing[0]} of {path}" if missing else f"{path}, which has no lines"
            raise ValueError(f"{column}: missing in {where}; the header must be picture,prompt[,mask]")
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
        raise ValueError(f"{field}: {path} cannot be read as an image") from error
