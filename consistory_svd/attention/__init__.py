"""The method: attention that shares the subject between frames (Tewel et al. 2024, arXiv 2402.03286)."""

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

from consistory_svd.attention.anchor_cache import AnchorCache, Origin
from consistory_svd.attention.processors import sharing
from consistory_svd.attention.schedule import Schedule
from consistory_svd.attention.state import SharingState
from consistory_svd.attention.subject_masks import ConceptSpans, find_concept_spans, subject_masks
from consistory_svd.attention.svd_filter_log import FilterLog, FilterSummary

__all__ = [
    "AnchorCache",
    "ConceptSpans",
    "FilterLog",
    "FilterSummary",
    "Origin",
    "Schedule",
    "SharingState",
    "find_concept_spans",
    "sharing",
    "subject_masks",
]
