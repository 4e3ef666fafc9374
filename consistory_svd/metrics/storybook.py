"""Metrics of the storybook world, by the networks that come with the embedded model.

Both know only that world, so they have their own names beside CLIP and DreamSim and no published values.
"""

from __future__ import annotations

from pathlib import Path

import torch

from consistory_svd.metrics.attribute_reader import READER_FOLDER, Reader, load_reader
from consistory_svd.metrics.clip_dino import text_cosines
from consistory_svd.metrics.images import Embeddings
from consistory_svd.metrics.networks import Clip
from consistory_svd.metrics.result import (
    Frames,
    MetricUnavailable,
    Result,
    check_pairs,
    mean_of_pairs,
    means_per_frame,
    rows,
)
from consistory_svd.metrics.settings import ScoreSettings

CLIP_FOLDER = READER_FOLDER.parent / "clip"
# The attributes of a subject's identity; scene, action and style may change from image to image.
IDENTITY = ("subject", "color", "pattern", "accessory", "accessory_color")


class StorybookClip:
    """The cosine of each image and its prompt by the small CLIP of the storybook world; higher is better."""

    name = "Storybook CLIP alignment"

    def __init__(self, settings: ScoreSettings, embeddings: Embeddings, folder: Path = CLIP_FOLDER) -> None:
        self._clip = Clip(str(folder), settings)
        self._folder = folder
        self._embeddings = embeddings
        self._batch = settings.batch

    def measure(self, frames: Frames) -> list[Result]:
        """One cosine for each image. Raises MetricUnavailable if the package lacks this CLIP."""
        if not self._folder.is_dir():
            raise MetricUnavailable("the storybook CLIP is missing", "`make train` trains it.")
        cosines = text_cosines(self._clip, self._embeddings, frames, "", self._batch)
        return [
            Result(
                name=self.name,
                value=float(cosines.mean()),
                unit="cosine",
                better="higher",
                model="storybook CLIP",
                protocol="mean over images of the cosine of image and prompt, no prefix",
                per_frame=tuple(cosines.tolist()),
                notes=self._clip.truncation_notes(frames.prompts),
            )
        ]

    def free(self) -> None:
        """Release the weights."""
        self._clip.free()


class IdentityAgreement:
    """The subject attributes that the storybook reader reads the same in all images; higher is better."""

    name = "Identity agreement by the storybook reader"

    def __init__(self, folder: Path = READER_FOLDER) -> None:
        self._folder = folder
        self._reader: Reader | None = None

    def measure(self, frames: Frames) -> list[Result]:
        """The share of attributes that agree, averaged over pairs. Raises MetricUnavailable."""
        check_pairs(frames)
        if self._reader is None:
            try:
                self._reader = load_reader(self._folder)
            except FileNotFoundError as error:
                raise MetricUnavailable(
                    "the storybook reader is missing", "`make train` trains it."
                ) from error
        answers = self._reader.read(frames.images)
        keys = [key for key in IDENTITY if key in answers[0]]
        names = ", ".join(keys).replace("_", " ")
        agree = torch.tensor(
            [[[a[key] == b[key] for key in keys] for b in answers] for a in answers], dtype=torch.float64
        )  # [n, n, attributes]
        shares = [mean_of_pairs(agree[:, :, k]) for k in range(len(keys))]
        matrix = agree.mean(2)
        return [
            Result(
                name=self.name,
                value=mean_of_pairs(matrix),
                unit="share of attributes",
                better="higher",
                model="storybook reader",
                protocol=f"mean over all pairs of images of {names} that agree, whole images",
                per_frame=means_per_frame(matrix),
                matrix=rows(matrix),
                table=tuple(
                    (key, *(answer[key] for answer in answers), f"{share:.0%}")
                    for key, share in zip(keys, shares, strict=True)
                ),
                notes=("the reader makes mistakes; assets/storybook/README.md says how often",),
            )
        ]

    def free(self) -> None:
        """Release the weights."""
        self._reader = None
