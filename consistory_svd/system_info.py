"""System information: memory, and versions of libraries."""

import importlib.metadata
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "gradio", "pillow", "numpy", "dreamsim")


@dataclass(frozen=True)
class Memory:
    """Memory of one kind in bytes: used by this program, used by all, and total."""

    name: str
    ours: int
    used: int
    whole: int

    @property
    def free(self) -> int:
        """Free bytes."""
        return self.whole - self.used


def memory(device: "torch.device | str | None" = None) -> tuple[Memory, ...]:
    """Return the memory of this machine and, for a CUDA device, of the device (MPS shares the machine's)."""
    system = psutil.virtual_memory()
    ours = psutil.Process().memory_info().rss
    found = [Memory("Memory", ours, system.total - system.available, system.total)]
    import torch

    if device is not None and torch.device(device).type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        name = f"Memory of {torch.cuda.get_device_name(device)}"
        found.append(Memory(name, torch.cuda.memory_reserved(device), whole - free, whole))
    return tuple(found)


def versions() -> dict[str, str]:
    """Return versions by name: Python, and each of LIBRARIES that is installed."""
    found = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
