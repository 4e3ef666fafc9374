"""What can be fetched for the scores and the filter, how large it is, and one way to fetch it for the page
and the shell."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import ViTForImageClassification, ViTImageProcessorPil

from consistory_svd.metrics.dreamsim_weights import Report, cache_folder, fetch_dreamsim
from consistory_svd.metrics.networks import Clip, Dino, fetch_network
from consistory_svd.metrics.result import MissingScore
from consistory_svd.metrics.suite import ScoreSettings

# `Absent.fetch` -> what people call it. In the order in which it is fetched.
NAMES = {"dreamsim": "DreamSim", "clip": "CLIP", "dino": "DINO"}
# Weights of the networks that are the default, counted in their architectures, 4 bytes each. The archives'
# own sizes are known when their server answers; DreamSim's ensemble is three networks of 86 million weights.
SIZES = {"dreamsim": "over 1 GB", "clip": "605 MB", "dino": "87 MB"}

# Of the filter of `consistory_svd.content_filter`: what it is fetched as, and the classifier of the hub.
PICTURE_FILTER = "picture-filter"
SEXUAL_PICTURES = "Falconsai/nsfw_image_detection"
FETCHED = {**NAMES, PICTURE_FILTER: "The filter for sexual pictures"}


def fetchable(entries: Sequence[object]) -> tuple[str, ...]:
    """What would bring scores that are absent only because their weights are, in NAMES' order."""
    wanted = {entry.fetch for entry in entries if isinstance(entry, MissingScore)}
    return tuple(what for what in NAMES if what in wanted)


def fetch_weights(
    what: str,
    settings: ScoreSettings,
    report: Report = lambda done, whole: None,
    url: str | None = None,
) -> None:
    """Fetch what the settings need of "dreamsim", "clip" or "dino", or the "picture-filter", unless it is
    there.

    `url` is another address of DreamSim's archive. Raises ValueError for anything else, FetchError in one
    line when it cannot be had.
    """
    cache = cache_folder(settings.cache)
    match what:
        case "dreamsim":
            fetch_dreamsim(settings.backbone, cache, url, report)
        case "clip":
            fetch_network(Clip.PARTS, settings.clip, cache, report)
        case "dino":
            fetch_network(Dino.PARTS, settings.dino, cache, report)
        case "picture-filter":
            fetch_network((ViTForImageClassification, ViTImageProcessorPil), SEXUAL_PICTURES, cache, report)
        case _:
            raise ValueError(f"what: {what!r} is not allowed; give one of {', '.join(FETCHED)}")
