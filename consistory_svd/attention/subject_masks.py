"""Subject masks: cross-attention maps of the concepts, Otsu's threshold, mask dropout.

A *concept* is a word or a phrase; a *span* is one place in a prompt where all its tokens are consecutive.
Each span has its own map, the mean of its tokens' maps; after thresholding, all spans of all concepts are
combined by OR. For a concept that is one token and occurs once, this is the published method.
Source: Tewel et al. 2024, section 3.2; docs/method.md, section 3.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BINS = 256
# Maps are averaged over this many steps, including the current one.
WINDOW = 20
DROPOUT_SALT = 0x5DEECE66D


@dataclass(frozen=True)
class ConceptSpans:
    """Positions of the concepts in the prompts of a batch of B frames, padded to T tokens and S spans.

    tokens: [B, T] positions in the prompt; pool: [B, T, S] weights that average a span's tokens,
    zero where padded; present: [B, S], False where padded.
    """

    tokens: Tensor
    pool: Tensor
    present: Tensor

    def to(self, device: torch.device) -> "ConceptSpans":
        """The same on another device."""
        return ConceptSpans(self.tokens.to(device), self.pool.to(device), self.present.to(device))


def find_concept_spans(prompts: Sequence[Sequence[int]], concepts: Sequence[Sequence[int]]) -> ConceptSpans:
    """Find concepts in prompts, both as token ids: prompts with their start token, concepts without specials.

    A frame whose prompt has no concept gets an empty mask. All tokens of all spans count, not only the first
    token of the last span (docs/method.md, section 9).
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
    """Cross-attention probabilities of the spans, averaged over heads: [B, S, queries], float32.

    query: [B, heads, queries, d], key: [B, heads, prompt tokens, d]. The softmax is normalised over all
    tokens; only the concepts' columns are kept.
    """
    logits = (query @ key.transpose(-1, -2)).float() * scale  # [B, heads, queries, prompt tokens]
    normaliser = logits.logsumexp(-1, keepdim=True)
    columns = spans.tokens[:, None, None, :].expand(-1, *logits.shape[1:3], -1)
    chosen = (logits.gather(-1, columns) - normaliser).exp().mean(1)  # [B, queries, T]
    return (chosen @ spans.pool).transpose(1, 2)


class MapWindow:
    """The mean maps of each of the last steps, [B, S, pixels] per step: at most `length` of them."""

    def __init__(self, length: int = WINDOW) -> None:
        self._length = length
        self._steps: list[Tensor] = []
        self._layers = 0
        self._current: Tensor | None = None

    def copy(self) -> "MapWindow":
        """An independent copy."""
        twin = MapWindow(self._length)
        twin._steps = list(self._steps)
        return twin

    def add(self, maps: Tensor) -> None:
        """Add a layer's maps, [B, S, pixels], to the current step."""
        self._current = maps if self._current is None else self._current + maps
        self._layers += 1

    def close_step(self) -> Tensor:
        """End the step and return the mean over the layers and steps in the window: [B, S, pixels].

        The oldest step leaves when the window is full. RuntimeError if no layer added anything.
        """
        if self._current is None:
            raise RuntimeError("no cross-attention layer recorded this step")
        self._steps = [*self._steps[1 - self._length :], self._current / self._layers]
        self._current, self._layers = None, 0
        return torch.stack(self._steps).mean(0)


def otsu_threshold(values: Tensor) -> Tensor:
    """Otsu's threshold of each row: [rows, n] -> [rows], in float32.

    Equal to scikit-image's threshold_otsu: 256 equal bins from a row's minimum to its maximum, the centre of
    the first bin with the largest between-class variance; a constant row returns its value. No value is read
    back from the device.
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
    # Only constant rows have empty ends; they are handled separately.
    mean_below = moments.cumsum(-1) / below.clamp(min=1)
    mean_above = _backward_sum(moments) / above.clamp(min=1)
    variance = below[:, :-1] * above[:, 1:] * (mean_below[:, :-1] - mean_above[:, 1:]) ** 2
    # argmax may return any of several equal maxima; this finds the first.
    first = (variance == variance.amax(-1, keepdim=True)).byte().argmax(-1, keepdim=True)
    return torch.where(constant, low, centres.gather(-1, first)).squeeze(-1)


def _histogram(values: Tensor, low: Tensor, width: Tensor, edges: Tensor) -> Tensor:
    """Counts equal to numpy.histogram's: the bin is computed, then corrected by the rounded edges."""
    bins = ((values - low) * (BINS / width)).long().clamp(0, BINS - 1)
    bins = bins - (values < edges.gather(-1, bins)).long()
    bins = bins + ((values >= edges.gather(-1, bins + 1)) & (bins < BINS - 1)).long()
    counts = torch.zeros(values.shape[0], BINS, device=values.device)
    return counts.scatter_add_(-1, bins, torch.ones_like(values))


