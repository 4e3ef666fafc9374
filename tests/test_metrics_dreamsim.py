"""DreamSim through the package's own loading code, with random weights in the real layout."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.random_weights import BACKBONE, shared_weights, write_dreamsim, write_manifest
from consistory_svd.metrics.dreamsim import DreamSim
from consistory_svd.metrics.dreamsim_weights import dreamsim_folder
from consistory_svd.metrics.images import Embeddings
from consistory_svd.metrics.result import Frames, MetricUnavailable
from consistory_svd.metrics.settings import ScoreSettings
from training.world import render


def write_weights(folder: Path) -> None:
    write_dreamsim(folder, shared_weights(torch.Generator().manual_seed(0)), rank=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    write_weights(folder := dreamsim_folder(BACKBONE, cache))
    write_manifest(folder)
    return cache


@pytest.fixture(scope="module")
def score(cache: Path) -> DreamSim:
    return DreamSim(ScoreSettings(cache=cache, backbone=BACKBONE), Embeddings())


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.NEAREST)


def matrix_of(score: DreamSim, *images: Image.Image) -> np.ndarray:
    (result,) = score.measure(Frames(images, [""] * len(images)))
    return np.array(result.matrix)


def test_distances_are_the_packages_own(score: DreamSim, capsys: pytest.CaptureFixture):
    images = [picture(seed) for seed in range(3)]
    (result,) = score.measure(Frames(images, [""] * 3))
    model, preprocess = score._model()
    with torch.inference_mode():
        expected = [[float(model(preprocess(a), preprocess(b))) for b in images] for a in images]
    assert np.abs(np.array(result.matrix) - expected).max() < 1e-4
    assert result.value == pytest.approx((expected[0][1] + expected[0][2] + expected[1][2]) / 3, abs=1e-4)
    assert result.per_frame[0] == pytest.approx((expected[0][1] + expected[0][2]) / 2, abs=1e-4)
    assert min(expected[0][1], expected[0][2], expected[1][2]) > 0.01
    assert (result.name, result.unit, result.better) == ("DreamSim", "distance", "lower")
    assert result.published == {}, "one backbone is not the papers' ensemble"
    assert re.fullmatch(rf"dreamsim 0\.2\.\d+, {BACKBONE}", result.model)
    assert capsys.readouterr().out == ""


def test_the_adapter_counts(score: DreamSim, cache: Path, tmp_path: Path):
    write_weights(folder := dreamsim_folder(BACKBONE, tmp_path))
    name = f"{BACKBONE}_single_lora/adapter_model.safetensors"
    save_file({key: 0 * value for key, value in load_file(folder / name).items()}, folder / name)
    write_manifest(folder)
    images = picture(0), picture(1)
    without = DreamSim(ScoreSettings(cache=tmp_path, backbone=BACKBONE), Embeddings())
    assert abs(matrix_of(without, *images)[0, 1] - matrix_of(score, *images)[0, 1]) > 1e-4


def test_symmetric_zero_on_itself_and_blind_to_order(score: DreamSim):
    images = [picture(0), picture(1, (40, 64)), picture(2), picture(0)]
    matrix = matrix_of(score, *images)
    assert (matrix == matrix.T).all()
    assert (matrix.diagonal() == 0).all()
    assert matrix[0, 3] == pytest.approx(0, abs=1e-9)
    order = [2, 0, 3, 1]
    assert (matrix_of(score, *(images[k] for k in order)) == matrix[np.ix_(order, order)]).all()


def test_batched_equals_single(cache: Path, score: DreamSim):
    single = DreamSim(ScoreSettings(cache=cache, backbone=BACKBONE, batch=1), Embeddings())
    single._loaded = score._model()
    images = [picture(seed) for seed in range(3)]
    assert np.abs(matrix_of(single, *images) - matrix_of(score, *images)).max() < 1e-5


def test_pictures_are_embedded_once(score: DreamSim, monkeypatch: pytest.MonkeyPatch):
    images = [picture(seed) for seed in (20, 21)]
    first = matrix_of(score, *images)
    monkeypatch.setattr(score, "_embed", lambda images: pytest.fail("embedded again"))
    assert (matrix_of(score, *images) == first).all()


def rendered(subject: str, scene: str, seed: int):
    return render(subject, scene, "standing", "photo", np.random.default_rng(seed))


@pytest.mark.parametrize("fill", ["noise", "grey"])
def test_only_the_subject_counts_where_only_the_background_changes(score: DreamSim, fill: str):
    score._settings = replace(score._settings, fill=fill)
    here, other = rendered("cat", "forest", 1), rendered("robot", "beach", 2)
    # The same figure to the pixel before another place: pasted, so that nothing of the old place is left.
    place = rendered("cat", "kitchen", 3).image
    there = np.where(here.mask[..., None], here.image, place)

    def distances(first: np.ndarray) -> dict[str, float]:
        images = [Image.fromarray(image) for image in (first, other.image)]
        masks = [Image.fromarray(mask.astype(np.uint8) * 255) for mask in (here.mask, other.mask)]
        return {r.name: r.value for r in score.measure(Frames(images, ["", ""], masks))}

    before, after = distances(here.image), distances(there)
    assert abs(before["DreamSim"] - after["DreamSim"]) > 1e-4
    assert before["DreamSim (subject only)"] == pytest.approx(after["DreamSim (subject only)"], abs=1e-9)
    assert before["DreamSim (subject only)"] > 1e-4


def test_missing_weights_have_a_remedy(tmp_path: Path):
    frames = Frames([picture(0), picture(1)], ["", ""])
    with pytest.raises(MetricUnavailable) as caught:
        DreamSim(ScoreSettings(cache=tmp_path, backbone=BACKBONE), Embeddings()).measure(frames)
    assert "missing or incomplete" in caught.value.why
    assert f"fetch dreamsim --backbone {BACKBONE} --cache {tmp_path}" in caught.value.remedy


def test_a_corrupted_file_of_the_right_size_is_reported(cache: Path, tmp_path: Path):
    write_weights(folder := dreamsim_folder(BACKBONE, tmp_path))
    path = folder / f"{BACKBONE}_pretrain.pth.tar"
    path.write_bytes(bytes(path.stat().st_size))
    write_manifest(folder)
    with pytest.raises(MetricUnavailable, match="cannot be read"):
        DreamSim(ScoreSettings(cache=tmp_path, backbone=BACKBONE), Embeddings()).measure(
            Frames([picture(0), picture(1)], ["", ""])
        )


def test_a_package_that_cannot_be_imported_is_reported(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "dreamsim.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "dreamsim"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MetricUnavailable, match="torchvision::nms does not exist"):
        DreamSim(ScoreSettings(cache=cache, backbone=BACKBONE), Embeddings()).measure(
            Frames([picture(0), picture(1)], ["", ""])
        )


def test_one_picture_has_no_pairs(score: DreamSim):
    with pytest.raises(MetricUnavailable, match="only one"):
        score.measure(Frames([picture(0)], [""]))


def test_a_wrong_backbone_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^backbone must be one of .*, got 'resnet'"):
        DreamSim(ScoreSettings(cache=tmp_path, backbone="resnet"), Embeddings())
