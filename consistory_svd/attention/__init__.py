"""The method: attention that shares the subject between frames (Tewel et al. 2024, arXiv 2402.03286)."""

from collections.abc import Iterator
from contextlib import contextmanager

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

from diffusers import UNet2DConditionModel

from consistory_svd.attention.anchor_cache import AnchorCache, Origin
from consistory_svd.attention.schedule import Schedule
from consistory_svd.attention.state import SharingState
from consistory_svd.attention.subject_masks import ConceptSpans, find_concept_spans, subject_masks
from consistory_svd.attention.svd_filter_log import FilterLog, FilterRecord
from consistory_svd.attention.svd_filter_summary import FilterSummary

__all__ = [
    "AnchorCache",
    "ConceptSpans",
    "FilterLog",
    "FilterRecord",
    "FilterSummary",
    "Origin",
    "Schedule",
    "SharingState",
    "find_concept_spans",
    "sharing",
    "subject_masks",
]


@contextmanager
def sharing(unet: UNet2DConditionModel, state: SharingState) -> Iterator[SharingState]:
    """Install the processors of `state`; put back exactly what was there, whatever happens."""
    found = dict(unet.attn_processors)
    try:
        # set_attn_processor empties the dict it is given.
        unet.set_attn_processor({**found, **state.processors()})
        with state.watching_features():
            yield state
    finally:
        unet.set_attn_processor(dict(found))
