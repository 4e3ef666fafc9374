"""CLIP and DINO: whether pictures show what their prompts say, and how alike they are to each other."""

from __future__ import annotations

from pathlib import Path

import torch

from consistory_svd.metrics.dreamsim_weights import fetch_command
from consistory_svd.metrics.images import Embeddings, Subject, View, views
from consistory_svd.metrics.networks import Clip, Dino
from consistory_svd.metrics.result import (
    Frames,
    MissingScore,
    Result,
    check_pairs,
    cosine_matrix,
    mean_of_pairs,
    means_per_frame,
    rows,
)

OPENAI_CLIP = "openai/clip-vit-base-patch32"
DINO = "facebook/dino-vits16"
PREFIX = "A photo depicts "
SCALE = 2.5
PAPER = "arXiv 2501.13554, table 1"
PUBLISHED = {"SDXL": 0.9074, "ConsiStory": 0.8769, "StoryDiffusion": 0.8877, "1Prompt1Story": 0.8942}
SOURCE = f"{PAPER} (there CLIP-T): over that paper's stories"
UNLIKE = f"{PAPER} measures otherwise: the CLIP is another one and there {OPENAI_CLIP}"


def text_cosines(clip: Clip, embeddings: Embeddings, frames: Frames, prefix: str, batch: int) -> torch.Tensor:
    """The cosine of each frame and its own prompt with `prefix` before it: [n]."""
    images = embeddings.of(f"clip {clip.place} image", frames.images, clip.images, batch)
    said = [prefix + prompt for prompt in frames.prompts]
    texts = embeddings.of(f"clip {clip.place} text", said, clip.texts, batch)
    return torch.cosine_similarity(images.double(), texts.double(), dim=1).clamp(-1, 1)


def pair_result(name: str, model: str, found: torch.Tensor, view: View) -> Result:
    """The mean cosine of all pairs of embeddings [n, d] as a result."""
    cosines = cosine_matrix(found)
    return Result(
        name=f"{name}{view.suffix}",
        value=mean_of_pairs(cosines),
        unit="cosine",
        better="higher",
        model=model,
        protocol=f"mean over all pairs of frames, {view.protocol}",
        per_frame=means_per_frame(cosines),
        matrix=rows(cosines),
    )


class ClipAlignment:
    """CLIP-T and CLIPScore between each frame and its prompt, CLIP-I between frames; higher is better.

    CLIPScore (Hessel et al. 2021) is 2.5 * max(cosine, 0) by OpenAI's ViT-B/32 with "A photo depicts " before
    the prompt. Of another model the same formula is called Scaled CLIP-T.
    """

    name = "CLIP"

    def __init__(
        self,
        embeddings: Embeddings,
        cache: Path,
        model: str = OPENAI_CLIP,
        subject: Subject | None = None,
        device: str = "cpu",
        batch: int = 8,
    ) -> None:
        flags = () if model == OPENAI_CLIP else ("--model", model)
        remedy = fetch_command("clip", cache, *flags)
        self._clip = Clip(model, cache, device, "" if Path(model).is_dir() else remedy)
        self._embeddings = embeddings
        self._subject = subject or Subject()
        self._batch = batch

    def measure(self, frames: Frames) -> list[Result | MissingScore]:
        """CLIP-T and CLIPScore; CLIP-I where there are pairs. Raises Unavailable without weights."""
        self._clip.load()
        results: list[Result | MissingScore] = [self._raw(frames), self._scaled(frames)]
        if len(frames.images) < 2:
            return [*results, MissingScore("CLIP-I", "it compares pictures, and there is only one")]
        for view in views(frames, self._subject):
            setting = f"clip {self._clip.place} image"
            found = self._embeddings.of(setting, view.images, self._clip.images, self._batch)
            results.append(pair_result("CLIP-I", self._clip.place, found, view))
        return results

    def free(self) -> None:
        """Let the weights go."""
        self._clip.free()

    def _raw(self, frames: Frames) -> Result:
        cosines = text_cosines(self._clip, self._embeddings, frames, "", self._batch)
        return Result(
            name="CLIP-T",
            value=float(cosines.mean()),
            unit="cosine",
            better="higher",
            model=self._clip.place,
            protocol="mean over frames of the cosine of picture and prompt, no prefix",
            per_frame=tuple(cosines.tolist()),
            notes=self._clip.truncated(frames.prompts),
        )

    def _scaled(self, frames: Frames) -> Result:
        cosines = text_cosines(self._clip, self._embeddings, frames, PREFIX, self._batch)
        scaled = SCALE * cosines.clamp(min=0)
        published = self._clip.place == OPENAI_CLIP
        return Result(
            name="CLIPScore" if published else "Scaled CLIP-T",
            value=float(scaled.mean()),
            unit=f"{SCALE} x cosine",
            better="higher",
            model=self._clip.place,
            protocol=f'mean over frames of {SCALE} * max(cosine, 0), prefix "{PREFIX}"',
            per_frame=tuple(scaled.tolist()),
            notes=self._clip.truncated([PREFIX + prompt for prompt in frames.prompts]),
            published=PUBLISHED if published else {},
            source=SOURCE if published else "",
            unlike="" if published else UNLIKE,
        )


class DinoSimilarity:
    """Mean cosine between the frames' DINO class tokens (as in DreamBooth, Ruiz et al. 2023); higher is
    more alike."""

    name = "DINO similarity"

    def __init__(
        self,
        embeddings: Embeddings,
        cache: Path,
        model: str = DINO,
        subject: Subject | None = None,
        device: str = "cpu",
        batch: int = 8,
    ) -> None:
        flags = () if model == DINO else ("--model", model)
        remedy = fetch_command("dino", cache, *flags)
        self._dino = Dino(model, cache, device, "" if Path(model).is_dir() else remedy)
        self._embeddings = embeddings
        self._subject = subject or Subject()
        self._batch = batch

    def measure(self, frames: Frames) -> list[Result]:
        """Cosines of all pairs, n at least 2. Raises Unavailable without weights."""
        check_pairs(frames)
        self._dino.load()
        results = []
        for view in views(frames, self._subject):
            setting = f"dino {self._dino.place}"
            found = self._embeddings.of(setting, view.images, self._dino.images, self._batch)
            results.append(pair_result(self.name, self._dino.place, found, view))
        return results

    def free(self) -> None:
        """Let the weights go."""
        self._dino.free()
