"""The memory of one story: its plan is chosen before it begins, and made smaller where memory runs out."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from consistory_svd.attention import AnchorCache, Schedule
from consistory_svd.memory.estimate import Footprint, Job, footprint
from consistory_svd.memory.offload import free_bytes, free_cache, host_bytes
from consistory_svd.memory.plan import PLANS, MemoryPlan, next_below, plan
from consistory_svd.memory.time_estimate import Estimate

if TYPE_CHECKING:
    from consistory_svd.models.model import Model

log = logging.getLogger(__name__)


class MemoryManager:
    """Keeps a story within memory. `plan` and `estimate` are known once it has begun."""

    plan: MemoryPlan
    estimate: Estimate

    def __init__(self, model: Model, job: Job, schedule: Schedule, frames: int) -> None:
        self._model, self._job = model, job
        # The extra calls that query blending makes; that of the first step is never made.
        self._calls = frames * (schedule.calls + max(0, len(schedule.blend_weights) - 1))
        self._frames = frames
        # Moving something between a device and the CPU's memory frees nothing where they are the same.
        self._shared = model.device.type in ("cpu", "mps")

    def begin(self, anchor_cache: AnchorCache) -> None:
        """Choose a plan for what is free now and carry it out."""
        model = self._model
        need = footprint(model.pipe, model.dtype, self._job)
        self.plan = self._planned(need, model.memory)
        self._operations = self._calls * need.call_operations + self._frames * need.decode_operations
        self.estimate = model.pace.estimate(self._operations, model.device, model.dtype)
        self._need = need
        self._carry_out(anchor_cache)
        log.info("%s. %s.", self.plan.words(), self.estimate.words())

    def step_down(self, anchor_cache: AnchorCache) -> bool:
        """Carry out the next smaller plan; False where there is none."""
        smaller = next_below(self.plan.name, self._shared)
        free_cache(self._model.device)
        if smaller is None:
            return False
        self.plan = self._planned(self._need, smaller)
        self._carry_out(anchor_cache)
        return True

    def stepped_down(self, finished: int) -> str:
        """What happened, in words."""
        kept = f"the {finished} finished pictures are kept; " if finished else ""
        name = self.plan.name
        return f"memory ran out; {kept}the story goes on with the memory plan {name}: {PLANS[name]}"

    def learn(self, seconds: float) -> None:
        """Take notice of how long the story took."""
        self._model.pace.learn(self._operations, seconds)

    def end(self) -> None:
        """Give memory back that only the story needed."""
        if self._model.device.type != "cpu":
            free_cache(self._model.device)

    def _planned(self, need: Footprint, mode: str) -> MemoryPlan:
        placement, device = self._model.placement, self._model.device
        if mode == "auto" and placement.rounded:
            mode = "fp8"  # there is no way back
        held = placement.held()
        found = plan(need, self._job, mode, free_bytes(device, held), host_bytes(), self._shared)
        return replace(found, batch=min(found.batch, self._job.settings.batch))

    def _carry_out(self, anchor_cache: AnchorCache) -> None:
        self._model.placement.apply(self.plan.name)
        if self.plan.cache_on_cpu and not self._shared:
            anchor_cache.to("cpu")
