"""Number formats by trial: some processors have matrix units for bfloat16, others emulate it at a hundredth
of float32's speed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch

from training.parallel import same_everywhere

log = logging.getLogger(__name__)
MUCH_SLOWER = 3.0


def seconds_of(work: Callable[[], object], repeats: int = 2) -> float:
    """How long `work` takes: the mean of `repeats` calls after one that is not counted."""
    work()
    start = time.monotonic()
    for _ in range(repeats):
        work()
    return (time.monotonic() - start) / repeats


def _product(dtype: torch.dtype, device: str) -> float:
    matrix = torch.ones(256, 256, dtype=dtype, device=device)
    return seconds_of(lambda: (matrix @ matrix).sum().item())


def faster_in_bfloat16(step: Callable[[bool], object], device: str = "cpu") -> bool:
    """Whether `step(True)`, which uses autocast to bfloat16, takes less time than `step(False)`.

    Where a small matrix product already says that bfloat16 is emulated, no whole step is tried, for it could
    take minutes. Other devices than the CPU are taken to be faster. With several processes the first decides.
    """
    if device != "cpu":
        return True
    emulated = _product(torch.bfloat16, device) / _product(torch.float32, device)
    if same_everywhere(emulated) > MUCH_SLOWER:
        log.info("bfloat16 is %.0f times slower than float32 here", emulated)
        return False
    full, reduced = (seconds_of(lambda r=r: step(r)) for r in (False, True))
    log.info("a step takes %.2f s in float32 and %.2f s in bfloat16", full, reduced)
    return bool(same_everywhere(reduced - full) < 0)


def autocast(device: str, reduced: bool) -> torch.autocast:
    """Autocast to bfloat16 where `reduced`, else nothing."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=reduced)
