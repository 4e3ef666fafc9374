"""CLIP and DINO networks of transformers: loaded from a folder or the cache, or downloaded from the Hub."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)
from transformers.modeling_utils import PreTrainedModel

from consistory_svd.downloads import (
    DownloadError,
    HubRepository,
    ProgressCallback,
    cache_folder,
    fetch_command,
    ignore_progress,
)
from consistory_svd.metrics.result import MetricUnavailable
from consistory_svd.metrics.settings import DINO, OPENAI_CLIP, ScoreSettings
from consistory_svd.text_format import first_line

log = logging.getLogger(__name__)
SMALL_FILES = ("*config.json", "tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json")
SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
# OpenAI's CLIP and the first DINO were published before safetensors; torch loads these as weights only.
PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
LOAD_OPTIONS: dict[Any, dict[str, Any]] = {
    ViTModel: {"add_pooling_layer": False},
    ViTForImageClassification: {"use_safetensors": True},
}


class NotDownloaded(MetricUnavailable):
    """A network is not in the cache, or not all of it."""


def from_cache(kind: Any, source: str, cache: Path) -> Any:
    """`kind.from_pretrained(source)` without network: from a folder, our cache, or the Hub's own cache.

    Raises:
        NotDownloaded: the network is in no cache.
        MetricUnavailable: a file is corrupted, or lacks weights, which transformers would initialise at
            random.
    """
    corrupted: MetricUnavailable | None = None
    for folder in [None] if Path(source).is_dir() else [str(cache / "hub"), None]:
        try:
            return _load(kind, source, folder)
        except MetricUnavailable as error:
            corrupted = error
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except OSError as error:
            # The usual case, so no traceback at the default log level.
            log.debug("%s is not in %s", source, folder or "the Hub's own cache", exc_info=True)
            missing = first_line(error)
        except Exception as error:  # a corrupted file: each format has its own exceptions
            log.info("%s cannot be read", source, exc_info=True)
            corrupted = MetricUnavailable(f"{source} cannot be read ({first_line(error)})")
    if corrupted is not None:
        raise corrupted
    if Path(source).is_dir():
        raise MetricUnavailable(f"the folder {source} cannot be read ({missing})")
    raise NotDownloaded(f"the weights of {source} are not downloaded")


def _load(kind: Any, source: str, cache_dir: str | None) -> Any:
    common = {"cache_dir": cache_dir, "local_files_only": True}
    if not issubclass(kind, PreTrainedModel):
        return kind.from_pretrained(source, **common)
    options = LOAD_OPTIONS.get(kind, {})
    model, report = kind.from_pretrained(source, output_loading_info=True, **common, **options)
    if missing := report["missing_keys"]:
        raise MetricUnavailable(
            f"{source} is not a complete {kind.__name__}: {len(missing)} weights are missing"
        )
    return model.eval()


def download_network(
    kinds: Sequence[Any],
    source: str,
    cache: Path,
    report: ProgressCallback = ignore_progress,
    endpoint: str | None = None,
) -> None:
    """Download what `from_cache` needs for these classes, unless it is present and can be read.

    Args:
        endpoint: a mirror of the Hub.

    Raises:
        DownloadError: the download failed, or what arrived cannot be used; one line.
    """
    try:
        _check_loads(kinds, source, cache)
        return
    except NotDownloaded:
        corrupted = False
    except MetricUnavailable as error:
        if Path(source).is_dir():
            raise DownloadError(f"weights: {error.why}; a folder is not downloaded") from error
        corrupted = True
    repository = HubRepository(source, "weights", endpoint=endpoint)
    _, listing = repository.files()
    files = {file.name: file for file in listing if "/" not in file.name}
    weights = _matching(files, SAFETENSORS) or _matching(files, PICKLED)
    wanted = [files[name] for name in (*_matching(files, SMALL_FILES), *weights)]
    hub = cache / "hub"
    repository.download(wanted, hub, report, cache_dir=hub, force_download=corrupted)
    try:
        _check_loads(kinds, source, cache)
    except MetricUnavailable as error:
        raise DownloadError(f"weights: the downloaded files cannot be used: {error.why}") from error


def _check_loads(kinds: Sequence[Any], source: str, cache: Path) -> None:
    for kind in kinds:
        from_cache(kind, source, cache)


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


class _Network:
    """The parts of a network, loaded on first use.

    Args:
        source: a folder or a Hub id.
        settings: say the device and the cache folder.
    """

    WHAT: str
    DEFAULT: str
    PARTS: tuple[Any, ...]

    def __init__(self, source: str, settings: ScoreSettings) -> None:
        self.source = source
        self._cache = cache_folder(settings.cache)
        self._device = settings.device
        self._parts: tuple[Any, ...] | None = None

    def load(self) -> tuple[Any, ...]:
        """The model and its processors, as in PARTS. Raises MetricUnavailable."""
        if self._parts is None:
            try:
                model, *processors = (from_cache(kind, self.source, self._cache) for kind in self.PARTS)
            except MetricUnavailable as error:
                if Path(self.source).is_dir():
                    raise
                flags = () if self.source == self.DEFAULT else ("--model", self.source)
                remedy = fetch_command(self.WHAT, self._cache, *flags)
                raise MetricUnavailable(error.why, remedy, self.WHAT) from error
            self._parts = (model.to(self._device), *processors)
        return self._parts

    def free(self) -> None:
        """Release the weights."""
        self._parts = None


class Clip(_Network):
    """A CLIP model: images and texts in one embedding space."""

    WHAT = "clip"
    DEFAULT = OPENAI_CLIP
    PARTS = (CLIPModel, CLIPTokenizer, CLIPImageProcessorPil)

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Projected image embeddings, [n, d]."""
        model, _, processor = self.load()
        pixels = processor([image.convert("RGB") for image in images], return_tensors="pt").pixel_values
        return model.get_image_features(pixels.to(self._device)).pooler_output

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Projected text embeddings, [n, d]; long texts are truncated."""
        model, tokenizer, _ = self.load()
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens(), return_tensors="pt"
        ).to(self._device)
        return model.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output

    def max_tokens(self) -> int:
        """The number of tokens that the model reads, start and end included: 77 for OpenAI's."""
        return self.load()[0].config.text_config.max_position_embeddings

    def truncation_notes(self, texts: Sequence[str]) -> tuple[str, ...]:
        """A note for each text that is too long; texts are numbered from 1, as their images."""
        tokenizer, limit = self.load()[1], self.max_tokens()
        lengths = [len(tokenizer(text, verbose=False).input_ids) for text in texts]
        return tuple(
            f"the prompt of image {k} has {length} tokens and is truncated: CLIP reads the first {limit}"
            for k, length in enumerate(lengths, start=1)
            if length > limit
        )


class Dino(_Network):
    """A self-supervised vision transformer (Caron et al. 2021)."""

    WHAT = "dino"
    DEFAULT = DINO
    PARTS = (ViTModel, ViTImageProcessorPil)

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Class tokens, [n, d]."""
        model, processor = self.load()
        pixels = processor([image.convert("RGB") for image in images], return_tensors="pt").pixel_values
        return model(pixels.to(self._device)).last_hidden_state[:, 0]
