"""The images that metrics see, and the cache of embeddings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from consistory_svd.metrics.clip_dino import ClipAlignment
from consistory_svd.metrics.images import Embeddings, in_batches, subject_only
from consistory_svd.metrics.result import Frames
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.storybook import CLIP_FOLDER
from training.world import render

# isort: split


from tests.tiny_networks import PLACES, WHO, by_name, half_mask, picture


def test_subject_only_keeps_the_subject_and_replaces_the_rest():
    image, mask = picture(0), half_mask()
    inside = np.asarray(mask) > 0
    for fill in ("noise", "grey"):
        alone = np.asarray(subject_only(image, mask, ScoreSettings(fill=fill)))
        assert (alone[inside] == np.asarray(image)[inside]).all()
        if fill == "grey":
            assert (alone[~inside] == 128).all()
    noise = np.asarray(subject_only(image, mask, ScoreSettings()))
    assert 120 < noise[~inside].mean() < 135
    assert 70 < noise[~inside].std() < 78, "uniform noise has a deviation of 256 / sqrt(12)"
    assert (noise == np.asarray(subject_only(image, mask, ScoreSettings()))).all()
    assert (noise != np.asarray(subject_only(image, mask, ScoreSettings(seed=1)))).any()
    shifted = Image.fromarray(np.roll(np.asarray(mask), 1, 0))
    elsewhere = ~inside & ~(np.asarray(shifted) > 0)
    other = np.asarray(subject_only(image, shifted, ScoreSettings()))
    assert (other[elsewhere] != noise[elsewhere]).mean() > 0.9, "different pictures share their noise"


@pytest.mark.parametrize("fill", ["noise", "grey"])
def test_backgrounds_change_scores_of_whole_images_only(tmp_path: Path, fill: str):
    """By the trained storybook CLIP, over figures whose place alone is exchanged."""
    figures = [
        render(who, "forest", "standing", "photo", np.random.default_rng(k)) for k, who in enumerate(WHO)
    ]
    places = [render("cat", scene, "standing", "photo", np.random.default_rng(9)).image for scene in PLACES]
    masks = [Image.fromarray(figure.mask.astype(np.uint8) * 255) for figure in figures]
    score = ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(CLIP_FOLDER), fill=fill), Embeddings())

    def distances(place: np.ndarray) -> dict[str, np.ndarray]:
        images = [Image.fromarray(np.where(f.mask[..., None], f.image, place)) for f in figures]
        found = by_name(score.measure(Frames(images, [""] * len(images), masks)))
        return {name: 1 - np.array(result.matrix) for name, result in found.items() if result.matrix}

    seen = [distances(place) for place in places]
    for name, least, most in (("CLIP-I", 0.02, 1), ("CLIP-I (subject only)", 0, 1e-9)):
        moved = max(np.abs(other[name] - seen[0][name]).max() for other in seen[1:])
        assert least <= moved <= most, name
        assert seen[0][name].max() > 0.01, "different figures are told apart"


def test_batches_are_halved_when_memory_runs_out():
    sizes = []

    def embed(items):
        sizes.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("too much")
        return torch.tensor([[float(item)] for item in items])

    assert in_batches([1, 2, 3, 4, 5], embed, 8).flatten().tolist() == [1, 2, 3, 4, 5]
    assert sizes == [5, 4, 2, 2, 1]


def test_embeddings_are_computed_once_per_setting_and_evicted():
    kept, asked = Embeddings(limit=2), []

    def embed(texts):
        asked.extend(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    assert kept.of("x", ["a", "bb", "a"], embed).flatten().tolist() == [1, 2, 1]
    kept.of("x", ["bb"], embed)
    assert asked == ["a", "bb"]
    kept.of("y", ["bb"], embed)
    kept.of("x", ["a"], embed)
    assert asked == ["a", "bb", "bb", "a"]
