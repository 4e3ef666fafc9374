"""Metadata of generated stories: PNG text chunks and `story.json`.

Both hold a story as an object of its fields, where `scenes` is a list of texts and `seeds` a list of as many
numbers or
nulls: the form in which a scene was a text alone. Keys and values on disk keep the names of version 1
("lenders" is the anchor story, "withheld" the reason for which the content filter replaced an image, "select"
and "value" of an SVD filter, whose fields `spectrum_k` and `spectrum_v` were, are still read).
"""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from consistory_svd.errors import FieldError
from consistory_svd.presets import preset_of
from consistory_svd.settings import Settings
from consistory_svd.story import Story

VERSION = 1
FILE_NAME = "story.json"
PARTS = (
    *("version", "model", "embedded", "preset", "story", "settings", "frames", "masks", "seconds"),
    "lenders",
)
RENAMED_SETTINGS = {"spectrum_k": "k_filter", "spectrum_v": "v_filter"}
RENAMED_FILTER_FIELDS = {"select": "keep", "value": "amount"}
# How models described themselves before `embedded` was stored.
EMBEDDED_MODEL = "the embedded storybook model"


@dataclass(frozen=True)
class FrameRecord:
    """How one image was generated.

    `anchor_story` is the story that its anchors belong to, if it is another one: anchors stay unchanged when
    one of their scenes is regenerated. `filtered` is the reason for which a placeholder replaces the image,
    if any.
    """

    prompt: str
    seed: int
    story: Story
    settings: Settings
    model: str
    anchor_story: Story | None = None
    filtered: str = ""


@dataclass(frozen=True)
class StoryRecord:
    """A generated story: `pictures` and `masks` are file names in its folder, in the order of its scenes.

    A cancelled story has fewer pictures than scenes; `masks` is empty if none were saved. `prompts` are those
    of the pictures. `filtered` holds the reason for each placeholder, "" for other pictures; it is empty if
    there are no placeholders, which have no mask. `preset` is the preset's name. `unknown` are
    keys of the file that this program does not know. `anchor_story` is as in `FrameRecord`.
    """

    story: Story
    settings: Settings
    model: str
    pictures: tuple[str, ...]
    masks: tuple[str, ...] = ()
    seconds: float | None = None
    anchor_story: Story | None = None
    prompts: tuple[str, ...] = ()
    filtered: tuple[str, ...] = ()
    preset: str = ""
    is_embedded: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """For each of `pictures` why it is filtered, or ""."""
        return self.filtered or ("",) * len(self.pictures)


def save_frame(
    path: Path,
    image: Image.Image,
    prompt: str,
    seed: int,
    story: Story,
    settings: Settings,
    model_name: str,
    anchor_story: Story | None = None,
    filtered: str = "",
) -> None:
    """Write an image as PNG with the fields of `FrameRecord` in text chunks."""
    texts = {
        "prompt": prompt,
        "seed": str(seed),
        "model": model_name,
        "story": json.dumps(story_as_dict(story)),
        "settings": json.dumps(asdict(settings)),
        "version": str(VERSION),
    }
    if anchor_story is not None:
        texts["lenders"] = json.dumps(story_as_dict(anchor_story))
    if filtered:
        texts["withheld"] = filtered
    info = PngInfo()
    for key, text in texts.items():
        # tEXt holds Latin-1 only; iTXt holds any text.
        if text.isascii():
            info.add_text(key, text)
        else:
            info.add_itxt(key, text)
    image.save(path, format="PNG", pnginfo=info)


