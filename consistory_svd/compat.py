"""Workarounds for mismatched torch and torchvision, applied when this module is imported.

Import it before transformers or diffusers.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys

import torch

log = logging.getLogger(__name__)
_libraries: list[torch.library.Library] = []
# Loggers that warn of truncated prompts, and how the warning begins: `prompt_truncation` reports it per
# image.
TRUNCATION_WARNINGS = {
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl": "The following part of your",
    "transformers.tokenization_utils_base": "Token indices sequence length is longer",
}


@functools.cache
def cure_torchvision() -> str:
    """Make `import torchvision` work if its wheel is for another torch; return what is still wrong, or "".

    Such a wheel fails with "operator torchvision::nms does not exist" and breaks the import of transformers
    and diffusers. Nothing here uses its compiled operators, so their schemas are declared and the import is
    repeated. If that fails too, torchvision is hidden: transformers and diffusers work without it, and
    features that need it can say why they are unavailable.
    """
    fault = ""
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # a broken wheel fails in many ways: symbols, versions, missing files
        fault = _one_line(error)
        if "torchvision::" in fault:
            fault = _declare_operators_and_retry()
        if fault:
            log.warning("torchvision cannot be used: %s", fault)
            _forget_torchvision()
            sys.modules["torchvision"] = None  # for importlib it is not installed
    return fault


def _declare_operators_and_retry() -> str:
    _forget_torchvision()
    try:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)  # the schemas live as long as the library object
        importlib.import_module("torchvision")
    except Exception as error:  # as above
        return _one_line(error)
    return ""


def _forget_torchvision() -> None:
    """Remove the modules of a failed import, which would count as imported."""
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def quiet_libraries() -> None:
    """Silence loading bars of diffusers and transformers, httpx request logs, and long-prompt warnings."""
    for library in ("diffusers", "transformers"):
        importlib.import_module(f"{library}.utils.logging").disable_progress_bar()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for logger in TRUNCATION_WARNINGS:
        logging.getLogger(logger).addFilter(_is_no_truncation_warning)


def _is_no_truncation_warning(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(TRUNCATION_WARNINGS[record.name])


cure_torchvision()