def _backward_sum(values: Tensor) -> Tensor:
    return values.flip(-1).cumsum(-1).flip(-1)


def subject_masks(maps: Tensor, present: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks of the subject at a grid of (h, w): bool [B, h * w].

    maps: [B, S, map height, map width]; present: [B, S]. Maps are resized bilinearly, without antialiasing,
    then thresholded by Otsu: pixels strictly above the threshold are in the mask. Source: docs/method.md,
    section 3.2.
    """
    if grid != tuple(maps.shape[-2:]):
        maps = functional.interpolate(maps.float(), size=grid, mode="bilinear", align_corners=False)
    rows = maps.reshape(-1, grid[0] * grid[1])
    above = rows > otsu_threshold(rows)[:, None]
    return (above.view(*maps.shape[:2], -1) & present[:, :, None]).any(1)


def drop(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A frame's mask, bool [pixels], with about `share` of the pixels removed at random.

    A pixel is removed where its uniform draw is below `share`. One draw per pixel, in the mask or not,
    made on the generator's device. Source: docs/method.md, section 3.3.
    """
    draws = torch.rand(mask.shape, generator=generator, device=generator.device)
    return mask & (draws >= share).to(mask.device)


class SubjectMasks:
    """The subject masks of a batch: the maps of the last steps, and the anchors' tokens that are shared.

    Args:
        spans: positions of the concepts in the batch's prompts.
        map_grid: grid of the layers that record maps.
        shared_grids: grids of the layers that share tokens, in the order in which dropout is drawn.
        anchor_seeds: seed of each anchor, the anchors being the first frames of the batch.
        dropout: share of the subject's pixels hidden from other frames; None: no masks, anchors share all.
    """

    def __init__(
        self,
        spans: ConceptSpans,
        map_grid: tuple[int, int],
        shared_grids: Sequence[tuple[int, int]],
        anchor_seeds: Sequence[int],
        dropout: float | None,
    ) -> None:
        self.spans = spans
        self.maps: Tensor | None = None
        self._map_grid, self._shared_grids, self._dropout = map_grid, shared_grids, dropout
        self._window = MapWindow()
        # CPU generators, so that every device draws the same.
        self._generators = [
            torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + DROPOUT_SALT) % 2**63)
            for seed in anchor_seeds
        ]
        self._anchor_tokens: dict[tuple[int, int], list[Tensor | None]] = {}

    def copy(self) -> "SubjectMasks":
        """An independent copy, which continues with the same random draws."""
        twin = copy.copy(self)
        twin._window = self._window.copy()
        twin._generators = [generator.clone_state() for generator in self._generators]
        return twin

    def record(self, maps: Tensor) -> None:
        """Add a layer's maps of the concepts, [frames, spans, pixels of the map grid], to this step."""
        self._window.add(maps)

    def end_step(self) -> None:
        """Aggregate the recorded maps, and draw the anchors' tokens for the next step."""
        self.maps = self._window.close_step().unflatten(-1, self._map_grid)
        self._anchor_tokens = {grid: self._draw(grid) for grid in self._shared_grids}

    def at(self, grid: tuple[int, int]) -> Tensor:
        """The frames' masks as of the last step, without dropout: bool [frames, height * width]."""
        return subject_masks(self.maps, self.spans.present, grid)

    def anchor_tokens(self, grid: tuple[int, int]) -> list[Tensor | None]:
        """For each anchor, the indices of the tokens that it shares; None means all of them."""
        return self._anchor_tokens[grid]

    def _draw(self, grid: tuple[int, int]) -> list[Tensor | None]:
        anchors = len(self._generators)
        if self._dropout is None or not anchors:
            return [None] * anchors
        masks = subject_masks(self.maps[:anchors], self.spans.present[:anchors], grid)
        if self._dropout > 0:
            pairs = zip(masks, self._generators, strict=True)
            masks = torch.stack([drop(mask, self._dropout, generator) for mask, generator in pairs])
        return [mask.nonzero().squeeze(-1) for mask in masks]
