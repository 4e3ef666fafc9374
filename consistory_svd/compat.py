"""Cures for installations that do not quite fit together."""

from __future__ import annotations

import importlib
import logging
import sys

import torch

log = logging.getLogger(__name__)
_kept: list[torch.library.Library] = []
_fault = ""
# Loggers that warn of cut prompts, and how the warning begins: `prompt_truncation` reports it per image.
CUT_PROMPTS = {
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl": "The following part of your",
    "transformers.tokenization_utils_base": "Token indices sequence length is longer",
}


def cure_torchvision() -> str:
    """Make `import torchvision` work where its wheel is for another torch; returns `torchvision_fault()`.

    Such a wheel fails with "operator torchvision::nms does not exist" and takes transformers and diffusers
    down with it. Nothing here uses its compiled operators, so their schemas are declared and the import is
    tried again. Where that does not help either, torchvision is hidden: transformers and diffusers then do
    without it, pictures are made as ever, and what needs it can say why it is not there.
    Call it before transformers or diffusers are imported.
    """
    global _fault
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # a broken wheel fails in many ways: symbols, versions, missing files
        _fault = _in_one_line(error)
        if "torchvision::" in _fault:
            _fault = _declare_and_try_again()
        if _fault:
            log.warning("torchvision cannot be used: %s", _fault)
            _forget_torchvision()
            sys.modules["torchvision"] = None  # to importlib and all who ask it, it is not installed
    return _fault


def torchvision_fault() -> str:
    """Why torchvision cannot be used in this process, in one line; empty where it can."""
    return _fault


def _declare_and_try_again() -> str:
    """Declare the operators that a foreign wheel registers in vain; what is still wrong, or nothing."""
    _forget_torchvision()
    try:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # the schemas live as long as the library object
        importlib.import_module("torchvision")
    except Exception as error:  # as above
        return _in_one_line(error)
    return ""


def _forget_torchvision() -> None:
    """Remove what a failed import left behind: it would count as imported."""
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def quiet_libraries() -> None:
    """No loading bars of diffusers and transformers, none of httpx a request, and not what they say of long
    prompts: programs say what they do."""
    for library in ("diffusers", "transformers"):
        importlib.import_module(f"{library}.utils.logging").disable_progress_bar()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for logger in CUT_PROMPTS:
        logging.getLogger(logger).addFilter(_not_of_cut_prompts)


def _not_of_cut_prompts(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(CUT_PROMPTS[record.name])
