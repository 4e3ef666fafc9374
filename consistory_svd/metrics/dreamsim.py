"""DreamSim: perceptual distance between the images of a story (Fu et al. 2023)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from consistory_svd.compat import cure_torchvision

import torch
from PIL import Image
from torch import Tensor

from consistory_svd.downloads import cache_folder, fetch_command, is_complete
from consistory_svd.metrics.dreamsim_weights import dreamsim_folder
from consistory_svd.metrics.images import Embeddings, View, views
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
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.text_format import first_line

log = logging.getLogger(__name__)
PAPER = "arXiv 2501.13554, table 1"
PUBLISHED = {"SDXL": 0.5292, "ConsiStory": 0.3188, "StoryDiffusion": 0.3212, "1Prompt1Story": 0.1993}
SOURCE = f"{PAPER}: over that paper's stories, with its own masks and noise around the subject"


class DreamSim:
    """Mean pairwise DreamSim distance, on whole images and on the subject alone; lower is more similar."""

    name = "DreamSim"

    def __init__(self, settings: ScoreSettings, embeddings: Embeddings) -> None:
        self._settings = settings
        self._embeddings = embeddings
        self._cache = cache_folder(settings.cache)
        self._folder = dreamsim_folder(settings.backbone, self._cache)
        self._loaded: tuple[torch.nn.Module, Callable[[Image.Image], Tensor]] | None = None

    def measure(self, frames: Frames) -> list[Result]:
        """Distances of all pairs. Raises MetricUnavailable without package or weights, or with one image."""
        check_pairs(frames)
        self._check_weights()
        return [self._result(view) for view in views(frames, self._settings)]

    def free(self) -> None:
        """Release the weights."""
        self._loaded = None

    def _result(self, view: View) -> Result:
        backbone = self._settings.backbone
        found = self._embeddings.of(f"dreamsim {backbone}", view.images, self._embed, self._settings.batch)
        distances = 1 - cosine_matrix(found)
        unlike = self._unlike(view)
        return Result(
            name=f"{self.name}{view.suffix}",
            value=mean_of_pairs(distances),
            unit="distance",
            better="lower",
            model=f"dreamsim {importlib.metadata.version('dreamsim')}, {self._settings.backbone}",
            protocol=f"mean over all pairs of images, {view.protocol}, resized to 224 x 224",
            per_frame=means_per_frame(distances),
            matrix=rows(distances),
            published={} if unlike else PUBLISHED,
            source="" if unlike else SOURCE,
            unlike=unlike,
        )

    def _unlike(self, view: View) -> str:
        """How the protocol differs from that of the published values; empty if it does not."""
        differs = []
        if self._settings.backbone != "ensemble":
            differs.append(f"ensemble instead of {self._settings.backbone}")
        if not view.suffix:
            differs.append("the subject alone instead of whole images")
        elif self._settings.fill != "noise":
            differs.append(f"noise instead of {self._settings.fill} around the subject")
        return f"{PAPER} uses {'; '.join(differs)}" if differs else ""

    def _check_weights(self) -> None:
        if importlib.util.find_spec("dreamsim") is None:
            raise MetricUnavailable(
                "the package dreamsim is not installed", "Install it with `pip install dreamsim`."
            )
        if fault := cure_torchvision():
            raise MetricUnavailable(
                f"torchvision does not work here ({fault})",
                "Install the torchvision that was built for this torch: `pip install -r requirements.txt`.",
            )
        if not is_complete(self._folder):
            raise MetricUnavailable(
                f'weights for the "{self._settings.backbone}" backbone are missing or incomplete',
                fetch_command("dreamsim", self._cache, "--backbone", self._settings.backbone),
                fetch="dreamsim",
            )

    @torch.inference_mode()
    def _embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings, [n, d]; the distance of two images is one minus the cosine of theirs."""
        model, preprocess = self._model()
        pixels = torch.cat([preprocess(image) for image in images])
        return model.embed(pixels.to(self._settings.device))

    def _model(self) -> tuple[torch.nn.Module, Callable[[Image.Image], Tensor]]:
        if self._loaded is None:
            self._loaded = load_dreamsim(self._settings.backbone, self._folder, self._settings.device)
        return self._loaded


def load_dreamsim(
    backbone: str, folder: Path, device: str
) -> tuple[torch.nn.Module, Callable[[Image.Image], Tensor]]:
    """Load the model and its preprocessing with the `dreamsim` package from a complete folder of weights.

    Raises:
        MetricUnavailable: the package or the weights cannot be read.
        MemoryError, torch.OutOfMemoryError: they do not fit into memory.
    """
    hub = torch.hub.get_dir()
    output = io.StringIO()
    try:
        # The package prints, warns about its own use of peft, and changes torch.hub's folder for good.
        with contextlib.redirect_stdout(output), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from dreamsim import dreamsim

            return dreamsim(device=device, cache_dir=str(folder), dreamsim_type=backbone)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch.load alone raises half a dozen kinds for a corrupted file
        log.info("dreamsim could not be loaded", exc_info=True)
        raise MetricUnavailable(
            f"the package or its {backbone} weights cannot be read ({first_line(error)})",
            f"If the weights are corrupted, delete {folder} and download them again.",
        ) from error
    finally:
        torch.hub.set_dir(hub)
