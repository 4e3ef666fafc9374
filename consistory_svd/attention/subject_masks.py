"""Subject masks from cross-attention maps (spec section 4.3 and 4.4). Pure tensor functions and one window.

A *concept* is a word or a phrase; an *occurrence* is one place in a prompt where all its tokens stand in a
row. Each occurrence has a map of its own, the mean of its tokens' maps; after thresholding, all occurrences
of all concepts are OR-ed. Where a concept is one token that occurs once, this is what the paper's authors
do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BINS = 256
# Maps are averaged over this many steps, the current one included (spec 4.3).
WINDOW = 20


@dataclass(frozen=True)
class ConceptSpans:
    """Where the concepts stand in the prompts of a batch of B frames, padded to T tokens and O occurrences.

    tokens: [B, T] positions in the prompt; pool: [B, T, O] weights that average an occurrence's tokens,
    zero where padded; present: [B, O], False where padded.
    """

    tokens: Tensor
    pool: Tensor
    present: Tensor

    def to(self, device: torch.device) -> "ConceptSpans":
        """The same on another device."""
        return ConceptSpans(self.tokens.to(device), self.pool.to(device), self.present.to(device))


def find_concept_spans(prompts: Sequence[Sequence[int]], concepts: Sequence[Sequence[int]]) -> ConceptSpans:
    """Find concepts in prompts, both as token ids: prompts with their start token, concepts without specials.

    A frame whose prompt has no concept gets an empty mask. Where the reference would take the first token
    and the last occurrence, all tokens of all occurrences count (spec section 0).
    """
    found = [[span for concept in concepts for span in _spans(prompt, concept)] for prompt in prompts]
    most = max(1, max(len(spans) for spans in found))
    longest = max(1, max(sum(len(span) for span in spans) for spans in found))
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    pool = torch.zeros(len(prompts), longest, most)
    present = torch.zeros(len(prompts), most, dtype=torch.bool)
    for frame, spans in enumerate(found):
        start = 0
        for place, span in enumerate(spans):
            end = start + len(span)
            tokens[frame, start:end] = torch.tensor(span)
            pool[frame, start:end, place] = 1 / len(span)
            present[frame, place] = True
            start = end
    return ConceptSpans(tokens, pool, present)


def _spans(prompt: Sequence[int], concept: Sequence[int]) -> list[range]:
    length = len(concept)
    starts = range(len(prompt) - length + 1) if length else range(0)
    return [range(i, i + length) for i in starts if list(prompt[i : i + length]) == list(concept)]


def concept_maps(query: Tensor, key: Tensor, scale: float, spans: ConceptSpans) -> Tensor:
    """Cross-attention probabilities of the occurrences, averaged over heads: [B, O, queries], float32.

    query: [B, heads, queries, d], key: [B, heads, prompt tokens, d]. The softmax is normalised over all
    tokens; only the concepts' columns are kept.
    """
    logits = (query @ key.transpose(-1, -2)).float() * scale  # [B, heads, queries, prompt tokens]
    normaliser = logits.logsumexp(-1, keepdim=True)
    columns = spans.tokens[:, None, None, :].expand(-1, *logits.shape[1:3], -1)
    chosen = (logits.gather(-1, columns) - normaliser).exp().mean(1)  # [B, queries, T]
    return (chosen @ spans.pool).transpose(1, 2)


class MapWindow:
    """The mean maps of each of the last steps, [B, O, pixels] a step: at most `length` of them (spec 4.3)."""

    def __init__(self, length: int = WINDOW) -> None:
        self._length = length
        self._steps: list[Tensor] = []
        self._layers = 0
        self._current: Tensor | None = None

    def copy(self) -> "MapWindow":
        """A window that goes its own way from here."""
        twin = MapWindow(self._length)
        twin._steps = list(self._steps)
        return twin

    def add(self, maps: Tensor) -> None:
        """Add a layer's maps, [B, O, pixels], to the current step."""
        self._current = maps if self._current is None else self._current + maps
        self._layers += 1

    def close_step(self) -> Tensor:
        """End the step and return the mean over the layers and steps in the window: [B, O, pixels].

        The oldest step leaves when the window is full. RuntimeError when no layer added anything.
        """
        if self._current is None:
            raise RuntimeError("no cross-attention layer recorded this step")
        self._steps = [*self._steps[1 - self._length :], self._current / self._layers]
        self._current, self._layers = None, 0
        return torch.stack(self._steps).mean(0)


def otsu_threshold(values: Tensor) -> Tensor:
    """Otsu's threshold of each row: [rows, n] -> [rows], in float32.

    As scikit-image's threshold_otsu: 256 equal bins from a row's minimum to its maximum, the centre of the
    first bin of largest between-class variance; a constant row returns its value. No value is read back
    from the device.
    """
    values = values.float()
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    constant = low == high
    width = torch.where(constant, torch.ones_like(low), high - low)
    ramp = torch.arange(BINS + 1, device=values.device, dtype=torch.float32)
    edges = ramp * (width / BINS) + low  # [rows, 257]
    edges[:, -1:] = low + width
    counts = _histogram(values, low, width, edges)
    centres = (edges[:, :-1] + edges[:, 1:]) / 2
    moments = counts * centres
    below, above = counts.cumsum(-1), _backward_sum(counts)
    # Only constant rows have empty ends; they are answered apart.
    mean_below = moments.cumsum(-1) / below.clamp(min=1)
    mean_above = _backward_sum(moments) / above.clamp(min=1)
    variance = below[:, :-1] * above[:, 1:] * (mean_below[:, :-1] - mean_above[:, 1:]) ** 2
    # argmax may return any of equal maxima: the first one is the first bin that reaches the largest value.
    first = (variance == variance.amax(-1, keepdim=True)).byte().argmax(-1, keepdim=True)
    return torch.where(constant, low, centres.gather(-1, first)).squeeze(-1)


def _histogram(values: Tensor, low: Tensor, width: Tensor, edges: Tensor) -> Tensor:
    """Counts as numpy.histogram gives them: the bin computed, then corrected by the edges as rounded."""
    bins = ((values - low) * (BINS / width)).long().clamp(0, BINS - 1)
    bins = bins - (values < edges.gather(-1, bins)).long()
    bins = bins + ((values >= edges.gather(-1, bins + 1)) & (bins < BINS - 1)).long()
    counts = torch.zeros(values.shape[0], BINS, device=values.device)
    return counts.scatter_add_(-1, bins, torch.ones_like(values))


def _backward_sum(values: Tensor) -> Tensor:
    return values.flip(-1).cumsum(-1).flip(-1)


def subject_masks(maps: Tensor, present: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks of the subject at a grid of (h, w): bool [B, h * w].

    maps: [B, O, map height, map width]; present: [B, O]. Maps are resized bilinearly, without antialiasing,
    then thresholded by Otsu: a pixel is in where it is strictly above. Source: spec 4.3.
    """
    if grid != tuple(maps.shape[-2:]):
        maps = functional.interpolate(maps.float(), size=grid, mode="bilinear", align_corners=False)
    rows = maps.reshape(-1, grid[0] * grid[1])
    above = rows > otsu_threshold(rows)[:, None]
    return (above.view(*maps.shape[:2], -1) & present[:, :, None]).any(1)


def drop(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A frame's mask, bool [pixels], with about `share` of the pixels removed at random.

    A pixel goes where its uniform draw is below `share` (spec 4.3). One draw a pixel, in the mask or not,
    made on the generator's device.
    """
    draws = torch.rand(mask.shape, generator=generator, device=generator.device)
    return mask & (draws >= share).to(mask.device)
