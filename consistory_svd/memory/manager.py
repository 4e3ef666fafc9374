"""The memory of one story: a mode chosen before it begins, and stepped down if memory runs out."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from consistory_svd.memory.estimate import estimate
from consistory_svd.memory.offload import free_bytes, free_cache, host_bytes
from consistory_svd.memory.plan import MEMORY_MODES, MemoryPlan, Workload, next_below, plan

if TYPE_CHECKING:
    from consistory_svd.attention import AnchorCache
    from consistory_svd.models.model import Model

log = logging.getLogger(__name__)


class MemoryManager:
    """Keeps a story within memory. When made, it chooses a mode for what is free; `apply` carries it out."""

    def __init__(self, model: Model, workload: Workload) -> None:
        self._model, self._workload = model, workload
        # CPU and Apple devices use the CPU's memory: moving weights there frees nothing.
        self._shared_memory = model.device.type in ("cpu", "mps")
        self._need = estimate(model.pipe, model.dtype, workload)
        self.plan = self._plan(model.memory)
        log.info("%s.", self.plan.description())

    def apply(self, anchor_cache: AnchorCache) -> None:
        """Move the weights and the cache to where the plan has them."""
        self._model.placement.apply(self.plan.mode)
        if self.plan.cache_on_cpu and not self._shared_memory:
            anchor_cache.to("cpu")

    def step_down(self, anchor_cache: AnchorCache) -> bool:
        """Choose and carry out the next smaller mode; False if there is none."""
        smaller = next_below(self.plan.mode, self._shared_memory)
        free_cache(self._model.device)
        if smaller is None:
            return False
        self.plan = self._plan(smaller)
        self.apply(anchor_cache)
        return True

    def step_down_note(self, finished: int) -> str:
        """A message about the last step down, after `finished` frames."""
        kept = f"the {finished} finished images are kept; " if finished else ""
        mode = self.plan.mode
        return f"memory ran out; {kept}the story continues in memory mode {mode}: {MEMORY_MODES[mode]}"

    def end(self) -> None:
        """Release memory that only the story needed."""
        if self._model.device.type != "cpu":
            free_cache(self._model.device)

    def _plan(self, mode: str) -> MemoryPlan:
        placement, device = self._model.placement, self._model.device
        if mode == "auto" and placement.rounded:
            mode = "fp8"  # cannot be undone
        free = free_bytes(device, placement.held())
        found = plan(self._need, self._workload, mode, free, host_bytes(), self._shared_memory)
        return replace(found, batch=min(found.batch, self._workload.settings.batch))
