"""Networks of transformers that scores embed with: from a folder, or from what is kept of the hub."""

from __future__ import annotations

import fnmatch
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, hf_hub_download
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)
from transformers.modeling_utils import PreTrainedModel

from consistory_svd.metrics.dreamsim_weights import TIMEOUT_SECONDS, FetchError, Report
from consistory_svd.metrics.result import MetricUnavailable

log = logging.getLogger(__name__)
SMALL_FILES = ("*config.json", "tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json")
SAFE_WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
# What is passed on when a network is loaded, beside where it is.
EXTRA: dict[Any, dict[str, Any]] = {
    ViTModel: {"add_pooling_layer": False},
    ViTForImageClassification: {"use_safetensors": True},
}
OLD_WEIGHTS = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


class NotHere(MetricUnavailable):
    """Nothing is kept of a network of the hub, or not all of it."""


def check_place(name: str, place: str) -> None:
    """ValueError, with `name` as the field, unless `place` is a folder or looks like a hub id."""
    if not Path(place).is_dir() and (place.count("/") != 1 or place.startswith((".", "/", "~"))):
        raise ValueError(f"{name}: {place!r} is not allowed; it is no folder and no hub id, owner/name")


def from_cache(kind: Any, place: str, cache: Path) -> Any:
    """`kind.from_pretrained(place)` without network: a folder, the hub's own cache, or ours.

    Raises NotHere; and Unavailable where a file is spoilt or lacks weights, which transformers would fill in
    at random.
    """
    corrupted: MetricUnavailable | None = None
    for kept in [None] if Path(place).is_dir() else [str(cache / "hub"), None]:
        try:
            return _load(kind, place, cache_dir=kept, local_files_only=True)
        except MetricUnavailable as error:
            corrupted = error
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except OSError as error:
            # Nothing wrong, so no traceback unless someone looks for it: few people have all weights.
            log.debug("%s is not in %s", place, kept or "the hub's own cache", exc_info=True)
            missing = _first_line(error)
        except Exception as error:  # a spoilt file: each format has its own way to refuse it
            log.info("%s cannot be read", place, exc_info=True)
            corrupted = MetricUnavailable(f"{place} cannot be read ({_first_line(error)})")
    if corrupted is not None:
        raise corrupted
    if Path(place).is_dir():
        raise MetricUnavailable(f"the folder {place} cannot be read ({missing})")
    raise NotHere(f"the weights of {place} are not here")


def fetch_network(
    kinds: Sequence[Any],
    place: str,
    cache: Path,
    report: Report = lambda done, whole: None,
    endpoint: str | None = None,
) -> None:
    """Fetch what `from_cache` will find, unless it is there. Raises FetchError in one line.

    A file appears under its name only when all of it is there, with the size that the hub tells; what is
    there and cannot be read is fetched anew. `endpoint` is a mirror of the hub.
    """
    try:
        _check_kept(kinds, place, cache)
        return
    except NotHere:
        full_run = False
    except MetricUnavailable as error:
        if Path(place).is_dir():
            raise FetchError(f"weights: {error.why}; a folder is not fetched") from error
        full_run = True
    try:
        _download(place, cache / "hub", full_run, report, endpoint)
    except Exception as error:  # no network, no such model, no room: the hub's client has a kind for each
        log.info("%s cannot be fetched", place, exc_info=True)
        raise FetchError(f"weights: {place} cannot be had: {_first_line(error)}") from error
    try:
        _check_kept(kinds, place, cache)
    except MetricUnavailable as error:
        raise FetchError(f"weights: what arrived is no use: {error.why}") from error


def _check_kept(kinds: Sequence[Any], place: str, cache: Path) -> None:
    for kind in kinds:
        from_cache(kind, place, cache)


