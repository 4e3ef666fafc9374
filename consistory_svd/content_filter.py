"""A filter for public demos: pictures that an image classifier takes for sexual are withheld.

It is named for what it does. It judges no violence, no hate, no likeness of real people and no texts, and the
classifier errs both ways. Where it fails, the picture is withheld, too: none leaves unlooked at.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
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
# What visitors are told at any time.
NOTICE = (
    "Pictures that a classifier takes for sexual are withheld here, and none is shown before it is finished"
)
# What stands on a withheld picture.
WORDS: Mapping[Filtered, str] = {
    "sexual": "The filter for sexual pictures took this one for sexual. Another seed or text may help.",
    "unseen": "The filter for sexual pictures failed, so this one was not looked at. Try it again.",
}
TITLE = "Withheld"
FONT = ASSETS / "fonts" / "EBGaramond12-Regular.ttf"
PAPER, INK = "#f5f1e8", "#44403c"
# Letters begin with this share of the picture's smaller side and shrink until all has room: whole sentences
# down to so many pixels, the title alone below that.
LARGEST_SHARE, SMALLEST_LETTERS, SMALLEST_TITLE = 1 / 15, 9, 7


@dataclass(frozen=True)
class ContentFilter:
    """An image classifier that says how likely a picture is sexual. Immutable but for the device it is on.

    `label` is the position of the label that means so; a picture of which that is likely by `threshold` or
    more is sexual.

    Raises:
        ValueError: the threshold is not above 0 and at most 1.
    """

    model: ViTForImageClassification = field(repr=False)
    processor: ViTImageProcessorPil = field(repr=False)
    label: int
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise FieldError("threshold", self.threshold, "a number above 0 and at most 1")

    def to(self, device: torch.device | str) -> None:
        """Compute on another device."""
        self.model.to(device)

    @torch.inference_mode()
    def likelihood(self, image: Image.Image) -> float:
        """How likely the picture is sexual by the classifier, from 0 to 1. ArithmeticError where it gives no
        number."""
        pixels = self.processor(image.convert("RGB"), return_tensors="pt").pixel_values
        logits = self.model(pixels.to(self.model.device)).logits[0]
        likelihood = float(logits.softmax(0)[self.label])
        if not math.isfinite(likelihood):
            raise ArithmeticError(f"the classifier gave {likelihood}")
        return likelihood

    def is_sexual(self, image: Image.Image) -> bool:
        """Whether the classifier takes the picture for sexual. Raises as `likelihood`."""
        return self.likelihood(image) >= self.threshold


def load_content_filter(
    place: str = SEXUAL_PICTURES, cache: Path | None = None, threshold: float = ContentFilter.threshold
) -> ContentFilter:
    """The screen, from a folder or from what `fetch picture-filter` has brought; on the CPU, without network.

    It is tried on a blank picture, so that spoilt weights are found before a story is told.

    Raises:
        ValueError: it is not there, cannot be read, or does not know sexual pictures; one line that says what
            to do.
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
    # Half precision may be what was kept; a classifier of this size is fast enough without it.
    content_filter = ContentFilter(model.float(), processor, known[0], threshold)
    try:
        content_filter.likelihood(Image.new("RGB", (64, 64), "grey"))
    except ArithmeticError as error:
        raise ValueError(
            f"{FLAG}: the weights of {place} are spoilt, {error} for a grey picture; remove them from "
            f"{place if Path(place).is_dir() else kept / 'hub'}.{remedy}"
        ) from error
    return content_filter


def filter_events(events: Iterator[Event], content_filter: ContentFilter) -> Iterator[Event]:
    """The events of a story with every picture looked at; sexual ones are replaced by a plain picture.

    Nothing of a withheld picture is in them: no mask, no maps, latents of zeros; `FrameDone.withheld` says
    why. Previews have no picture, because they would show what may be withheld in the end. An anchor that is
    withheld still lends to other frames, each of which is looked at itself.
    """
    shown: dict[int, FrameDone] = {}
    with closing(events):
        for event in events:
            match event:
                case Preview():
                    yield replace(event, image=None)
                case FrameDone():
                    shown[event.frame] = _looked_at(event, content_filter)
                    yield shown[event.frame]
                case Finished():
                    frames = [shown[frame] for frame in sorted(shown)]
                    images, masks = (
                        tuple(getattr(one, kind) for one in frames) for kind in ("image", "mask")
                    )
                    yield replace(event, images=images, masks=masks)
                case _:
                    yield event


def _looked_at(done: FrameDone, content_filter: ContentFilter) -> FrameDone:
    why = _verdict(done.image, content_filter)
    if not why:
        return done
    plain, nothing = filtered_image(done.image.size, why), torch.zeros_like(done.latents)
    return replace(done, image=plain, mask=None, latents=nothing, maps=None, filtered=why)


def _verdict(image: Image.Image, content_filter: ContentFilter) -> Filtered:
    try:
        return "sexual" if content_filter.is_sexual(image) else ""
    except Exception:  # whatever goes wrong, a picture that was not looked at is not shown
        log.exception("the filter for sexual pictures failed")
        return "unseen"


def filtered_image(size: tuple[int, int], why: Filtered) -> Image.Image:
    """What stands in a withheld picture's place: plain paper of its size (width, height) that says why."""
    picture = Image.new("RGB", size, PAPER)
    draw, margin = ImageDraw.Draw(picture), max(2, min(size) // 12)
    width, height = size[0] - 2 * margin, size[1] - 2 * margin
    largest = max(SMALLEST_LETTERS, round(min(size) * LARGEST_SHARE))
    for letters in range(largest, SMALLEST_TITLE - 1, -1):
        said = WORDS[why] if letters >= SMALLEST_LETTERS else ""
        title, text = (ImageFont.truetype(FONT, pixels) for pixels in (round(1.5 * letters), letters))
        below = _wrapped(said, text, width)
        wanted = 2 * letters + round(1.35 * letters) * len(below)
        widest = max(title.getlength(TITLE), *(text.getlength(line) for line in below), 0)
        if wanted <= height and widest <= width:
            top = margin + (height - wanted) / 2
            draw.text((size[0] / 2, top), TITLE, INK, title, anchor="ma")
            for number, line in enumerate(below):
                down = top + 2 * letters + round(1.35 * letters) * number
                draw.text((size[0] / 2, down), line, INK, text, anchor="ma")
            break
    return picture


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
