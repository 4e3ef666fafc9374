"""CLIP and DINO metrics: do images show their prompts, and how similar are they to each other."""

from __future__ import annotations

import torch

from consistory_svd.metrics.images import Embeddings, View, views
from consistory_svd.metrics.networks import Clip, Dino
from consistory_svd.metrics.result import (
    ONE_IMAGE,
    Frames,
    MissingScore,
    Result,
    check_pairs,
    cosine_matrix,
    mean_of_pairs,
    means_per_frame,
    rows,
)
from consistory_svd.metrics.settings import OPENAI_CLIP, ScoreSettings

PREFIX = "A photo depicts "
SCALE = 2.5
PAPER = "arXiv 2501.13554, table 1"
PUBLISHED = {"SDXL": 0.9074, "ConsiStory": 0.8769, "StoryDiffusion": 0.8877, "1Prompt1Story": 0.8942}
SOURCE = f"{PAPER} (there CLIP-T): over that paper's stories"
UNLIKE = f"{PAPER} uses {OPENAI_CLIP} instead of this CLIP"


def text_cosines(clip: Clip, embeddings: Embeddings, frames: Frames, prefix: str, batch: int) -> torch.Tensor:
    """The cosine of each image and its prompt, with `prefix` before the prompt: [n]."""
    images = embeddings.of(f"clip {clip.source} image", frames.images, clip.images, batch)
    prompts = [prefix + prompt for prompt in frames.prompts]
    texts = embeddings.of(f"clip {clip.source} text", prompts, clip.texts, batch)
    return torch.cosine_similarity(images.double(), texts.double(), dim=1).clamp(-1, 1)


def _pair_result(name: str, source: str, found: torch.Tensor, view: View) -> Result:
    """The mean cosine over all pairs of embeddings, [n, d]."""
    cosines = cosine_matrix(found)
    return Result(
        name=f"{name}{view.suffix}",
        value=mean_of_pairs(cosines),
        unit="cosine",
        better="higher",
        model=source,
        protocol=f"mean over all pairs of images, {view.protocol}",
        per_frame=means_per_frame(cosines),
        matrix=rows(cosines),
    )


class ClipAlignment:
    """CLIP-T and CLIPScore between each image and its prompt, CLIP-I between images; higher is better.

    CLIPScore (Hessel et al. 2021) is 2.5 * max(cosine, 0) by OpenAI's ViT-B/32 with "A photo depicts " before
    the prompt. With another model the same formula is called Scaled CLIP-T.
    """

    name = "CLIP"

    def __init__(self, settings: ScoreSettings, embeddings: Embeddings) -> None:
        self._settings = settings
        self._embeddings = embeddings
        self._clip = Clip(settings.clip, settings)

    def measure(self, frames: Frames) -> list[Result | MissingScore]:
        """CLIP-T, CLIPScore and, for two or more images, CLIP-I. Raises MetricUnavailable without weights."""
        clip, batch = self._clip, self._settings.batch
        clip.load()
        results: list[Result | MissingScore] = [self._raw(frames), self._scaled(frames)]
        if len(frames.images) < 2:
            return [*results, MissingScore("CLIP-I", ONE_IMAGE)]
        for view in views(frames, self._settings):
            found = self._embeddings.of(f"clip {clip.source} image", view.images, clip.images, batch)
            results.append(_pair_result("CLIP-I", clip.source, found, view))
        return results

    def free(self) -> None:
        """Release the weights."""
        self._clip.free()

    def _raw(self, frames: Frames) -> Result:
        cosines = text_cosines(self._clip, self._embeddings, frames, "", self._settings.batch)
        return Result(
            name="CLIP-T",
            value=float(cosines.mean()),
            unit="cosine",
            better="higher",
            model=self._clip.source,
            protocol="mean over images of the cosine of image and prompt, no prefix",
            per_frame=tuple(cosines.tolist()),
            notes=self._clip.truncation_notes(frames.prompts),
        )

    def _scaled(self, frames: Frames) -> Result:
        cosines = text_cosines(self._clip, self._embeddings, frames, PREFIX, self._settings.batch)
        scaled = SCALE * cosines.clamp(min=0)
        is_published = self._clip.source == OPENAI_CLIP
        return Result(
            name="CLIPScore" if is_published else "Scaled CLIP-T",
            value=float(scaled.mean()),
            unit=f"{SCALE} x cosine",
            better="higher",
            model=self._clip.source,
            protocol=f'mean over images of {SCALE} * max(cosine, 0), prefix "{PREFIX}"',
            per_frame=tuple(scaled.tolist()),
            notes=self._clip.truncation_notes([PREFIX + prompt for prompt in frames.prompts]),
            published=PUBLISHED if is_published else {},
            source=SOURCE if is_published else "",
            unlike="" if is_published else UNLIKE,
        )


class DinoSimilarity:
    """Mean cosine between DINO class tokens (DreamBooth, Ruiz et al. 2023); higher is more similar."""

    name = "DINO similarity"

    def __init__(self, settings: ScoreSettings, embeddings: Embeddings) -> None:
        self._settings = settings
        self._embeddings = embeddings
        self._dino = Dino(settings.dino, settings)

    def measure(self, frames: Frames) -> list[Result]:
        """Cosines of all pairs. Raises MetricUnavailable without weights, or with only one image."""
        check_pairs(frames)
        dino, batch = self._dino, self._settings.batch
        dino.load()
        results = []
        for view in views(frames, self._settings):
            found = self._embeddings.of(f"dino {dino.source}", view.images, dino.images, batch)
            results.append(_pair_result(self.name, dino.source, found, view))
        return results

    def free(self) -> None:
        """Release the weights."""
        self._dino.free()
