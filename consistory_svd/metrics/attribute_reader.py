"""The storybook reader: a small network that classifies the attributes of storybook images.

It measures images of that world only; for any other image its answers mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from consistory_svd.paths import ASSETS

READER_FOLDER = ASSETS / "storybook" / "reader"
SIDE = 128  # pixels of the network's square input


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.skip = nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class ReaderNetwork(nn.Module):
    """A small residual network (He et al. 2016) with a linear head for each attribute.

    Input [n, 3, 128, 128] in -1..1, output {attribute: logits [n, classes]}.
    """

    def __init__(self, classes: dict[str, list[str]], widths: Sequence[int] = (24, 48, 96, 160, 224)):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(_Block(a, b, 2) for a, b in pairwise(widths)))
        # Means capture what is everywhere (scene, style), maxima what is somewhere (subject, accessory).
        self.heads = nn.ModuleDict(
            {key: nn.Linear(2 * widths[-1], len(names)) for key, names in classes.items()}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.blocks(self.stem(x))
        features = torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1)
        return {key: head(features) for key, head in self.heads.items()}


class Reader:
    """A trained network and the names of its classes."""

    def __init__(self, network: ReaderNetwork, classes: dict[str, list[str]]):
        self.network = network.eval()
        self.classes = classes

    @torch.inference_mode()
    def read(self, images: Sequence[Image.Image], batch: int = 32) -> list[dict[str, str]]:
        """The attributes of each image, {attribute: class}. Images may have any size."""
        answers: list[dict[str, str]] = []
        for start in range(0, len(images), batch):
            scores = self.network(to_input(images[start : start + batch]))
            picks = {key: value.argmax(1).tolist() for key, value in scores.items()}
            count = len(images[start : start + batch])
            answers += [{key: self.classes[key][picks[key][k]] for key in picks} for k in range(count)]
        return answers


def to_input(images: Sequence[Image.Image]) -> Tensor:
    """Images as [n, 3, 128, 128] in -1..1, resized by area."""
    small = [np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.BOX)) for image in images]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1


def load_reader(folder: Path = READER_FOLDER) -> Reader:
    """Load the reader from `folder` (`config.json`, `model.safetensors`). Raises FileNotFoundError."""
    config = json.loads((folder / "config.json").read_text())
    network = ReaderNetwork(config["classes"], config["widths"])
    weights = load_file(folder / "model.safetensors")
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    )
    return Reader(network, config["classes"])


def save_reader(
    folder: Path, network: ReaderNetwork, classes: dict[str, list[str]], widths: Sequence[int]
) -> None:
    """Write the files of `load_reader`, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps({"classes": classes, "widths": list(widths)}, indent=1) + "\n"
    )
    weights = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")
