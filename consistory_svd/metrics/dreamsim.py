"""DreamSim consistency: how far apart the frames of a story are to a human eye (Fu et al. 2023)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from consistory_svd.compat import torchvision_fault
from consistory_svd.metrics.dreamsim_weights import check_backbone, dreamsim_folder, fetch_command, is_whole
from consistory_svd.metrics.images import Embeddings, Subject, View, views
from consistory_svd.metrics.result import (
    Frames,
    MetricUnavailable,
    Result,
    check_pairs,
    cosine_matrix,
    mean_of_pairs,
    means_per_frame,
    rows,
)

log = logging.getLogger(__name__)
PAPER = "arXiv 2501.13554, table 1"
PUBLISHED = {"SDXL": 0.5292, "ConsiStory": 0.3188, "StoryDiffusion": 0.3212, "1Prompt1Story": 0.1993}
SOURCE = f"{PAPER}: over that paper's stories, with masks of its own and noise around them"


class DreamSim:
    """Mean pairwise DreamSim distance, on whole pictures and on the subject alone; lower is more alike.

    `backbone` is a type of the `dreamsim` package, "ensemble" in the papers; `cache` the folder of weights.
    """

    name = "DreamSim"

    def __init__(
        self,
        embeddings: Embeddings,
        cache: Path,
        backbone: str = "ensemble",
        subject: Subject | None = None,
        device: str = "cpu",
        batch: int = 8,
    ) -> None:
        check_backbone(backbone)
        self.backbone = backbone
        self._embeddings = embeddings
        self._cache = cache
        self._folder = dreamsim_folder(backbone, cache)
        self._subject = subject or Subject()
        self._device = device
        self._batch = batch
        self._loaded: tuple[torch.nn.Module, Callable[[Image.Image], Tensor]] | None = None

    def measure(self, frames: Frames) -> list[Result]:
        """Distances of all pairs, n at least 2. Raises Unavailable where package or weights are missing."""
        check_pairs(frames)
        self._check_weights()
        return [self._result(view) for view in views(frames, self._subject)]

    def free(self) -> None:
        """Let the weights go."""
        self._loaded = None

    def _result(self, view: View) -> Result:
        found = self._embeddings.of(f"dreamsim {self.backbone}", view.images, self._embed, self._batch)
        distances = 1 - cosine_matrix(found)
        unlike = self._unlike(view)
        return Result(
            name=f"{self.name}{view.suffix}",
            value=mean_of_pairs(distances),
            unit="distance",
            better="lower",
            model=f"dreamsim {importlib.metadata.version('dreamsim')}, {self.backbone}",
            protocol=f"mean over all pairs of frames, {view.protocol}, squashed to 224 x 224",
            per_frame=means_per_frame(distances),
            matrix=rows(distances),
            published={} if unlike else PUBLISHED,
            source="" if unlike else SOURCE,
            unlike=unlike,
        )

    def _unlike(self, view: View) -> str:
        """What differs from the protocol of the published values; empty where nothing does."""
        differs = []
        if self.backbone != "ensemble":
            differs.append(f"the backbone is {self.backbone} and there the ensemble")
        if not view.suffix:
            differs.append("these are whole pictures and there the subject alone")
        elif self._subject.fill != "noise":
            differs.append(f"around the subject is {self._subject.fill} and there noise")
        return f"{PAPER} measures otherwise: {'; '.join(differs)}" if differs else ""

    def _check_weights(self) -> None:
        if importlib.util.find_spec("dreamsim") is None:
            raise MetricUnavailable(
                "the package dreamsim is not installed", "Get it by `pip install dreamsim`."
            )
        if fault := torchvision_fault():
            raise MetricUnavailable(
                f"it needs torchvision, which does not work here ({fault})",
                "Install the torchvision that was built for this torch: `pip install -r requirements.txt`.",
            )
        if not is_whole(self._folder):
            raise MetricUnavailable(
                f"the weights of its {self.backbone} backbone are not here, or not whole",
                fetch_command("dreamsim", self._cache, "--backbone", self.backbone),
                fetch="dreamsim",
            )

    @torch.inference_mode()
    def _embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings [n, d]; the distance of two pictures is one minus the cosine of theirs."""
        model, preprocess = self._model()
        pixels = torch.cat([preprocess(image) for image in images])
        return model.embed(pixels.to(self._device))

    def _model(self) -> tuple[torch.nn.Module, Callable[[Image.Image], Tensor]]:
        if self._loaded is None:
            self._loaded = load_dreamsim(self.backbone, self._folder, self._device)
        return self._loaded


def load_dreamsim(
    backbone: str, folder: Path, device: str
) -> tuple[torch.nn.Module, Callable[[Image.Image], Tensor]]:
    """The model and its preprocessing, by the `dreamsim` package itself, out of a whole folder of weights.

    Raises Unavailable where the package or the weights cannot be read, MemoryError where they do not fit.
    """
    hub = torch.hub.get_dir()
    said = io.StringIO()
    try:
        # The package prints, warns of its own use of peft, and points torch.hub elsewhere for good.
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from dreamsim import dreamsim

            return dreamsim(device=device, cache_dir=str(folder), dreamsim_type=backbone)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch.load alone has half a dozen ways to refuse a file
        log.info("dreamsim could not be loaded", exc_info=True)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MetricUnavailable(
            f"the package or its {backbone} weights cannot be read ({first})",
            f"If the weights are spoilt, remove {folder} and fetch them again.",
        ) from error
    finally:
        torch.hub.set_dir(hub)