def mark_subject(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the image with everything outside the mask (white: the subject) faded to a pale grey."""
    pale = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, "white"), 0.6)
    return Image.composite(image, pale, mask.convert("L"))


def read_frame(path: Path) -> FrameRecord:
    """Read how an image was generated; ValueError for an image without valid metadata."""
    with Image.open(path) as image:
        texts = dict(image.text) if image.format == "PNG" else {}
    for key in ("version", "prompt", "seed", "model", "story", "settings"):
        if key not in texts:
            raise ValueError(f"{path} has no {key}; it was not made by this program")
    _check_version(path, texts["version"], str(VERSION))
    if not texts["seed"].isdecimal():
        raise FieldError("seed", texts["seed"], "a whole number")
    return FrameRecord(
        prompt=texts["prompt"],
        seed=int(texts["seed"]),
        story=story_of(_parse(path, texts["story"])),
        settings=settings_of(_parse(path, texts["settings"])),
        model=texts["model"],
        anchor_story=story_of(_parse(path, texts["lenders"])) if "lenders" in texts else None,
        filtered=texts.get("withheld", ""),
    )


def write_story_json(
    folder: Path,
    story: Story,
    settings: Settings,
    model_name: str,
    pictures: Sequence[str | Path],
    masks: Sequence[str | Path] = (),
    seconds: float | None = None,
    frames: Sequence[int] | None = None,
    anchor_story: Story | None = None,
    filtered: Sequence[str] = (),
    preset: str = "",
    is_embedded: bool | None = None,
) -> Path:
    """Write `story.json` into `folder` and return its path.

    Args:
        pictures: Files in the folder, one for each of `frames`; only their names are stored.
        frames: Positions of the scenes of `pictures`, from 0; by default the first ones.
        masks: Files of the masks of these frames.
        filtered: As in `StoryRecord`.
        preset: Name of the preset that the settings come from, if known.
        is_embedded: `Model.is_embedded`, if known.
    """
    positions = range(len(story.scenes)) if frames is None else frames
    reasons = filtered or [""] * len(pictures)
    content = {
        "version": VERSION,
        "model": model_name,
        "story": story_as_dict(story),
        "settings": asdict(settings),
        "frames": [
            {"prompt": story.prompts[k], "seed": story.frame_seeds[k], "picture": Path(picture).name}
            | ({"withheld": reason} if reason else {})
            for k, picture, reason in zip(positions, pictures, reasons, strict=False)
        ],
        "masks": [Path(mask).name for mask in masks],
        "seconds": seconds,
    }
    if preset:
        content["preset"] = preset
    if is_embedded is not None:
        content["embedded"] = is_embedded
    if anchor_story is not None:
        content["lenders"] = story_as_dict(anchor_story)
    path = folder / FILE_NAME
    replace_file(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically: readers find the old content or the new, and two writers do not collide."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def read_story_json(path: Path) -> StoryRecord:
    """Read a `story.json`, or the one in a folder; ValueError for one that is not valid."""
    path = path / FILE_NAME if path.is_dir() else path
    content = _parse(path, path.read_text(encoding="utf-8"))
    for key in ("version", "model", "story", "settings", "frames"):
        if key not in content:
            raise ValueError(f"{path} has no {key}")
    _check_version(path, content["version"], VERSION)
    frames, masks, anchor_story = content["frames"], content.get("masks", []), content.get("lenders")
    if not isinstance(frames, list) or not all(isinstance(one, dict) and "picture" in one for one in frames):
        raise FieldError("frames", frames, "a list of objects that each name their picture")
    if not isinstance(masks, list):
        raise FieldError("masks", masks, "a list of file names")
    filtered = tuple(str(frame.get("withheld") or "") for frame in frames)
    settings = settings_of(content["settings"])
    return StoryRecord(
        story=story_of(content["story"]),
        settings=settings,
        model=content["model"],
        pictures=tuple(_plain_name(frame["picture"]) for frame in frames),
        masks=tuple(map(_plain_name, masks)),
        seconds=content.get("seconds"),
        anchor_story=None if anchor_story is None else story_of(anchor_story),
        prompts=tuple(str(frame.get("prompt", "")) for frame in frames),
        filtered=filtered if any(filtered) else (),
        preset=str(content.get("preset") or preset_of(settings)),
        is_embedded=bool(content.get("embedded", str(content["model"]).startswith(EMBEDDED_MODEL))),
        unknown=tuple(key for key in content if key not in PARTS),
    )


def story_as_dict(story: Story) -> dict[str, Any]:
    """Return the fields of a story as they are stored: texts and seeds of the scenes apart."""
    seeds = [scene.seed for scene in story.scenes]
    return {**asdict(story), "scenes": list(story.scene_texts), "seeds": seeds}


def story_of(values: Any) -> Story:
    """Return the story of stored fields; FieldError for a wrong one."""
    values = _object("story", values)
    scenes, seeds = values.get("scenes"), values.pop("seeds", None) or []
    if isinstance(scenes, list) and isinstance(seeds, list):
        if len(seeds) > len(scenes):
            raise FieldError("seeds", len(seeds), f"at most {len(scenes)}, one for each scene")
        seeds = [*seeds, *[None] * (len(scenes) - len(seeds))]
        values["scenes"] = list(zip(scenes, seeds, strict=True))
    return Story(**values)


def settings_of(values: Any) -> Settings:
    """Return the settings of stored fields; FieldError for a wrong one."""
    renamed = {RENAMED_SETTINGS.get(key, key): value for key, value in _object("settings", values).items()}
    for name in ("k_filter", "v_filter"):
        if isinstance(found := renamed.get(name), Mapping):
            renamed[name] = {RENAMED_FILTER_FIELDS.get(key, key): part for key, part in found.items()}
    return Settings(**renamed)


def _object(name: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise FieldError(name, values, "an object")
    return dict(values)


def _check_version(path: Path, found: Any, known: Any) -> None:
    if found != known:
        raise FieldError("version", found, f"{known} in {path}")


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _plain_name(name: Any) -> str:
    """Return a file name without a path out of its folder: records may come from strangers."""
    if not isinstance(name, str) or not name or name in (".", "..") or Path(name).name != name:
        raise FieldError("frames", name, "names of files beside story.json")
    return name
