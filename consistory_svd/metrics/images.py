"""What scores look at: whole pictures, or the subject alone; and embeddings that are computed only once."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from consistory_svd.metrics.result import Frames, MissingScore

log = logging.getLogger(__name__)
Fill = Literal["noise", "grey"]
FILLS: tuple[Fill, ...] = ("noise", "grey")
GREY = 128
# An embedding has at most some two thousand numbers: this many take 40 MB at the most.
MOST_KEPT = 4096


@dataclass(frozen=True)
class Subject:
    """How the subject is set apart: what takes the place of the rest, and the seed of its noise."""

    fill: Fill = "noise"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise ValueError(f"fill: {self.fill!r} is not allowed; give one of {', '.join(FILLS)}")


@dataclass(frozen=True)
class View:
    """Pictures as a score sees them, and the words that go into its name and its protocol."""

    images: tuple[Image.Image, ...]
    suffix: str
    protocol: str


def views(frames: Frames, subject: Subject) -> list[View]:
    """The whole pictures and, where every frame has a mask with something in it, the subjects alone."""
    seen = [View(frames.images, "", "whole pictures")]
    if missing_subject(frames) is None:
        pairs = zip(frames.images, frames.masks, strict=True)
        alone = tuple(subject_only(image, mask, subject) for image, mask in pairs)
        rest = f"uniform noise of seed {subject.seed}" if subject.fill == "noise" else "grey"
        words = f"subject by the given masks, the rest replaced by {rest}"
        seen.append(View(alone, " (subject only)", words))
    return seen


def missing_subject(frames: Frames) -> MissingScore | None:
    """Why the subject cannot be scored alone; None where it can."""
    name = "Every subject-only score"
    unknown = [k + 1 for k, mask in enumerate(frames.masks) if mask is None]
    if unknown:
        return MissingScore(name, f"there is no subject mask for {_pictures(unknown)}")
    empty = [k + 1 for k, mask in enumerate(frames.masks) if not _inside(mask, mask.size).any()]
    return MissingScore(name, f"the subject mask is empty for {_pictures(empty)}") if empty else None


def _pictures(numbers: Sequence[int]) -> str:
    return f"picture{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def subject_only(image: Image.Image, mask: Image.Image, subject: Subject) -> Image.Image:
    """The picture with everything outside its mask replaced by uniform noise or by grey.

    The noise of different pictures differs, as in the protocol of arXiv 2501.13554, where it is drawn afresh
    for each. Here its seed is taken from the mask: neither the order of the frames nor what stood in the
    background changes it, and only where masks are the same to the pixel is the noise the same.
    """
    pixels = np.array(image.convert("RGB"))
    inside = _inside(mask, image.size)
    if subject.fill == "grey":
        pixels[~inside] = GREY
        return Image.fromarray(pixels)
    digest = hashlib.sha256(f"{image.size}".encode() + np.packbits(inside).tobytes()).digest()
    generator = np.random.default_rng([subject.seed, *np.frombuffer(digest, np.uint32).tolist()])
    pixels[~inside] = generator.integers(0, 256, (int((~inside).sum()), 3), np.uint8)
    return Image.fromarray(pixels)


def _inside(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """A mask as booleans [height, width] at the picture's (width, height)."""
    grey = mask.convert("L")
    return np.asarray(grey if grey.size == size else grey.resize(size, Image.NEAREST)) >= 128


def fingerprint(item: Image.Image | str) -> str:
    """What a picture or a text holds, in a few letters: the same content has the same fingerprint."""
    if isinstance(item, str):
        return hashlib.sha256(item.encode()).hexdigest()
    pixels = item.convert("RGB")
    return hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).hexdigest()


class Embeddings:
    """Embeddings by what was embedded and by setting, on the CPU; the longest unused go first."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._kept: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._most = most

    def of(
        self,
        setting: str,
        items: Sequence[Image.Image] | Sequence[str],
        embed: Callable[[Sequence], Tensor],
        batch: int = 8,
    ) -> Tensor:
        """Embeddings [n, d] of the items; `embed` is called for those alone that are not kept.

        `setting` names everything but the item that an embedding depends on.
        """
        keys = [(setting, fingerprint(item)) for item in items]
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key in self._kept}
        if missing:
            fresh = in_batches(list(missing.values()), embed, batch)
            found |= dict(zip(missing, fresh, strict=True))
        for key in keys:
            self._kept[key] = found[key]
            self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return torch.stack([found[key] for key in keys])


def in_batches(items: Sequence, embed: Callable[[Sequence], Tensor], batch: int) -> Tensor:
    """`embed` of all items, float32 on the CPU; with smaller batches where the device's memory is short."""
    done: list[Tensor] = []
    start = 0
    while start < len(items):
        try:
            done.append(embed(items[start : start + batch]).float().cpu())
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch = max(1, batch // 2)
            torch.cuda.empty_cache()
            log.info("memory is short; scoring %d pictures at a time", batch)
            continue
        start += batch
    return torch.cat(done)
