"""How a story fits into memory and time: what it needs, a plan for what is free, the plan carried out."""

from consistory_svd.memory.footprint import Footprint, Job, footprint
from consistory_svd.memory.pace import Estimate, Pace, duration_in_words
from consistory_svd.memory.placement import Placement, free_bytes, free_cache, host_bytes, is_out_of_memory
from consistory_svd.memory.plan import PLANS, Item, MemoryMode, MemoryPlan, check_mode, next_below, plan

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
