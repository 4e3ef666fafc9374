"""How a story fits into memory and time: what it needs, a plan for what is free, the plan carried out."""

from consistory_svd.memory.estimate import Footprint, Job, footprint
from consistory_svd.memory.offload import Placement, free_bytes, free_cache, host_bytes, is_out_of_memory
from consistory_svd.memory.plan import PLANS, Item, MemoryMode, MemoryPlan, check_mode, next_below, plan
from consistory_svd.memory.time_estimate import Estimate, Pace, duration_in_words

__all__ = [
    "PLANS",
    "Estimate",
    "Footprint",
    "Item",
    "Job",
    "MemoryMode",
    "MemoryPlan",
    "Pace",
    "Placement",
    "check_mode",
    "duration_in_words",
    "footprint",
    "free_bytes",
    "free_cache",
    "host_bytes",
    "is_out_of_memory",
    "next_below",
    "plan",
]
