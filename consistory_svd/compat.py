"""Cures for installations that do not quite fit together."""

from __future__ import annotations

import importlib
import logging
import sys

import torch

_kept: list[torch.library.Library] = []


def cure_torchvision() -> None:
    """Make `import torchvision` work where its wheel was built for another torch.

    Such a wheel fails with "operator torchvision::nms does not exist" and takes transformers and diffusers
    down with it. Nothing here uses its compiled operators, so their schemas are declared and the import is
    tried again.
    Call it before transformers or diffusers are imported. Raises whatever else is wrong with torchvision.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # the schemas live as long as the library object
        importlib.import_module("torchvision")


def quiet_libraries() -> None:
    """No loading bars of diffusers and transformers, none of httpx a request: programs say what they do."""
    for library in ("diffusers", "transformers"):
        importlib.import_module(f"{library}.utils.logging").disable_progress_bar()
    logging.getLogger("httpx").setLevel(logging.WARNING)
