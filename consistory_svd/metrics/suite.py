"""Suite: runs all metrics over a story, one after another, with shared embeddings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping

import psutil
import torch

from consistory_svd.metrics.clip_dino import ClipAlignment, DinoSimilarity
from consistory_svd.metrics.dreamsim import DreamSim
from consistory_svd.metrics.images import Embeddings, missing_subject
from consistory_svd.metrics.result import Frames, MetricUnavailable, MissingScore, Result, Score
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.storybook import IdentityAgreement, StorybookClip

log = logging.getLogger(__name__)
HARMONIC = "S_H"
# With less free memory, weights are released after each metric: the largest have about 1.5 GB.
FREE_BYTES = 4 * 10**9


class Suite:
    """Runs all metrics. Embeddings are kept between calls, weights until `free` or while memory allows.

    Args:
        embeddings: those of a suite with other settings, to reuse what both have in common.
    """

    def __init__(self, settings: ScoreSettings | None = None, embeddings: Embeddings | None = None) -> None:
        self.settings = settings = settings or ScoreSettings()
        self.embeddings = embeddings = embeddings or Embeddings()
        self._scores: tuple[Score, ...] = (
            DreamSim(settings, embeddings),
            ClipAlignment(settings, embeddings),
            DinoSimilarity(settings, embeddings),
        )
        self._storybook: tuple[Score, ...] = (StorybookClip(settings, embeddings), IdentityAgreement())
        self._lock = threading.Lock()

    def measure(self, frames: Frames) -> Iterator[Result | MissingScore]:
        """Yield each score when it is known, or why it is missing. A metric that fails stops no other."""
        results: dict[str, Result] = {}
        with self._lock:
            for score in self._scores:
                for entry in self._measured(score, frames):
                    if isinstance(entry, Result):
                        results[entry.name] = entry
                    yield entry
            yield from harmonic_means(results)
            if results and len(frames.images) > 1 and (missing := missing_subject(frames)):
                yield missing
            for score in self._storybook if frames.storybook else ():
                yield from self._measured(score, frames)

    def _measured(self, score: Score, frames: Frames) -> list[Result | MissingScore]:
        """The scores of a metric. If memory is short, its weights are released afterwards; if it ran out,
        all weights are released and the metric is tried once more."""
        try:
            try:
                entries = _measured(score, frames)
            except (MemoryError, torch.OutOfMemoryError):
                log.info("out of memory; trying %s again without the others", score.name)
                self.free()
                entries = _measured(score, frames)
        except (MemoryError, torch.OutOfMemoryError):
            entries = [MissingScore(score.name, f"{self.settings.device} has not enough memory")]
            self.free()
        if memory_is_short(self.settings.device):
            self.free(score)
        return entries

    def free(self, *scores: Score) -> None:
        """Release the weights of these metrics, or of all; embeddings are kept."""
        for score in scores or (*self._scores, *self._storybook):
            score.free()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def memory_is_short(device: str) -> bool:
    """Whether a device has less than FREE_BYTES left; False for devices other than CPU and CUDA."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0] < FREE_BYTES
    return kind == "cpu" and psutil.virtual_memory().available < FREE_BYTES


def _measured(score: Score, frames: Frames) -> list[Result | MissingScore]:
    """The scores of a metric. Raises MemoryError and torch.OutOfMemoryError."""
    try:
        return list(score.measure(frames))
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except MetricUnavailable as error:
        return [MissingScore(score.name, error.why, error.remedy, error.fetch)]
    except Exception as error:  # must not take the story's other scores and images with it
        log.exception("%s failed", score.name)
        return [MissingScore(score.name, f"the computation failed ({type(error).__name__}: {error})")]


def harmonic_means(results: Mapping[str, Result]) -> Iterator[Result | MissingScore]:
    """The harmonic mean S_H of CLIPScore, CLIP-I, 1 - DreamSim and DINO similarity.

    For whole images and for subjects alone; CLIPScore always uses whole images.
    """
    for suffix in ("", " (subject only)"):
        names = ("CLIPScore", f"CLIP-I{suffix}", f"DreamSim{suffix}", f"DINO similarity{suffix}")
        missing = [name for name in names if name not in results]
        if missing:
            if not suffix:
                yield MissingScore(HARMONIC, f"it combines {', '.join(names)}, and {missing[0]} is missing")
            continue
        score, image_cosine, distance, dino = (results[name] for name in names)
        parts = [score.value, image_cosine.value, 1 - distance.value, dino.value]
        if min(parts) <= 0:
            yield MissingScore(f"{HARMONIC}{suffix}", "one of its terms is not above zero")
            continue
        yield Result(
            name=f"{HARMONIC}{suffix}",
            value=len(parts) / sum(1 / part for part in parts),
            unit="harmonic mean",
            better="higher",
            model="; ".join(dict.fromkeys(r.model for r in (score, distance, dino))),
            protocol=f"harmonic mean of {names[0]}, {names[1]}, 1 - {names[2]}, {names[3]}",
        )
