"""Settings of the metrics. Imports no torch, so that options and pages can be built from it at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from consistory_svd.errors import FieldError
from consistory_svd.fields import field, validated
from consistory_svd.metrics.dreamsim_weights import check_backbone

OPENAI_CLIP = "openai/clip-vit-base-patch32"
DINO = "facebook/dino-vits16"
FILLS = ("noise", "grey")


def check_source(name: str, source: str) -> None:
    """FieldError, naming the field `name`, unless `source` is a folder or looks like a Hub id."""
    if not Path(source).is_dir() and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
        raise FieldError(name, source, "a folder or a Hub id, owner/name")


@validated
class ScoreSettings:
    """How scores are computed.

    Raises:
        FieldError: a value is not allowed.
    """

    backbone: str = field("DreamSim backbone", "DreamSim's network; papers use the ensemble.", "ensemble")
    clip: str = field("CLIP", "Folder or Hub id of a CLIP.", OPENAI_CLIP)
    dino: str = field("DINO", "Folder or Hub id of a DINO.", DINO)
    fill: Literal["noise", "grey"] = field(
        "Background", "What replaces the background when the subject is scored alone.", "noise"
    )
    seed: int = field("Noise seed", "Seed of the noise that replaces the background.", 0, ge=0)
    device: str = field("Device", "Torch device.", "cpu")
    batch: int = field("Batch", "Images that are embedded together.", 8, ge=1)
    cache: Path | None = field("Cache", "Folder of downloaded weights.", None)

    @model_validator(mode="after")
    def _check(self) -> ScoreSettings:
        check_backbone(self.backbone)
        for name in ("clip", "dino"):
            check_source(name, getattr(self, name))
        if self.device != "cpu":
            _check_device(self.device)
        return self


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # whichever torch raises
        raise FieldError("device", device, "an available device, such as 'cpu'") from error
