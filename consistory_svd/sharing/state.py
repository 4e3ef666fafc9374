"""The state of one batch while it is denoised: what its attention processors read and write."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from consistory_svd.settings import Settings
from consistory_svd.sharing.bank import AnchorBank
from consistory_svd.sharing.correspondence import Matches, blend_into, directions, match, smooth
from consistory_svd.sharing.layers import attention_layers, feature_block, grid_at, mask_level
from consistory_svd.sharing.masks import MapWindow, Occurrences, drop, subject_masks
from consistory_svd.sharing.processors import RecordingCrossAttention, SharedSelfAttention
from consistory_svd.sharing.schedule import Schedule
from consistory_svd.sharing.spectra import LentFilter, SpectraLog

DROPOUT_SALT = 0x5DEECE66D
REFERENCE_SALT = 0x2545F4914F6CDD1D


@dataclass(frozen=True)
class Memory:
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

    BANK: ClassVar[int] = -1  # the lender that is not in the batch

    def __init__(
        self,
        unet: UNet2DConditionModel,
        latent_size: tuple[int, int],
        occurrences: Occurrences,
        settings: Settings,
        frame_seeds: Sequence[int],
        anchors: int,
        schedule: Schedule | None = None,
        reading: AnchorBank | None = None,
        filling: AnchorBank | None = None,
        story_seed: int = 0,
        spectra: SpectraLog | None = None,
    ) -> None:
        self.frames = len(frame_seeds)
        self.halves = 2 if settings.guidance > 1 else 1
        self.latent_size = latent_size
        self.occurrences = occurrences.to(unet.device)
        self.reading, self.filling = reading, filling
        self.schedule = schedule or Schedule(settings.steps)
        self.lent_filter = LentFilter(settings.spectrum_k, settings.spectrum_v, spectra)
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
        lending = self.frames if settings.random_anchors and reading is None else anchors
        self._lenders = range(lending)
        # CPU generators, so that every device draws the same.
        self._generators = [
            torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + DROPOUT_SALT) % 2**63)
            for seed in frame_seeds[:lending]
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
        return subject_masks(self.maps, self.occurrences.present, grid)

    def kept_tokens(self, grid: tuple[int, int]) -> dict[int, Tensor | None]:
        """For each lender in the batch, the indices of the tokens it lends; None stands for all of them."""
        return self._kept[grid]

    def groups(self) -> list[tuple[slice, list[int]]]:
        """Frames that borrow from the same lenders, and those lenders; random ones are drawn a call."""
        if not (self._settings.random_anchors and self.reading is None):
            return self._groups
        draws = torch.randint(self.frames - 1, (self.frames,), generator=self._references).tolist()
        return [(slice(i, i + 1), [j + (j >= i)]) for i, j in enumerate(draws)]

    def remember(self) -> Memory:
        """What `recall` needs to go back to here."""
        generators = (*self._generators, self._references)
        return Memory(self._window.copy(), self.maps, self._kept, tuple(g.get_state() for g in generators))

    def recall(self, memory: Memory) -> None:
        """Go back to what was remembered; matches stay."""
        self._window, self.maps, self._kept = memory.window.copy(), memory.maps, memory.kept
        for generator, held in zip((*self._generators, self._references), memory.generators, strict=True):
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
        if self.reading is not None:
            donors = self.reading.features.to(vectors)
            self._matches = [match(vectors[i], masks[i], donors) for i in range(count)]
            return
        if self.filling is not None:
            lenders = len(self._lenders)
            self.filling.keep_features(vectors[:lenders][masks[:lenders]])
            self._giving = masks[:lenders].flatten().nonzero().squeeze(-1)
        places = torch.arange(count * pixels, device=masks.device).view(count, pixels)
        self._matches = []
        for i in range(count):
            others = [j for j in self._lenders if j != i]
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
        if self.reading is not None:
            donors = self.reading.injected(layer, self.step, like=output)
        for frame, matches in enumerate(self._matches):
            if matches is not None:
                blend_into(conditional[frame], matches, donors)
        if self.filling is not None:
            self.filling.keep_injected(layer, self.step, every[self._giving])

    def _draw(self, grid: tuple[int, int]) -> dict[int, Tensor | None]:
        if not self._settings.masking:
            return dict.fromkeys(self._lenders)
        count = len(self._lenders)
        if not count:
            return {}
        masks = subject_masks(self.maps[:count], self.occurrences.present[:count], grid)
        share = self._settings.mask_dropout
        if share > 0:
            masks = torch.stack(
                [
                    drop(mask, share, generator)
                    for mask, generator in zip(masks, self._generators, strict=True)
                ]
            )
        return {lender: masks[lender].nonzero().squeeze(-1) for lender in self._lenders}

    def _group(self) -> list[tuple[slice, list[int]]]:
        """Frames that borrow from the same lenders, and those lenders (spec section 3)."""
        if self.reading is not None:
            return [(slice(0, self.frames), [self.BANK])]
        lenders = list(self._lenders)
        groups = [(slice(i, i + 1), [j for j in lenders if j != i]) for i in lenders]
        if self.frames > len(lenders):
            groups.append((slice(len(lenders), self.frames), lenders))
        return groups
