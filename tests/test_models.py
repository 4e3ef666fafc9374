"""Models are found, loaded and described; what cannot be loaded says why."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from consistory_svd import Model, load_model
from consistory_svd.models import model as models


def test_a_folder_is_loaded_in_the_dtype_asked_for(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder), device="cpu", dtype=torch.bfloat16)
    assert model.pipe.unet.dtype == torch.bfloat16
    assert model.device == torch.device("cpu")


def test_the_cpu_computes_in_float32(model: Model) -> None:
    assert model.dtype == model.pipe.unet.dtype == model.pipe.vae.dtype == torch.float32


def test_sizes_are_read_from_the_model(tiny_folders: dict[str, Path]) -> None:
    sizes = {layout: load_model(str(folder), device="cpu") for layout, folder in tiny_folders.items()}
    assert sizes["sdxl"].native_size == (64, 64)
    assert sizes["sdxl"].size_multiple == 2 * 4
    assert sizes["small"].native_size == (32, 32)
    assert sizes["small"].size_multiple == 2 * 2


def test_an_autoencoder_that_overflows_in_float16_stays_in_float32(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "upcast")
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "force_upcast": True}))
    model = load_model(str(folder), device="cpu", dtype=torch.float16)
    assert model.pipe.vae.dtype == torch.float32
    assert model.pipe.unet.dtype == torch.float16


def test_the_vocabulary_has_the_first_word_of_each_class(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "words")
    (folder / "words.json").write_text(json.dumps({"subject": {"cat": ["cat", "kitten"], "dog": ["dog"]}}))
    assert load_model(str(folder), device="cpu").vocabulary == {"subject": ("cat", "dog")}
    assert load_model(str(tiny_folder), device="cpu").vocabulary == {}


def test_a_model_says_its_name_size_and_device(small_model: Model) -> None:
    assert small_model.describe() == "small, 32 × 32 pixels, on CPU in float32"


def test_missing_models_and_devices_are_named(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"^model: './nowhere' does not exist"):
        load_model("./nowhere", device="cpu")
    with pytest.raises(ValueError, match=r"^model: the folder .* has no model_index.json"):
        load_model(str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match=r"^device must be .*'toaster'"):
        load_model(str(tiny_folder), device="toaster")
    with pytest.raises(ValueError, match=r"^dtype must be .*int8"):
        load_model(str(tiny_folder), device="cpu", dtype=torch.int8)
    monkeypatch.setattr(models, "EMBEDDED", tmp_path)
    with pytest.raises(ValueError, match=r"^model: the embedded model is missing"):
        load_model(device="cpu")


def test_another_kind_of_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(ValueError, match="holds a FluxPipeline; give a StableDiffusionXLPipeline"):
        load_model(str(tmp_path), device="cpu")


def test_only_safetensors_are_read(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "pickled")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"^model: .* cannot be read"):
        load_model(str(folder), device="cpu")
