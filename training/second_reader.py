"""A second reader of another architecture, to judge with: no training ever sees it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from consistory_svd.metrics.attribute_reader import Reader
from training.reader import CLASSES

SEED = 71
WIDTHS = (32, 64, 128, 192)


class PlainNetwork(nn.Module):
    """Convolutions and maxima without residual connections (after Simonyan and Zisserman 2015), and a hidden
    layer over a grid of averages where the shipped reader has global averages and maxima.

    Input (n, 3, 128, 128) in -1..1, output {attribute: (n, classes)} scores.
    """

    def __init__(self, classes: dict[str, list[str]] = CLASSES):
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(inner, outer, 3, 1, 1), nn.BatchNorm2d(outer), nn.GELU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(nn.AvgPool2d(2), *layers)
        self.hidden = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * WIDTHS[-1], 256), nn.GELU()
        )
        self.heads = nn.ModuleDict({key: nn.Linear(256, len(names)) for key, names in classes.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.hidden(self.features(x))
        return {key: head(hidden) for key, head in self.heads.items()}


def load_second_reader(folder: Path) -> Reader:
    """The second reader whose `model.safetensors` lies in `folder`."""
    network = PlainNetwork()
    weights = load_file(folder / "model.safetensors")
    network.load_state_dict(
        {k: v.to(torch.float32) if v.is_floating_point() else v for k, v in weights.items()}
    )
    return Reader(network, CLASSES)
