"""What is kept of a story: pictures that know how they were made, and `story.json`."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from consistory_svd.errors import FieldError, one_of
from consistory_svd.settings import Settings, Story

VERSION = 1
RENAMED = {"spectrum_k": "k_filter", "spectrum_v": "v_filter"}  # settings of version 1
FILE_NAME = "story.json"
PARTS = ("version", "model", "story", "settings", "frames", "masks", "seconds", "lenders")


@dataclass(frozen=True)
class FrameRecord:
    """How one picture was made. `lenders` is the story that its anchors were told from, where that is another
    one: anchors stay as they were when a scene of theirs is told anew. `withheld` says why a plain picture
    stands in its place (`events.Withheld`), if one does."""

    prompt: str
    seed: int
    story: Story
    settings: Settings
    model: str
    anchor_story: Story | None = None
    filtered: str = ""


@dataclass(frozen=True)
class StoryRecord:
    """A told story: `pictures` and `masks` are file names relative to its folder, in the order of its scenes.

    A cancelled story has fewer pictures than scenes; `masks` is empty where none were kept. `lenders` is as
    in `FrameRecord`. `prompts` are the pictures' own. `withheld` says of each why it is a plain one, and is
    empty where none is; those that are have no mask among `masks`. `unknown` are parts of the file that mean
    nothing here.
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
    unknown: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Of each of `pictures` why it is withheld, or an empty text."""
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
    """Write a picture as PNG with its making in text chunks: prompt, seed, model; story, settings and, where
    they are another story's, lenders as JSON; and where it is a plain one, why the picture is withheld."""
    info = PngInfo()
    texts = {
        "prompt": prompt,
        "seed": str(seed),
        "model": model_name,
        "story": json.dumps(asdict(story)),
        "settings": json.dumps(asdict(settings)),
        "version": str(VERSION),
    }
    if anchor_story is not None:
        texts["lenders"] = json.dumps(asdict(anchor_story))
    if filtered:
        texts["withheld"] = filtered
    for key, text in texts.items():
        # tEXt holds Latin-1 only; iTXt is the same for all other writing.
        if text.isascii():
            info.add_text(key, text)
        else:
            info.add_itxt(key, text)
    image.save(path, format="PNG", pnginfo=info)


def mark_subject(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with everything but its subject paled and grey, so that the mask (white: the subject) and
    the picture are seen at once."""
    pale = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, "white"), 0.6)
    return Image.composite(image, pale, mask.convert("L"))


def read_frame(path: Path) -> FrameRecord:
    """Read how a picture was made. ValueError, naming what is wrong, for a picture without such a record."""
    with Image.open(path) as image:
        texts = dict(image.text) if image.format == "PNG" else {}
    for key in ("version", "prompt", "seed", "model", "story", "settings"):
        if key not in texts:
            raise ValueError(f"{path} has no {key}; it was not made by this program")
    _check_version(path, texts["version"], str(VERSION))
    return FrameRecord(
        prompt=texts["prompt"],
        seed=_whole("seed", texts["seed"]),
        story=story_of(_parse(path, texts["story"])),
        settings=settings_of(_parse(path, texts["settings"])),
        model=texts["model"],
        anchor_story=_anchor_story(_parse(path, texts["lenders"])) if "lenders" in texts else None,
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
) -> Path:
    """Write `story.json` into `folder` and return its path.

    `pictures` and `masks` are files in the folder, one a frame of `frames` (positions from 0; by default from
    the first on); only their names are kept. `withheld` is as in `StoryRecord`.
    """
    positions = range(len(story.scenes)) if frames is None else frames
    reasons = filtered or [""] * len(pictures)
    content = {
        "version": VERSION,
        "model": model_name,
        "story": asdict(story),
        "settings": asdict(settings),
        "frames": [
            {"prompt": story.prompts[k], "seed": story.frame_seeds[k], "picture": Path(picture).name}
            | ({"withheld": why} if why else {})
            for k, picture, why in zip(positions, pictures, reasons, strict=False)
        ],
        "masks": [Path(mask).name for mask in masks],
        "seconds": seconds,
    }
    if anchor_story is not None:
        content["lenders"] = asdict(anchor_story)
    path = folder / FILE_NAME
    replace_file(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that whoever reads it finds the old content or the new, never a half, and that two may
    write it at once."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def read_story_json(path: Path) -> StoryRecord:
    """Read a `story.json`, or the one in a folder. ValueError, naming the field where it differs."""
    path = path / FILE_NAME if path.is_dir() else path
    content = _parse(path, path.read_text(encoding="utf-8"))
    for key in ("version", "model", "story", "settings", "frames"):
        if key not in content:
            raise ValueError(f"{path} has no {key}")
    _check_version(path, content["version"], VERSION)
    return StoryRecord(
        story=story_of(content["story"]),
        settings=settings_of(content["settings"]),
        model=content["model"],
        pictures=tuple(_plain_name(name) for name in _pictures(content["frames"])),
        masks=tuple(_plain_name(name) for name in _masks(content.get("masks", []))),
        seconds=content.get("seconds"),
        anchor_story=_anchor_story(content.get("lenders")),
        prompts=tuple(str(frame.get("prompt", "")) for frame in content["frames"]),
        filtered=_filtered(content["frames"]),
        unknown=tuple(key for key in content if key not in PARTS),
    )


def story_of(values: Any) -> Story:
    """The story that a mapping of its fields describes. ValueError, naming the field where it differs."""
    return _build(Story, "story", values)


def settings_of(values: Any) -> Settings:
    """The settings that a mapping of their fields describes. ValueError as `story_of`."""
    return _build(Settings, "settings", values)


def _anchor_story(values: Any) -> Story | None:
    return None if values is None else _build(Story, "lenders", values)


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


def _build(kind: type, name: str, values: Any) -> Any:
    known = {item.name for item in fields(kind)}
    if not isinstance(values, Mapping):
        raise FieldError(name, values, "an object")
    values = {RENAMED.get(key, key): part for key, part in values.items()}
    for key in values:
        if key not in known:
            raise FieldError(f"field of {name}", key, one_of(sorted(known)))
    needed = {item.name for item in fields(kind) if item.default is item.default_factory is MISSING}
    for key in sorted(needed - set(values)):
        raise ValueError(f"{name} has no {key}")
    return kind(**values)


def _pictures(frames: Any) -> list[Any]:
    if not isinstance(frames, list) or not all(
        isinstance(frame, dict) and "picture" in frame for frame in frames
    ):
        raise FieldError("frames", frames, "a list of objects that each name their picture")
    return [frame["picture"] for frame in frames]


def _filtered(frames: list[dict[str, Any]]) -> tuple[str, ...]:
    reasons = tuple(str(frame.get("withheld") or "") for frame in frames)
    return reasons if any(reasons) else ()


def _masks(masks: Any) -> list[Any]:
    if not isinstance(masks, list):
        raise FieldError("masks", masks, "a list of file names")
    return masks


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise FieldError(name, text, "a whole number")
    return int(text)


def _plain_name(name: str) -> str:
    """A file's name without a way out of its folder: records may come from strangers."""
    if not isinstance(name, str) or not name or name in (".", "..") or Path(name).name != name:
        raise FieldError("frames", name, "names of files beside story.json")
    return name
