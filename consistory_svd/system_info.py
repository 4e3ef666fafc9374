"""What a studio runs on: memory in use and free, and the versions of what it is made of."""

import importlib.metadata
import platform
from dataclasses import dataclass

import psutil
import torch

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "gradio", "pillow", "numpy", "dreamsim")


@dataclass(frozen=True)
class Memory:
    """Memory of one kind in bytes: what this program has of it, what all programs have, and what there is."""

    name: str
    ours: int
    used: int
    whole: int

    @property
    def free(self) -> int:
        """Bytes that can still be had."""
        return self.whole - self.used


def memory(device: torch.device | str | None = None) -> tuple[Memory, ...]:
    """This machine's memory, and that of the CUDA device where `device` is one.

    What a device of another kind has is not known: Apple's MPS shares the machine's memory.
    """
    system = psutil.virtual_memory()
    ours = psutil.Process().memory_info().rss
    found = [Memory("Memory", ours, system.total - system.available, system.total)]
    if device is not None and torch.device(device).type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        name = f"Memory of {torch.cuda.get_device_name(device)}"
        found.append(Memory(name, torch.cuda.memory_reserved(device), whole - free, whole))
    return tuple(found)


def versions() -> dict[str, str]:
    """Versions by name: Python, and each of LIBRARIES that is installed."""
    found = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
