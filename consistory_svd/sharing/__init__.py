"""The method: attention that shares the subject between frames (Tewel et al. 2024, arXiv 2402.03286)."""

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import UNet2DConditionModel

from consistory_svd.sharing.bank import AnchorBank, Origin
from consistory_svd.sharing.masks import Occurrences, find_occurrences, subject_masks
from consistory_svd.sharing.schedule import Schedule
from consistory_svd.sharing.sketch import SpectraSketch
from consistory_svd.sharing.spectra import SpectraLog, SpectrumRecord
from consistory_svd.sharing.state import SharingState

__all__ = [
    "AnchorBank",
    "Occurrences",
    "Origin",
    "Schedule",
    "SharingState",
    "SpectraLog",
    "SpectraSketch",
    "SpectrumRecord",
    "find_occurrences",
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
