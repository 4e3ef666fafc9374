"""A content filter for public demos: images that a classifier considers sexual are replaced by a placeholder.

It does not check for violence, hate, the likeness of real people or texts, and the classifier errs in both
directions. If it fails, the image is replaced too: no image is shown unchecked.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from PIL import Image, ImageDraw, ImageFont, ImageText
from transformers import ViTForImageClassification, ViTImageProcessorPil

from consistory_svd.downloads import cache_folder, fetch_command
from consistory_svd.errors import FieldError
from consistory_svd.events import Event, Filtered, Finished, FrameDone, Preview
from consistory_svd.metrics.networks import from_cache
from consistory_svd.metrics.result import MetricUnavailable
from consistory_svd.metrics.weights import PICTURE_FILTER, SEXUAL_PICTURES
from consistory_svd.paths import ASSETS

log = logging.getLogger(__name__)

FLAG = "hide-sexual-pictures"
LABEL = "nsfw"
# Shown to visitors at any time.
NOTICE = "Images that a classifier considers sexual are hidden, and no image is shown before it is finished"
FILTER_REASONS: Mapping[Filtered, str] = {
    "sexual": "The content filter considers this image sexual. Try another seed or text.",
    "unseen": "The content filter failed, so this image was not checked. Try again.",
}
TITLE = "Filtered"
FONT = ASSETS / "fonts" / "EBGaramond12-Regular.ttf"
PAPER, INK = "#f5f1e8", "#44403c"
# Letters start with this share of the image's smaller side and shrink until the text fits, down to this size
# in pixels; below it only the title is drawn.
LARGEST_SHARE, SMALLEST_LETTERS, SMALLEST_TITLE = 1 / 15, 9, 7


@dataclass(frozen=True)
class ContentFilter:
    """An image classifier, and from which probability on an image is filtered.

    Attributes:
        label: Position of the label "nsfw" among the classifier's labels.
        threshold: Probability from which on an image is filtered, above 0 and at most 1.

    Raises:
        FieldError: the threshold is not allowed.
    """

    model: ViTForImageClassification = field(repr=False)
    processor: ViTImageProcessorPil = field(repr=False)
    label: int
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise FieldError("threshold", self.threshold, "a number above 0 and at most 1")

    def to(self, device: torch.device | str) -> None:
        """Move the classifier to another device."""
        self.model.to(device)

    @torch.inference_mode()
    def likelihood(self, image: Image.Image) -> float:
        """Return the probability of the label, from 0 to 1; ArithmeticError if it is not a number."""
        pixels = self.processor(image.convert("RGB"), return_tensors="pt").pixel_values
        logits = self.model(pixels.to(self.model.device)).logits[0]
        likelihood = float(logits.softmax(0)[self.label])
        if not math.isfinite(likelihood):
            raise ArithmeticError(f"the classifier gave {likelihood}")
        return likelihood

    def is_sexual(self, image: Image.Image) -> bool:
        """Return whether the classifier considers the image sexual; ArithmeticError as `likelihood`."""
        return self.likelihood(image) >= self.threshold


def load_content_filter(
    place: str = SEXUAL_PICTURES, cache: Path | None = None, threshold: float = ContentFilter.threshold
) -> ContentFilter:
    """Load the content filter from a folder or the cache, on the CPU, without network access.

    It is tried on a grey image, to find corrupted weights before a story is generated.

    Raises:
        ValueError: it is missing, cannot be read, or has no label "nsfw"; one line that says what to do.
    """
    kept = cache_folder(cache)
    remedy = "" if Path(place).is_dir() else f" {fetch_command(PICTURE_FILTER, kept)}"
    try:
        model = from_cache(ViTForImageClassification, place, kept)
        processor = from_cache(ViTImageProcessorPil, place, kept)
    except MetricUnavailable as error:
        raise ValueError(f"{FLAG}: {error.why}.{remedy}") from error
    labels = {position: str(name) for position, name in model.config.id2label.items()}
    known = [position for position, name in labels.items() if name.casefold() == LABEL]
    if len(known) != 1:
        raise ValueError(
            f"{FLAG}: the classifier {place} must have a label {LABEL}, got {', '.join(labels.values())}"
        )
    # The weights may be in half precision; a classifier of this size is fast enough without it.
    content_filter = ContentFilter(model.float(), processor, known[0], threshold)
    try:
        content_filter.likelihood(Image.new("RGB", (64, 64), "grey"))
    except ArithmeticError as error:
        raise ValueError(
            f"{FLAG}: the weights of {place} are corrupted, {error} for a grey image; remove them from "
            f"{place if Path(place).is_dir() else kept / 'hub'}.{remedy}"
        ) from error
    return content_filter


def filter_events(events: Iterator[Event], content_filter: ContentFilter) -> Iterator[Event]:
    """Yield the events of a story with every image checked, and filtered images replaced by a placeholder.

    Nothing of a filtered image is in them: no mask, no maps, latents of zeros; `FrameDone.filtered` is the
    reason. Previews have no image, because they could show what is filtered in the end. Other frames attend
    to a filtered anchor as usual; each of them is checked itself.
    """
    shown: dict[int, FrameDone] = {}
    with closing(events):
        for event in events:
            match event:
                case Preview():
                    yield replace(event, image=None)
                case FrameDone():
                    shown[event.frame] = _checked(event, content_filter)
                    yield shown[event.frame]
                case Finished():
                    frames = [shown[frame] for frame in sorted(shown)]
                    images, masks = (
                        tuple(getattr(one, kind) for one in frames) for kind in ("image", "mask")
                    )
                    yield replace(event, images=images, masks=masks)
                case _:
                    yield event


def _checked(done: FrameDone, content_filter: ContentFilter) -> FrameDone:
    reason = _reason(done.image, content_filter)
    if not reason:
        return done
    placeholder, nothing = filtered_image(done.image.size, reason), torch.zeros_like(done.latents)
    return replace(done, image=placeholder, mask=None, latents=nothing, maps=None, filtered=reason)


def _reason(image: Image.Image, content_filter: ContentFilter) -> Filtered:
    try:
        return "sexual" if content_filter.is_sexual(image) else ""
    except Exception:  # whatever goes wrong, an unchecked image is not shown
        log.exception("the content filter failed")
        return "unseen"


def filtered_image(size: tuple[int, int], reason: Filtered) -> Image.Image:
    """Return the placeholder for a filtered image of this size (width, height): the reason on plain paper."""
    image = Image.new("RGB", size, PAPER)
    margin = max(2, min(size) // 12)
    width, height = size[0] - 2 * margin, size[1] - 2 * margin
    largest = max(SMALLEST_LETTERS, round(min(size) * LARGEST_SHARE))
    for letters in range(largest, SMALLEST_TITLE - 1, -1):
        text = f"{TITLE}\n\n{FILTER_REASONS[reason]}" if letters >= SMALLEST_LETTERS else TITLE
        label = ImageText.Text(text, ImageFont.truetype(FONT, letters))
        overflow = label.wrap(width, height)
        left, _, right, _ = label.get_bbox()
        if overflow is None and right - left <= width:
            place = size[0] / 2, size[1] / 2
            ImageDraw.Draw(image).text(place, label.text, INK, label.font, anchor="mm", align="center")
            break
    return image
