"""How much of what a prompt names the storybook model draws, and how far its pictures are from renders.

Beside each accuracy stands what the reader finds in renders of the same truths. Pictures are made by stock
diffusers, nothing is shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistory_svd.compat import cure_torchvision

import numpy as np
import torch
from PIL import Image

from benchmarks.figures import DRAWS, limits
from consistory_svd.metrics.attribute_reader import Reader
from training.captions import full_caption
from training.text import random_truth
from training.world import draw_identity, render

cure_torchvision()

from diffusers import StableDiffusionXLPipeline  # noqa: E402
from transformers import CLIPImageProcessor, CLIPModel  # noqa: E402

# Attributes that captions can name. The second colour is not among them: captions never say it.
NAMED = ("subject", "color", "scene", "style", "pattern", "accessory", "accessory_color", "action")
TRUTH_SEED, RENDER_SEED = 41_000, 42_000
BATCH = 8

Truth = dict[str, str]


def truths(count: int) -> list[Truth]:
    """What is to be drawn, by a seed that training does not use."""
    rng = np.random.default_rng(TRUTH_SEED)
    return [random_truth(rng) for _ in range(count)]


def rendered(some: Sequence[Truth], seed: int = RENDER_SEED) -> list[Image.Image]:
    """A fresh render of each truth."""
    pictures = []
    for number, truth in enumerate(some):
        rng = np.random.default_rng([seed, number])
        fixed = {k: truth[k] for k in ("color", "second_color", "pattern", "accessory")}
        if truth["accessory"] != "none":
            fixed["accessory_color"] = truth["accessory_color"]
        who = draw_identity(truth["subject"], rng, **fixed)
        arguments = (truth["subject"], truth["scene"], truth["action"], truth["style"], rng, who)
        pictures.append(Image.fromarray(render(*arguments).image))
    return pictures


def drawn(
    pipe: StableDiffusionXLPipeline, some: Sequence[Truth], steps: int, guidance: float
) -> list[Image.Image]:
    """The model's picture of each truth under its full caption; picture k has seed k."""
    pictures: list[Image.Image] = []
    for start in range(0, len(some), BATCH):
        batch = range(start, min(start + BATCH, len(some)))
        pictures += pipe(
            [full_caption(some[number]) for number in batch],
            generator=[torch.Generator().manual_seed(number) for number in batch],
            num_inference_steps=steps,
            guidance_scale=guidance,
        ).images
    return pictures


@torch.no_grad()
def reconstructed(pipe: StableDiffusionXLPipeline, pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """What the autoencoder alone makes of pictures."""
    results: list[Image.Image] = []
    for start in range(0, len(pictures), BATCH):
        pixels = pipe.image_processor.preprocess(list(pictures[start : start + BATCH]))
        pixels = pixels.to(pipe.vae.device, pipe.vae.dtype)
        decoded = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mode()).sample
        results += pipe.image_processor.postprocess(decoded, output_type="pil")
    return results


@dataclass(frozen=True)
class Accuracy:
    """Share of the pictures whose attribute is read as the prompt names it, its 95 % bootstrap interval, and
    the share that is read right in renders of the same truths (`ceiling`)."""

    value: float
    interval: tuple[float, float]
    ceiling: float
    counted: int


def accuracies(
    reader: Reader, some: Sequence[Truth], pictures: Sequence[Image.Image], renders: Sequence[Image.Image]
) -> dict[str, Accuracy]:
    """Each attribute over the truths whose full caption names it."""
    read, best = reader.read(pictures), reader.read(renders)
    rng = np.random.default_rng(0)
    found = {}
    for key in NAMED:
        named = [k for k, truth in enumerate(some) if truth[key] not in ("none", "plain")]
        right = np.array([read[k][key] == some[k][key] for k in named], dtype=float)
        ceiling = float(np.mean([best[k][key] == some[k][key] for k in named]))
        resampled = right[rng.integers(0, len(named), (DRAWS, len(named)))].mean(1)
        found[key] = Accuracy(float(right.mean()), limits(resampled), ceiling, len(named))
    return found


class Features:
    """Picture embeddings by the storybook CLIP in `folder`: [n, dimensions], not normalised."""

    def __init__(self, folder: Path):
        self._model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
        self._processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        rows = []
        for start in range(0, len(pictures), 32):
            pixels = self._processor(list(pictures[start : start + 32]), return_tensors="pt").pixel_values
            vision = self._model.vision_model(pixel_values=pixels).pooler_output
            rows.append(self._model.visual_projection(vision).double().numpy())
        return np.concatenate(rows)


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of two sets of features [n, d], taken as normal distributions (Heusel et al. 2017)."""
    means = first.mean(0) - second.mean(0)
    one, other = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (first, second))
    # The trace of sqrt(AB) is that of the symmetric sqrt(A^(1/2) B A^(1/2)).
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ other @ root).clip(min=0)
    return float(means @ means + np.trace(one) + np.trace(other) - 2 * np.sqrt(product).sum())


def distances(
    pipe: StableDiffusionXLPipeline,
    features: Features,
    some: Sequence[Truth],
    pictures: Sequence[Image.Image],
) -> dict[str, float]:
    """Fréchet distances to fresh renders of the same truths: of the model's pictures, of the autoencoder's
    reconstructions of other renders, and of these renders themselves (what the sample's size alone gives)."""
    reference = features(rendered(some))
    others = rendered(some, RENDER_SEED + 1)
    return {
        "pictures": frechet(features(pictures), reference),
        "reconstructions": frechet(features(reconstructed(pipe, others)), reference),
        "renders": frechet(features(others), reference),
    }


def attribute_card(
    pipe: StableDiffusionXLPipeline,
    readers: dict[str, Reader],
    features: Features,
    count: int,
    steps: int,
    guidance: float,
) -> dict[str, Any]:
    """Accuracies of `count` held-out prompts by every reader, and the distances of these pictures."""
    some = truths(count)
    pictures, renders = drawn(pipe, some, steps, guidance), rendered(some)
    return {
        "prompts": count,
        "accuracy": {
            name: {key: vars(value) for key, value in accuracies(reader, some, pictures, renders).items()}
            for name, reader in readers.items()
        },
        "frechet": distances(pipe, features, some, pictures),
    }
