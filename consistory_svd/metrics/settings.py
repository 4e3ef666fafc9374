"""Settings of the metrics. Imports no torch, so that options and pages can be built from it at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from consistory_svd.errors import FieldError, one_of
from consistory_svd.metrics.dreamsim_weights import check_backbone

OPENAI_CLIP = "openai/clip-vit-base-patch32"
DINO = "facebook/dino-vits16"
Fill = Literal["noise", "grey"]
FILLS: tuple[Fill, ...] = ("noise", "grey")


def check_source(field: str, source: str) -> None:
    """ValueError, naming `field`, unless `source` is a folder or looks like a Hub id."""
    if not Path(source).is_dir() and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
        raise FieldError(field, source, "a folder or a Hub id, owner/name")


@dataclass(frozen=True)
class Subject:
    """How a subject is isolated: what replaces the background, and the seed of the noise.

    Raises:
        ValueError: the fill is unknown.
    """

    fill: Fill = "noise"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise FieldError("fill", self.fill, one_of(FILLS))


@dataclass(frozen=True)
class ScoreSettings:
    """How scores are computed.

    Attributes:
        backbone: DreamSim's network.
        clip, dino: folders or Hub ids.
        fill, seed: as in `Subject`.
        device: a torch device.
        batch: images that are embedded together.
        cache: the folder of downloaded weights; None: as in `downloads.cache_folder`.

    Raises:
        ValueError: a value is not allowed; the message names the field.
    """

    backbone: str = "ensemble"
    clip: str = OPENAI_CLIP
    dino: str = DINO
    fill: Fill = "noise"
    seed: int = 0
    device: str = "cpu"
    batch: int = 8
    cache: Path | None = None

    def __post_init__(self) -> None:
        check_backbone(self.backbone)
        Subject(self.fill, self.seed)
        for name in ("clip", "dino"):
            check_source(name, getattr(self, name))
        if self.device != "cpu":
            _check_device(self.device)
        for name, smallest in (("seed", 0), ("batch", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise FieldError(name, value, f"a whole number from {smallest}")


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # whichever torch raises
        raise FieldError("device", device, "an available device, such as 'cpu'") from error
