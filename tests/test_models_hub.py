"""Models of the Hub: downloaded once, complete, and only the files that are read."""

import json
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from consistory_svd import load_model
from consistory_svd.models.hub import download_model, downloaded_folder, model_folder
from tests.fake_hub import FakeHub, serving
from tests.tiny_models import make_pipeline

NAME = "someone/tiny"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_pipeline("small").save_pretrained(folder := tmp_path_factory.mktemp("theirs"))
    for name in ("unet/diffusion_pytorch_model.bin", "their_code.py", "unet/model.onnx"):
        (folder / name).write_bytes(b"raise SystemExit")
    return folder


@pytest.fixture
def hub(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("CONSISTORY_SVD_CACHE", str(tmp_path / "cache"))
    with serving(NAME, saved, monkeypatch) as hub:
        hub.files["all_in_one.safetensors"] = b"?"
        yield hub


def test_a_model_is_downloaded_once_with_progress_and_only_what_is_read(hub: FakeHub) -> None:
    progress: list[tuple[int, int | None]] = []
    assert downloaded_folder(NAME) is None
    model = load_model(NAME, "cpu", report=lambda *values: progress.append(values))
    assert model.name == NAME
    assert not model.is_embedded
    asked = set(hub.asked)
    assert "unet/diffusion_pytorch_model.safetensors" in asked
    assert not {name for name in asked if name.endswith((".bin", ".py", ".onnx"))}
    assert "all_in_one.safetensors" not in asked
    assert progress == sorted(progress)
    total = sum(len(hub.files[name]) for name in asked - {"model_index.json"})
    assert progress[-1] == (total, total)
    hub.asked.clear()
    load_model(NAME, "cpu")
    assert hub.asked == []


def test_an_interrupted_download_is_not_a_model_and_keeps_complete_files(hub: FakeHub) -> None:
    hub.truncates = True
    with pytest.raises(
        ValueError, match=r"^model: 'someone/tiny' could not be downloaded.*complete files are kept"
    ):
        download_model(NAME, torch.float32)
    assert downloaded_folder(NAME) is None
    kept = {name for name in hub.files if (model_folder(NAME) / name).is_file()}
    assert "model_index.json" in kept
    hub.truncates = False
    hub.asked.clear()
    folder = download_model(NAME, torch.float32)
    assert not kept & set(hub.asked)
    assert downloaded_folder(NAME) == folder
    assert (folder / hub.asked[-1]).read_bytes() == hub.files[hub.asked[-1]]


def test_a_damaged_file_is_reported_and_downloaded_again(hub: FakeHub) -> None:
    hub.spoils = {weights := "vae/diffusion_pytorch_model.safetensors"}
    with pytest.raises(ValueError, match=rf"^model: {weights} of 'someone/tiny' arrived damaged"):
        download_model(NAME, torch.float32)
    assert downloaded_folder(NAME) is None
    hub.spoils = set()
    assert (download_model(NAME, torch.float32) / weights).read_bytes() == hub.files[weights]


def test_a_full_disk_is_reported_before_the_download(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10))
    with pytest.raises(ValueError, match=r"^model: 'someone/tiny' needs .* free some space or set"):
        download_model(NAME, torch.float32)
    assert hub.asked == []


def test_what_is_no_sdxl_is_refused_before_its_weights_are_downloaded(hub: FakeHub) -> None:
    index = json.loads(hub.files["model_index.json"])
    hub.files["model_index.json"] = json.dumps(index | {"_class_name": "FluxPipeline"}).encode()
    with pytest.raises(ValueError, match=r"^model: 'someone/tiny' holds a FluxPipeline"):
        load_model(NAME, "cpu")
    assert set(hub.asked) == {"model_index.json"}
    hub.files = {name: content for name, content in hub.files.items() if not name.endswith(".safetensors")}
    with pytest.raises(ValueError, match=r"^model: 'someone/tiny' has no safetensors weights of its unet"):
        load_model(NAME, "cpu")
    with pytest.raises(ValueError, match=r"^model: 'someone/else' could not be downloaded.*no such model"):
        load_model("someone/else", "cpu")