def _download(place: str, folder: Path, full_run: bool, report: Report, endpoint: str | None) -> None:
    """All files of a network that are read, one after another, into a cache in the hub's own layout."""
    said = HfApi(endpoint=endpoint).model_info(place, files_metadata=True, timeout=TIMEOUT_SECONDS)
    sizes = {file.rfilename: file.size or 0 for file in said.siblings or () if "/" not in file.rfilename}
    # One set of weights: transformers takes safetensors where a network has both.
    weights = _matching(sizes, SAFE_WEIGHTS) or _matching(sizes, OLD_WEIGHTS)
    wanted = [*_matching(sizes, SMALL_FILES), *weights]
    whole, done = sum(sizes[name] for name in wanted), 0
    for name in wanted:
        hf_hub_download(
            place,
            name,
            cache_dir=folder,
            force_download=full_run,
            endpoint=endpoint,
            tqdm_class=_bar_that_tells(done, whole, report),
        )
        done += sizes[name]
        report(done, whole)


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def _bar_that_tells(before: int, whole: int, report: Report) -> type[tqdm]:
    """A silent bar for the hub's client, which tells its progress to bars alone."""

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)  # the client's own bars take it, tqdm's do not
            super().__init__(*arguments, **(options | {"file": io.StringIO(), "disable": False}))

        def update(self, n: float | None = 1) -> bool | None:
            drawn = super().update(n)
            report(before + int(self.n), whole)
            return drawn

    return Bar


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _load(kind: Any, place: str, cache_dir: str | None, local_files_only: bool) -> Any:
    common = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    if not issubclass(kind, PreTrainedModel):
        return kind.from_pretrained(place, **common)
    model, report = kind.from_pretrained(place, output_loading_info=True, **common, **EXTRA.get(kind, {}))
    if report["missing_keys"]:
        raise MetricUnavailable(
            f"{place} holds no whole {kind.__name__}: {len(report['missing_keys'])} weights lack"
        )
    return model.eval()


class Clip:
    """A CLIP of transformers as two functions into one space. Loads when first used.

    `remedy` is said when it is not here.
    """

    WHAT = "clip"
    PARTS = (CLIPModel, CLIPTokenizer, CLIPImageProcessorPil)

    def __init__(self, place: str, cache: Path, device: str, remedy: str = "") -> None:
        self.place = place
        self._cache = cache
        self._device = device
        self._remedy = remedy
        self._parts: tuple[CLIPModel, CLIPTokenizer, CLIPImageProcessorPil] | None = None

    def load(self) -> tuple[CLIPModel, CLIPTokenizer, CLIPImageProcessorPil]:
        """Model, tokenizer, image processor. Raises Unavailable."""
        if self._parts is None:
            try:
                model, *others = (from_cache(kind, self.place, self._cache) for kind in self.PARTS)
            except MetricUnavailable as error:
                raise MetricUnavailable(error.why, self._remedy, self.WHAT if self._remedy else "") from error
            self._parts = (model.to(self._device), *others)
        return self._parts

    def free(self) -> None:
        """Let the weights go."""
        self._parts = None

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Projected embeddings [n, d] of pictures."""
        model, _, processor = self.load()
        pixels = processor([image.convert("RGB") for image in images], return_tensors="pt").pixel_values
        return model.get_image_features(pixels.to(self._device)).pooler_output

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Projected embeddings [n, d] of texts; what is too long is cut off."""
        model, tokenizer, _ = self.load()
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.most_tokens(), return_tensors="pt"
        ).to(self._device)
        return model.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output

    def most_tokens(self) -> int:
        """How many tokens the model reads, start and end included: 77 for OpenAI's."""
        return self.load()[0].config.text_config.max_position_embeddings

    def truncated(self, texts: Sequence[str]) -> tuple[str, ...]:
        """A line for each text that is too long; texts are named by their picture, counted from 1."""
        tokenizer, most = self.load()[1], self.most_tokens()
        lengths = [len(tokenizer(text, verbose=False).input_ids) for text in texts]
        return tuple(
            f"the prompt of picture {k} has {length} tokens and is truncated: CLIP reads the first {most}"
            for k, length in enumerate(lengths, start=1)
            if length > most
        )


class Dino:
    """A self-supervised vision transformer (Caron et al. 2021): its class token. Loads when first used."""

    WHAT = "dino"
    PARTS = (ViTModel, ViTImageProcessorPil)

    def __init__(self, place: str, cache: Path, device: str, remedy: str = "") -> None:
        self.place = place
        self._cache = cache
        self._device = device
        self._remedy = remedy
        self._parts: tuple[ViTModel, ViTImageProcessorPil] | None = None

    def load(self) -> tuple[ViTModel, ViTImageProcessorPil]:
        """Model and image processor. Raises Unavailable."""
        if self._parts is None:
            try:
                model, processor = (from_cache(kind, self.place, self._cache) for kind in self.PARTS)
            except MetricUnavailable as error:
                raise MetricUnavailable(error.why, self._remedy, self.WHAT if self._remedy else "") from error
            self._parts = model.to(self._device), processor
        return self._parts

    def free(self) -> None:
        """Let the weights go."""
        self._parts = None

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Class tokens [n, d] of pictures."""
        model, processor = self.load()
        pixels = processor([image.convert("RGB") for image in images], return_tensors="pt").pixel_values
        return model(pixels.to(self._device)).last_hidden_state[:, 0]
