"""The state of one batch while it is denoised: what its attention processors read and write."""

from collections.abc import Sequence
from dataclasses import dataclass

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from consistory_svd.attention.anchor_cache import AnchorCache
from consistory_svd.attention.feature_injection import FeatureInjection
from consistory_svd.attention.layers import AttentionLayout
from consistory_svd.attention.query_blending import QueryBlending
from consistory_svd.attention.schedule import Schedule
from consistory_svd.attention.subject_masks import ConceptSpans, SubjectMasks
from consistory_svd.attention.svd_filter_log import AnchorFilter, FilterLog
from consistory_svd.settings import Settings

REFERENCE_SALT = 0x2545F4914F6CDD1D
AnchorGroup = tuple[slice, list[int]]  # frames of a batch, and the anchors they attend to


@dataclass(frozen=True)
class Snapshot:
    """Everything in a state that changes from step to step."""

    masks: SubjectMasks
    references: torch.Generator


class SharingState:
    """Masks, queries, features and step of a batch of frames, the first `anchors` of which are anchors.

    The denoising loop owns the step: it calls `begin_step` before the U-Net and `end_step` after it.

    Args:
        unet: the U-Net that will denoise the batch.
        latent_size: height and width of the latents.
        spans: positions of the concepts in the batch's prompts.
        settings: which parts of the method are on; `guidance` decides on the halves.
        frame_seeds: one per frame of the batch, the source of its mask dropout.
        anchors: number of anchors in the batch, 0 with a `read_cache`; with random anchors all are.
        schedule: which step does what; None where only masks and attention are shared.
        read_cache: the cache whose anchors every frame of the batch attends to.
        write_cache: the cache that keeps this batch's anchors.
        story_seed: the source of random anchors.
        filter_log: the log of the SVD filter, if any.
    """

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
        self.step = 0
        self.schedule = schedule or Schedule(settings.steps)
        self.layout = AttentionLayout(unet, latent_size)
        self.read_cache, self.write_cache = read_cache, write_cache
        self._random = settings.random_anchors and read_cache is None
        self._anchors = self.frames if self._random else anchors
        self.masks = SubjectMasks(
            spans.to(unet.device),
            self.layout.mask_grid,
            self.layout.extended_grids if settings.sdsa else [],
            frame_seeds[: self._anchors],
            settings.mask_dropout if settings.masking else None,
        )
        self.queries = QueryBlending(self.schedule.blend_weights)
        self.injection = FeatureInjection(
            self.frames, self._anchors, self.layout.finest_grid, self.schedule.feature_step
        )
        self.anchor_filter = AnchorFilter(settings.k_filter, settings.v_filter, filter_log)
        self._sdsa = settings.sdsa
        self._references = torch.Generator().manual_seed((story_seed + REFERENCE_SALT) % 2**63)

    @property
    def extends(self) -> bool:
        """Whether self-attention is extended: at every step but the first, which has no masks yet."""
        return self._sdsa and self.step > 0 and not self.queries.recording

    @property
    def first_pass(self) -> bool:
        """Whether this step is of the first of two passes, where it differs from the second."""
        return bool(self.schedule.injected) and not self.injection.matched and self.step >= self.schedule.fork

    def begin_step(self, step: int) -> bool:
        """Set the step, counted from 0, that the U-Net is about to be called for.

        Returns whether it must first be called inside `queries.record()`, because queries are blended.
        """
        self.step = step
        return self.queries.begin_step(step) and self.extends

    def end_step(self) -> None:
        """Aggregate the recorded maps, and draw the masks that the next step's attention uses."""
        self.masks.end_step()
        self.injection.end_step()

    def groups(self) -> list[AnchorGroup]:
        """Frames that attend to the same anchors of the batch, and those anchors.

        An anchor attends to the other anchors, every other frame to all of them. With random anchors every
        frame attends to one other, drawn again at each call. Source: docs/method.md, sections 2 and 6.
        """
        if self._random:
            draws = torch.randint(self.frames - 1, (self.frames,), generator=self._references).tolist()
            return [(slice(i, i + 1), [j + (j >= i)]) for i, j in enumerate(draws)]
        anchors = list(range(self._anchors))
        groups = [(slice(i, i + 1), [j for j in anchors if j != i]) for i in anchors]
        if self.frames > len(anchors):
            groups.append((slice(len(anchors), self.frames), anchors))
        return groups

    def save_snapshot(self) -> Snapshot:
        """What `restore_snapshot` needs to return to this step."""
        return Snapshot(self.masks.copy(), self._references.clone_state())

    def restore_snapshot(self, snapshot: Snapshot) -> None:
        """Return to the step of a snapshot; matches stay."""
        self.masks, self._references = snapshot.masks.copy(), snapshot.references.clone_state()

    def capture_features(self, features: Tensor) -> None:
        """Take the output of the U-Net's feature block; kept at the features' step of the first pass."""
        if not self.queries.recording:
            self.injection.capture(self.step, features)

    @torch.no_grad()
    def find_matches(self) -> None:
        """End the first of two passes: match the frames' subjects by their features, with the last masks.

        RuntimeError before the features' step was done.
        """
        masks = self.masks.at(self.layout.finest_grid)
        cached = None if self.read_cache is None else self.read_cache.features
        features = self.injection.find_matches(masks, cached)
        if self.write_cache is not None:
            self.write_cache.put_features(features)

    @property
    def injects(self) -> bool:
        """Whether features are injected at this step."""
        due = self.step in self.schedule.injected
        return due and self.injection.matched and not self.queries.recording

    def inject(self, layer: str, output: Tensor) -> None:
        """Inject features into a layer's output, [halves * frames, pixels, channels], in place."""
        conditional = output[-self.frames :]
        cached = None
        if self.read_cache is not None:
            cached = self.read_cache.get_injected(layer, self.step, like=output)
        self.injection.inject(conditional, cached)
        if self.write_cache is not None:
            self.write_cache.put_injected(layer, self.step, self.injection.at_anchors(conditional))
