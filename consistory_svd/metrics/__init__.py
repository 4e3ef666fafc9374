"""Metrics: consistency and prompt alignment of images, each with its unit, direction, model and protocol.

A metric takes `result.Frames` (images, prompts, masks) and knows nothing of how they were generated.
`suite.Suite` runs all metrics and yields a `result.Result` for each score, or a `result.MissingScore` that
says why there is none and what to do.

Names are loaded on first use (PEP 562): importing the package imports no torch.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "Frames": "result",
    "MissingScore": "result",
    "Result": "result",
    "ScoreSettings": "settings",
    "Suite": "suite",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
