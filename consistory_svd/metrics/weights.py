"""Weights that can be downloaded for metrics and for the content filter: names, sizes and one function."""

from __future__ import annotations

from collections.abc import Sequence

from consistory_svd.downloads import ProgressCallback, cache_folder, ignore_progress
from consistory_svd.errors import FieldError, one_of
from consistory_svd.metrics.dreamsim_weights import download_dreamsim
from consistory_svd.metrics.result import MissingScore
from consistory_svd.metrics.settings import ScoreSettings

# `MissingScore.fetch` -> the metric's name, in the order in which they are downloaded.
NAMES = {"dreamsim": "DreamSim", "clip": "CLIP", "dino": "DINO"}
# Of the default networks: weights counted in their architectures, 4 bytes each. The size of an archive is
# known only when the server answers; DreamSim's ensemble is three networks of 86 million weights.
SIZES = {"dreamsim": "over 1 GB", "clip": "605 MB", "dino": "87 MB"}

# The classifier of `consistory_svd.content_filter`.
PICTURE_FILTER = "picture-filter"
SEXUAL_PICTURES = "Falconsai/nsfw_image_detection"
DOWNLOADS = {**NAMES, PICTURE_FILTER: "The content filter"}


def fetchable(entries: Sequence[object]) -> tuple[str, ...]:
    """The weights, in the order of NAMES, whose download would add scores that are missing."""
    wanted = {entry.fetch for entry in entries if isinstance(entry, MissingScore)}
    return tuple(what for what in NAMES if what in wanted)


def fetch_weights(
    what: str,
    settings: ScoreSettings,
    report: ProgressCallback = ignore_progress,
    url: str | None = None,
) -> None:
    """Download the weights of "dreamsim", "clip", "dino" or "picture-filter" unless they are present.

    Args:
        settings: say which networks, and the cache folder.
        url: another address of DreamSim's archive.

    Raises:
        ValueError: `what` is something else.
        DownloadError: the download failed; one line.
    """
    # torch and transformers, which options and pages do without
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    from consistory_svd.metrics.networks import Clip, Dino, download_network

    cache = cache_folder(settings.cache)
    match what:
        case "dreamsim":
            download_dreamsim(settings.backbone, cache, url, report)
        case "clip":
            download_network(Clip.PARTS, settings.clip, cache, report)
        case "dino":
            download_network(Dino.PARTS, settings.dino, cache, report)
        case "picture-filter":
            parts = (ViTForImageClassification, ViTImageProcessorPil)
            download_network(parts, SEXUAL_PICTURES, cache, report)
        case _:
            raise FieldError("what", what, one_of(DOWNLOADS))
