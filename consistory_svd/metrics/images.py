"""The images that metrics embed (whole, or the subject alone), and a cache of embeddings."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from consistory_svd.metrics.result import Frames, MissingScore
from consistory_svd.metrics.settings import ScoreSettings

log = logging.getLogger(__name__)
GREY = 128
# An embedding has up to about 2,000 numbers: this many take up to 40 MB.
MAX_EMBEDDINGS = 4096


@dataclass(frozen=True)
class View:
    """Images as a metric sees them, and the text for its name and protocol."""

    images: tuple[Image.Image, ...]
    suffix: str
    protocol: str


def views(frames: Frames, settings: ScoreSettings) -> list[View]:
    """The whole images and, if every image has a mask that is not empty, the subjects alone."""
    found = [View(frames.images, "", "whole images")]
    if missing_subject(frames) is None:
        pairs = zip(frames.images, frames.masks, strict=True)
        alone = tuple(subject_only(image, mask, settings) for image, mask in pairs)
        fill = f"uniform noise of seed {settings.seed}" if settings.fill == "noise" else "grey"
        found.append(
            View(alone, " (subject only)", f"subject by the given masks, background replaced by {fill}")
        )
    return found


def missing_subject(frames: Frames) -> MissingScore | None:
    """Why the subject cannot be scored alone; None if it can."""
    name = "Every subject-only score"
    unknown = [k + 1 for k, mask in enumerate(frames.masks) if mask is None]
    if unknown:
        return MissingScore(name, f"there is no subject mask for {_numbered(unknown)}")
    empty = [k + 1 for k, mask in enumerate(frames.masks) if not _inside(mask, mask.size).any()]
    return MissingScore(name, f"the subject mask is empty for {_numbered(empty)}") if empty else None


def _numbered(numbers: Sequence[int]) -> str:
    return f"image{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def subject_only(image: Image.Image, mask: Image.Image, settings: ScoreSettings) -> Image.Image:
    """The image with everything outside its mask replaced by uniform noise or by grey.

    Each image has its own noise, as in the protocol of arXiv 2501.13554. Here its seed depends on the mask,
    so that neither the order of the images nor their backgrounds change it; equal masks share noise.
    """
    pixels = np.array(image.convert("RGB"))
    inside = _inside(mask, image.size)
    if settings.fill == "grey":
        pixels[~inside] = GREY
        return Image.fromarray(pixels)
    digest = hashlib.sha256(f"{image.size}".encode() + np.packbits(inside).tobytes()).digest()
    generator = np.random.default_rng([settings.seed, *np.frombuffer(digest, np.uint32).tolist()])
    pixels[~inside] = generator.integers(0, 256, (int((~inside).sum()), 3), np.uint8)
    return Image.fromarray(pixels)


def _inside(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """A mask as booleans, [height, width], resized to (width, height)."""
    grey = mask.convert("L")
    return np.asarray(grey if grey.size == size else grey.resize(size, Image.NEAREST)) >= 128


def fingerprint(item: Image.Image | str) -> str:
    """A hash of the content of an image or a text."""
    if isinstance(item, str):
        return hashlib.sha256(item.encode()).hexdigest()
    pixels = item.convert("RGB")
    return hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).hexdigest()


class Embeddings:
    """A least-recently-used cache of embeddings, by content and setting, on the CPU."""

    def __init__(self, limit: int = MAX_EMBEDDINGS) -> None:
        self._cached: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._limit = limit

    def of(
        self,
        setting: str,
        items: Sequence[Image.Image] | Sequence[str],
        embed: Callable[[Sequence], Tensor],
        batch: int = 8,
    ) -> Tensor:
        """Embeddings of the items, [n, d]; `embed` is called only for those that are not cached.

        Args:
            setting: identifies everything but the item that an embedding depends on.
        """
        keys = [(setting, fingerprint(item)) for item in items]
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in self._cached}
        found = {key: self._cached[key] for key in keys if key in self._cached}
        if missing:
            fresh = in_batches(list(missing.values()), embed, batch)
            found |= dict(zip(missing, fresh, strict=True))
        for key in keys:
            self._cached[key] = found[key]
            self._cached.move_to_end(key)
        while len(self._cached) > self._limit:
            self._cached.popitem(last=False)
        return torch.stack([found[key] for key in keys])


def in_batches(items: Sequence, embed: Callable[[Sequence], Tensor], batch: int) -> Tensor:
    """Embed all items, as float32 on the CPU; the batch is halved when the device runs out of memory."""
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
            log.info("out of memory; embedding %d images at a time", batch)
            continue
        start += batch
    return torch.cat(done)
