"""Consistent characters with any SDXL model, without training.

>>> model = load_model()
>>> story = Story("a cat", ("in the forest", "on the beach"))
>>> events = generate(model, story, preset("consistory"))
>>> images = [event.image for event in events if isinstance(event, FrameDone)]

Names are loaded on first use (PEP 562): importing the package imports no torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "errors": ("FieldError",),
    "events": ("Cancelled", "Finished", "FrameDone", "Note", "Preview", "Started"),
    "models.model": ("Model", "load_model"),
    "pipeline": ("generate",),
    "presets": ("PRESETS", "preset"),
    "settings": ("SVDFilter", "Settings"),
    "story": ("Scene", "Story"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
