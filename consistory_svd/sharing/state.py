"""The state of one batch while it is denoised: what its attention processors read and write."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from consistory_svd.settings import Settings
from consistory_svd.sharing.bank import AnchorBank
from consistory_svd.sharing.layers import attention_layers, grid_at, mask_level
from consistory_svd.sharing.masks import MapWindow, Occurrences, drop, subject_masks
from consistory_svd.sharing.processors import ExtendedSelfAttention, RecordingCrossAttention

DROPOUT_SALT = 0x5DEECE66D


class SharingState:
    """Masks, lenders and step of a batch of frames, of which the first `anchors` lend their subject.

    The denoising loop owns the step: it calls `begin_step` before the U-Net and `end_step` after it.

    Args:
        unet: the U-Net that will denoise the batch.
        latent_size: height and width of the latents.
        occurrences: where the concepts stand in the batch's prompts.
        settings: `sdsa`, `masking` and `mask_dropout` are read; `guidance` decides on the halves.
        frame_seeds: one a frame of the batch, the source of its mask dropout.
        anchors: how many frames of the batch lend, 0 with a `reading` bank.
        reading: the bank whose anchors lend to every frame of the batch.
        filling: the bank that keeps what this batch's anchors lend.
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
        reading: AnchorBank | None = None,
        filling: AnchorBank | None = None,
    ) -> None:
        self.frames = len(frame_seeds)
        self.halves = 2 if settings.guidance > 1 else 1
        self.latent_size = latent_size
        self.occurrences = occurrences.to(unet.device)
        self.reading, self.filling = reading, filling
        self.step = 0
        self.maps: Tensor | None = None
        self._settings = settings
        self._layers = attention_layers(unet)
        self._mask_level = mask_level(self._layers)
        self._extended = [layer for layer in self._layers if layer.kind == "self" and layer.part == "up"]
        # Coarse to fine: the order in which dropout is drawn.
        self._grids = sorted({layer.grid(latent_size) for layer in self._extended})
        self._window = MapWindow()
        self._lenders = range(anchors)
        # CPU generators, so that every device draws the same.
        self._generators = [
            torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + DROPOUT_SALT) % 2**63)
            for seed in frame_seeds[:anchors]
        ]
        self._kept: dict[tuple[int, int], dict[int, Tensor | None]] = {}
        self.groups = self._group()

    @property
    def extends(self) -> bool:
        """Whether self-attention is extended at this step: at all but the first, which has no masks yet."""
        return self._settings.sdsa and self.step > 0

    @property
    def finest_grid(self) -> tuple[int, int]:
        """The finest grid that has attention."""
        return grid_at(min(layer.level for layer in self._layers), self.latent_size)

    def processors(self) -> dict[str, ExtendedSelfAttention | RecordingCrossAttention]:
        """The processors to install, by the names of their layers; all other layers keep theirs."""
        extended = {layer.name: ExtendedSelfAttention(self, layer) for layer in self._extended}
        recording = {
            layer.name: RecordingCrossAttention(self)
            for layer in self._layers
            if layer.kind == "cross" and layer.level == self._mask_level
        }
        return extended | recording

    def begin_step(self, step: int) -> None:
        """Say which step, counted from 0, the U-Net is about to be called for."""
        self.step = step

    def record(self, maps: Tensor) -> None:
        """Take a layer's maps of the concepts: [frames, occurrences, pixels of the mask grid]."""
        self._window.add(maps)

    def end_step(self) -> None:
        """Aggregate the recorded maps, and draw the masks that the next step's attention uses."""
        grid = grid_at(self._mask_level, self.latent_size)
        self.maps = self._window.close_step().unflatten(-1, grid)
        if self._settings.sdsa:
            self._kept = {grid: self._draw(grid) for grid in self._grids}

    def masks(self, grid: tuple[int, int]) -> Tensor:
        """The frames' subject masks, without dropout, as of the last step: bool [frames, height * width]."""
        return subject_masks(self.maps, self.occurrences.present, grid)

    def kept_tokens(self, grid: tuple[int, int]) -> dict[int, Tensor | None]:
        """For each lender in the batch, the indices of the tokens it lends; None stands for all of them."""
        return self._kept[grid]

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
