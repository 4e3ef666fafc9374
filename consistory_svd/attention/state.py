"""The state of one batch while it is denoised: what its attention processors read and write."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from consistory_svd.attention.anchor_cache import AnchorCache
from consistory_svd.attention.feature_injection import Matches, blend_into, directions, match, smooth
from consistory_svd.attention.layers import attention_layers, feature_block, grid_at, mask_level
from consistory_svd.attention.processors import RecordingCrossAttention, SharedSelfAttention
from consistory_svd.attention.schedule import Schedule
from consistory_svd.attention.subject_masks import ConceptSpans, MapWindow, drop, subject_masks
from consistory_svd.attention.svd_filter_log import AnchorFilter, FilterLog
from consistory_svd.settings import Settings

DROPOUT_SALT = 0x5DEECE66D
REFERENCE_SALT = 0x2545F4914F6CDD1D


@dataclass(frozen=True)
class Snapshot:
    """All of a state that changes from step to step, to go back to."""

    window: MapWindow
    maps: Tensor | None
    kept: dict[tuple[int, int], dict[int, Tensor | None]]
    generators: tuple[Tensor, ...]


class SharingState:
    """Masks, lenders, matches and step of a batch of frames, of which the first `anchors` lend their subject.

    The denoising loop owns the step: it calls `begin_step` before the U-Net and `end_step` after it.

    Args:
        unet: the U-Net that will denoise the batch.
        latent_size: height and width of the latents.
        occurrences: where the concepts stand in the batch's prompts.
        settings: which parts of the method are on; `guidance` decides on the halves.
        frame_seeds: one a frame of the batch, the source of its mask dropout.
        anchors: how many frames of the batch lend, 0 with a `reading` bank; with random anchors all do.
        schedule: which step does what; None where only masks and attention are shared.
        reading: the bank whose anchors lend to every frame of the batch.
        filling: the bank that keeps what this batch's anchors lend.
        story_seed: the source of random anchors.
        spectra: the log of the spectral filter, where one is wanted.
    """

    CACHE: ClassVar[int] = -1  # the lender that is not in the batch

    def __init__(
        self,
        unet: UNet2DConditionModel,
        latent_size: tuple[int, int],
        spans: ConceptSpans,
        settings: Settings,
        frame_seeds: Sequence[int],
        anchors: int,
        schedule: Schedule | None = None,
        read_cache: AnchorCache | None = None,
        write_cache: AnchorCache | None = None,
        story_seed: int = 0,
        filter_log: FilterLog | None = None,
    ) -> None:
        self.frames = len(frame_seeds)
        self.halves = 2 if settings.guidance > 1 else 1
        self.latent_size = latent_size
        self.spans = spans.to(unet.device)
        self.read_cache, self.write_cache = read_cache, write_cache
        self.schedule = schedule or Schedule(settings.steps)
        self.anchor_filter = AnchorFilter(settings.k_filter, settings.v_filter, filter_log)
        self.step = 0
        self.maps: Tensor | None = None
        self.keeping = False
        self._unet = unet
        self._settings = settings
        self._layers = attention_layers(unet)
        self._mask_level = mask_level(self._layers, unet.config.sample_size)
        self._extended = [layer for layer in self._layers if layer.kind == "self" and layer.part == "up"]
        # Coarse to fine: the order in which dropout is drawn.
        self._grids = sorted({layer.grid(latent_size) for layer in self._extended})
        self._window = MapWindow()
        anchors = self.frames if settings.random_anchors and read_cache is None else anchors
        self._anchors = range(anchors)
        # CPU generators, so that every device draws the same.
        self._generators = [
            torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + DROPOUT_SALT) % 2**63)
            for seed in frame_seeds[:anchors]
        ]
        self._references = torch.Generator().manual_seed((story_seed + REFERENCE_SALT) % 2**63)
        self._kept: dict[tuple[int, int], dict[int, Tensor | None]] = {}
        self._queries: dict[str, Tensor] = {}
        self._captured: Tensor | None = None
        self._features: Tensor | None = None
        self._matches: list[Matches | None] | None = None
        self._giving: Tensor | None = None
        self._groups = self._group()

    @property
    def extends(self) -> bool:
        """Whether self-attention is extended at this step: at all but the first, which has no masks yet."""
        return self._settings.sdsa and self.step > 0 and not self.keeping

    @property
    def first_pass(self) -> bool:
        """Whether this step is of the first of two passes, where it differs from the second."""
        return bool(self.schedule.injected) and self._matches is None and self.step >= self.schedule.fork

    @property
    def finest_grid(self) -> tuple[int, int]:
        """The finest grid that has attention: features are matched and injected there."""
        return grid_at(min(layer.level for layer in self._layers), self.latent_size)

    def processors(self) -> dict[str, SharedSelfAttention | RecordingCrossAttention]:
        """The processors to install, by the names of their layers; all other layers keep theirs."""
        found: dict[str, SharedSelfAttention | RecordingCrossAttention] = {}
        for layer in self._layers:
            fine = layer.grid(self.latent_size) == self.finest_grid and layer.part != "mid"
            injects = bool(self.schedule.injected) and fine
            if layer.kind == "cross" and layer.level == self._mask_level:
                found[layer.name] = RecordingCrossAttention(self)
            elif layer.kind == "self" and (layer in self._extended or injects):
                found[layer.name] = SharedSelfAttention(self, layer, layer in self._extended, injects)
        return found

    @contextmanager
    def watching_features(self) -> Iterator[None]:
        """Look at the U-Net's features while entered, where features are matched."""
        if not self.schedule.injected:
            yield
            return
        handle = feature_block(self._unet).register_forward_hook(self._see)
        try:
            yield
        finally:
            handle.remove()

    def _see(self, block: torch.nn.Module, given: tuple, features: Tensor) -> None:
        # Kept as it is, not copied: with FreeU the next block scales half of its channels in place, and the
        # method's features are the scaled ones (spec 5.2).
        if self.step == self.schedule.feature_step and self._matches is None and not self.keeping:
            self._captured = features

    def begin_step(self, step: int) -> bool:
        """Say which step, counted from 0, the U-Net is about to be called for.

        Returns whether it must first be called inside `keeping_queries`, because queries are blended.
        """
        self.step = step
        self._queries.clear()
        return self.extends and step < len(self.schedule.blend_weights)

    @contextmanager
    def keeping_queries(self) -> Iterator[None]:
        """While entered, attention is the model's own, and its queries are kept for the step's main call."""
        self.keeping = True
        try:
            yield
        finally:
            self.keeping = False

    def blended(self, layer: str, query: Tensor) -> Tensor:
        """The layer's query, any shape: kept, blended with what was kept, or as it is."""
        if self.keeping:
            self._queries[layer] = query
        elif layer in self._queries:
            weight = self.schedule.blend_weights[self.step]
            return weight * self._queries.pop(layer) + (1 - weight) * query
        return query

    def record(self, maps: Tensor) -> None:
        """Take a layer's maps of the concepts: [frames, occurrences, pixels of the mask grid]."""
        self._window.add(maps)

    def end_step(self) -> None:
        """Aggregate the recorded maps, and draw the masks that the next step's attention uses."""
        grid = grid_at(self._mask_level, self.latent_size)
        self.maps = self._window.close_step().unflatten(-1, grid)
        if self._settings.sdsa:
            self._kept = {grid: self._draw(grid) for grid in self._grids}
        if self._captured is not None:
            self._features = smooth(self._captured[-self.frames :])
            self._captured = None

    def masks(self, grid: tuple[int, int]) -> Tensor:
        """The frames' subject masks, without dropout, as of the last step: bool [frames, height * width]."""
        return subject_masks(self.maps, self.spans.present, grid)

    def kept_tokens(self, grid: tuple[int, int]) -> dict[int, Tensor | None]:
        """For each lender in the batch, the indices of the tokens it lends; None stands for all of them."""
        return self._kept[grid]

    def groups(self) -> list[tuple[slice, list[int]]]:
        """Frames that borrow from the same lenders, and those lenders; random ones are drawn a call."""
        if not (self._settings.random_anchors and self.read_cache is None):
            return self._groups
        draws = torch.randint(self.frames - 1, (self.frames,), generator=self._references).tolist()
        return [(slice(i, i + 1), [j + (j >= i)]) for i, j in enumerate(draws)]

    def save_snapshot(self) -> Snapshot:
        """What `recall` needs to go back to here."""
        generators = (*self._generators, self._references)
        return Snapshot(self._window.copy(), self.maps, self._kept, tuple(g.get_state() for g in generators))

    def restore_snapshot(self, snapshot: Snapshot) -> None:
        """Go back to what was remembered; matches stay."""
        self._window, self.maps, self._kept = snapshot.window.copy(), snapshot.maps, snapshot.kept
        for generator, held in zip((*self._generators, self._references), snapshot.generators, strict=True):
            generator.set_state(held)

    @torch.no_grad()
    def find_matches(self) -> None:
        """End the first of two passes: match the frames' subjects by the features that were seen.

        Masks are those after the last step. RuntimeError before the features' step was done.
        """
        if self._features is None:
            raise RuntimeError(f"the features' step {self.schedule.feature_step} was not done yet")
        grid = self.finest_grid
        masks, vectors = self.masks(grid), directions(self._features, grid)
        self._features = None
        count, pixels = masks.shape
        if self.read_cache is not None:
            donors = self.read_cache.features.to(vectors)
            self._matches = [match(vectors[i], masks[i], donors) for i in range(count)]
            return
        if self.write_cache is not None:
            anchors = len(self._anchors)
            self.write_cache.keep_features(vectors[:anchors][masks[:anchors]])
            self._giving = masks[:anchors].flatten().nonzero().squeeze(-1)
        places = torch.arange(count * pixels, device=masks.device).view(count, pixels)
        self._matches = []
        for i in range(count):
            others = [j for j in self._anchors if j != i]
            giving = [places[j, masks[j]] for j in others]
            found = None
            if others:
                row = torch.cat(giving)
                found = match(vectors[i], masks[i], vectors.flatten(0, 1)[row])
                found = found and Matches(found.targets, row[found.sources])
            self._matches.append(found)

    def injects(self) -> bool:
        """Whether features are injected at this step."""
        return self._matches is not None and self.step in self.schedule.injected and not self.keeping

    def inject(self, layer: str, output: Tensor) -> None:
        """Inject into a layer's output, [halves * frames, pixels, channels], in place (spec 5.4).

        One frame after the other: later frames take what earlier ones have become.
        """
        conditional = output[-self.frames :]
        every = conditional.flatten(0, 1)
        donors = every  # a view: it changes as frames are injected
        if self.read_cache is not None:
            donors = self.read_cache.injected(layer, self.step, like=output)
        for frame, matches in enumerate(self._matches):
            if matches is not None:
                blend_into(conditional[frame], matches, donors)
        if self.write_cache is not None:
            self.write_cache.keep_injected(layer, self.step, every[self._giving])

    def _draw(self, grid: tuple[int, int]) -> dict[int, Tensor | None]:
        if not self._settings.masking:
            return dict.fromkeys(self._anchors)
        count = len(self._anchors)
        if not count:
            return {}
        masks = subject_masks(self.maps[:count], self.spans.present[:count], grid)
        share = self._settings.mask_dropout
        if share > 0:
            masks = torch.stack(
                [
                    drop(mask, share, generator)
                    for mask, generator in zip(masks, self._generators, strict=True)
                ]
            )
        return {anchor: masks[anchor].nonzero().squeeze(-1) for anchor in self._anchors}

    def _group(self) -> list[tuple[slice, list[int]]]:
        """Frames that borrow from the same lenders, and those lenders (spec section 3)."""
        if self.read_cache is not None:
            return [(slice(0, self.frames), [self.CACHE])]
        anchors = list(self._anchors)
        groups = [(slice(i, i + 1), [j for j in anchors if j != i]) for i in anchors]
        if self.frames > len(anchors):
            groups.append((slice(len(anchors), self.frames), anchors))
        return groups
