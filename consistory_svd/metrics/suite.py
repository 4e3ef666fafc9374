"""All scores of a story, one after another, and what they share: settings, device, embeddings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from consistory_svd.metrics.clip_dino import DINO, OPENAI_CLIP, ClipAlignment, DinoSimilarity
from consistory_svd.metrics.dreamsim import DreamSim
from consistory_svd.metrics.dreamsim_weights import cache_folder, check_backbone
from consistory_svd.metrics.images import Embeddings, Fill, Subject, missing_subject
from consistory_svd.metrics.networks import check_place
from consistory_svd.metrics.result import Frames, MetricUnavailable, MissingScore, Result, Score
from consistory_svd.metrics.storybook import IdentityAgreement, StorybookClip

log = logging.getLogger(__name__)
HARMONIC = "S_H"
# Below this the weights of one score do not stay while the next is computed: the largest have some 1.5 GB.
ROOM = 4 * 10**9


@dataclass(frozen=True)
class ScoreSettings:
    """What scores are computed with. ValueError, naming the field, for what is not allowed.

    `backbone` is DreamSim's; `clip` and `dino` are folders or hub ids; `fill` and `seed` say what replaces
    everything but the subject; `cache` is the folder of fetched weights (None: as `cache_folder` says).
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
            check_place(name, getattr(self, name))
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's words for "not here"
            raise ValueError(
                f"device: {self.device!r} cannot be used here; give one such as 'cpu'"
            ) from error
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed: {self.seed!r} is not allowed; give a whole number from 0")
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise ValueError(f"batch: {self.batch!r} is not allowed; give a whole number from 1")


class Suite:
    """Runs all scores over frames. Embeddings stay from call to call, weights until `free` or while there is
    room for them. `embeddings` are those of a suite of other settings, for what both have in common."""

    def __init__(self, settings: ScoreSettings | None = None, embeddings: Embeddings | None = None) -> None:
        self.settings = chosen = settings or ScoreSettings()
        subject = Subject(chosen.fill, chosen.seed)
        self.embeddings = kept = embeddings or Embeddings()
        cache = cache_folder(chosen.cache)
        common = (subject, chosen.device, chosen.batch)
        self._scores: tuple[Score, ...] = (
            DreamSim(kept, cache, chosen.backbone, *common),
            ClipAlignment(kept, cache, chosen.clip, *common),
            DinoSimilarity(kept, cache, chosen.dino, *common),
        )
        self._storybook: tuple[Score, ...] = (
            StorybookClip(kept, cache, chosen.device, chosen.batch),
            IdentityAgreement(),
        )
        self._lock = threading.Lock()

    def measure(self, frames: Frames) -> Iterator[Result | MissingScore]:
        """Every number as soon as it is known, and a line for each that is not. No score stops another."""
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
        """A score's entries. Weights go when memory is short: this score's own when it is done, and all
        where it could not be computed beside them; then it is tried once more."""
        try:
            try:
                entries = _measured(score, frames)
            except (MemoryError, torch.OutOfMemoryError):
                log.info("memory is short; %s is tried again without the others", score.name)
                self.free()
                entries = _measured(score, frames)
        except (MemoryError, torch.OutOfMemoryError):
            entries = [MissingScore(score.name, f"there is not enough memory on {self.settings.device}")]
            self.free()
        if memory_is_short(self.settings.device):
            self.free(score)
        return entries

    def free(self, *scores: Score) -> None:
        """Let the weights of these scores go, of all where none is named; embeddings that are known stay."""
        for score in scores or (*self._scores, *self._storybook):
            score.free()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def memory_is_short(device: str) -> bool:
    """Whether less than ROOM bytes are left where a score computes; what other devices have is not known."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0] < ROOM
    return kind == "cpu" and psutil.virtual_memory().available < ROOM


def _measured(score: Score, frames: Frames) -> list[Result | MissingScore]:
    """A score's entries; MemoryError and torch.OutOfMemoryError are the caller's to deal with."""
    try:
        return list(score.measure(frames))
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except MetricUnavailable as error:
        return [MissingScore(score.name, error.why, error.remedy, error.fetch)]
    except Exception as error:  # a story's other scores, and its pictures, must not go down with this one
        log.exception("%s failed", score.name)
        return [MissingScore(score.name, f"computing it failed ({type(error).__name__}: {error})")]


def harmonic_means(results: Mapping[str, Result]) -> Iterator[Result | MissingScore]:
    """S_H of CLIPScore, CLIP-I, 1 - DreamSim and DINO similarity, on whole pictures and on subjects alone.

    CLIPScore always looks at the whole picture. Source: issue 5.
    """
    for suffix in ("", " (subject only)"):
        names = ("CLIPScore", f"CLIP-I{suffix}", f"DreamSim{suffix}", f"DINO similarity{suffix}")
        missing = [name for name in names if name not in results]
        if missing:
            if not suffix:
                yield MissingScore(
                    HARMONIC, f"it is made of {', '.join(names)}, and there is no {missing[0]}"
                )
            continue
        score, alike, distance, dino = (results[name] for name in names)
        parts = [score.value, alike.value, 1 - distance.value, dino.value]
        if min(parts) <= 0:
            yield MissingScore(f"{HARMONIC}{suffix}", "one of its parts is not above zero")
            continue
        yield Result(
            name=f"{HARMONIC}{suffix}",
            value=len(parts) / sum(1 / part for part in parts),
            unit="harmonic mean",
            better="higher",
            model="; ".join(dict.fromkeys(r.model for r in (score, distance, dino))),
            protocol=f"harmonic mean of {names[0]}, {names[1]}, 1 - {names[2]}, {names[3]}",
        )
