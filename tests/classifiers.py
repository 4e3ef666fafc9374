"""Tiny image classifiers in the files of real ones: what they take for sexual is set by their last layer."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from consistory_svd.content_filter import ContentFilter, load_content_filter
from consistory_svd.metrics.weights import SEXUAL_PICTURES  # before transformers: it cures torchvision

# isort: split
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

LABELS = ("normal", "nsfw")
# Of the last layer: every picture is sexual, or none is, whatever is seen.
EVERY, NONE = 50.0, -50.0


def save_classifier(
    folder: Path, bias: float, labels: Sequence[str] = LABELS, sharpness: float = 1.0
) -> Path:
    """A classifier with random weights; `bias` is what speaks for its last label, `sharpness` how much the
    picture does."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: k for k, name in enumerate(labels)}}
    model = ViTForImageClassification(
        ViTConfig(image_size=32, patch_size=8, initializer_range=0.5, **size, **named)
    )
    with torch.no_grad():
        model.classifier.weight.mul_(sharpness)
        model.classifier.bias.zero_()
        model.classifier.bias[-1] = bias
    model.save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=half, image_std=half).save_pretrained(
        folder
    )
    return folder


def keep_in_cache(folder: Path, cache: Path) -> Path:
    """Lay a classifier's files where a fetch of the filter would; returns their folder."""
    home = cache / "hub" / f"models--{SEXUAL_PICTURES.replace('/', '--')}"
    snapshot = home / "snapshots" / ("3" * 40)
    shutil.copytree(folder, snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("3" * 40)
    return snapshot


def screen_of(folder: Path, bias: float) -> ContentFilter:
    """The screen of a classifier that is saved into the folder first."""
    return load_content_filter(str(save_classifier(folder, bias)))


def screen_against(folder: Path, images: Sequence[Image.Image], taken: int) -> ContentFilter:
    """A screen that takes so many of the images for sexual: those that its network responds to most."""
    content_filter = load_content_filter(str(save_classifier(folder, 0.0)))
    with torch.inference_mode():
        logits = [
            content_filter.model(content_filter.processor(image, return_tensors="pt").pixel_values)
            .logits[0]
            .double()
            for image in images
        ]
    speaking = sorted((float(one[1] - one[0]) for one in logits), reverse=True)
    gap = (speaking[taken - 1] - speaking[taken]) / 2
    # Far enough from the cut that no rounding moves a picture across it.
    sharpness = 5 / gap
    cut = sharpness * (speaking[taken] + gap)
    return load_content_filter(str(save_classifier(folder, -cut, sharpness=sharpness)))
