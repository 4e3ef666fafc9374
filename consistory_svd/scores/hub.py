"""Networks of transformers that scores embed with: from a folder, or from what is kept of the hub."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, ViTImageProcessorPil, ViTModel
from transformers.modeling_utils import PreTrainedModel

from consistory_svd.scores.fetch import FetchError
from consistory_svd.scores.result import Unavailable

log = logging.getLogger(__name__)


def from_cache(kind: Any, place: str, cache: Path) -> Any:
    """`kind.from_pretrained(place)` without network: a folder, the hub's own cache, or ours.

    Raises Unavailable, also where a model's file lacks weights: transformers would fill them in at random.
    """
    if not Path(place).is_dir() and (place.count("/") != 1 or place.startswith((".", "/", "~"))):
        raise Unavailable(f"{place!r} is no folder and no hub id, owner/name")
    for kept in [None] if Path(place).is_dir() else [None, str(cache / "hub")]:
        try:
            return _load(kind, place, cache_dir=kept, local_files_only=True)
        except Unavailable:
            raise
        except OSError as error:
            reason = str(error).strip().splitlines()[0]
        except Exception as error:  # a spoilt file: each format has its own way to refuse it
            log.info("%s cannot be read", place, exc_info=True)
            raise Unavailable(f"{place} cannot be read ({str(error).strip().splitlines()[0]})") from error
    if Path(place).is_dir():
        raise Unavailable(f"the folder {place} cannot be read ({reason})")
    raise Unavailable(f"the weights of {place} are not here")


def fetch_network(kinds: Sequence[Any], place: str, cache: Path) -> None:
    """Fetch what `from_cache` will find, unless it is there. Raises FetchError in one line."""
    for kind in kinds:
        try:
            from_cache(kind, place, cache)
        except Unavailable:
            try:
                _load(kind, place, cache_dir=str(cache / "hub"), local_files_only=False)
            except Exception as error:  # no network, no such model, a spoilt file
                log.info("%s cannot be fetched", place, exc_info=True)
                reason = str(error).strip().splitlines()[0]
                raise FetchError(f"weights: {place} cannot be had: {reason}") from error


def _load(kind: Any, place: str, cache_dir: str | None, local_files_only: bool) -> Any:
    common = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    if not issubclass(kind, PreTrainedModel):
        return kind.from_pretrained(place, **common)
    extra = {"add_pooling_layer": False} if kind is ViTModel else {}
    model, report = kind.from_pretrained(place, output_loading_info=True, **common, **extra)
    if report["missing_keys"]:
        raise Unavailable(
            f"{place} holds no whole {kind.__name__}: {len(report['missing_keys'])} weights lack"
        )
    return model.eval()


class Clip:
    """A CLIP of transformers as two functions into one space. Loads when first used.

    `remedy` is said when it is not here.
    """

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
            except Unavailable as error:
                raise Unavailable(error.why, error.remedy or self._remedy) from error
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
            except Unavailable as error:
                raise Unavailable(error.why, error.remedy or self._remedy) from error
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
