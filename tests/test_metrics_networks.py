"""The networks of metrics: downloaded from the Hub, loaded from the cache, corrupted files reported."""

import os
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from consistory_svd.cli.main import app
from consistory_svd.cli.options import run
from consistory_svd.downloads import DownloadError
from consistory_svd.metrics.clip_dino import OPENAI_CLIP, ClipAlignment
from consistory_svd.metrics.images import Embeddings
from consistory_svd.metrics.networks import Clip, NotDownloaded, download_network, from_cache
from consistory_svd.metrics.result import MetricUnavailable
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.weights import fetch_weights, fetchable
from tests.fake_hub import FakeHub, serving
from tests.tiny_networks import by_name, frames, save_clip


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    save_clip(folder := tmp_path / "theirs")
    with serving(OPENAI_CLIP, folder, monkeypatch) as hub:
        hub.files |= dict.fromkeys(
            ("onnx/model.safetensors", "pytorch_model.bin", "flax_model.msgpack"), b"?"
        )
        yield hub


def test_a_network_is_downloaded_once_with_progress_and_only_what_is_read(hub: FakeHub, tmp_path: Path):
    cache, progress = tmp_path / "cache", []
    with pytest.raises(NotDownloaded):
        from_cache(Clip.PARTS[0], OPENAI_CLIP, cache)
    download_network(Clip.PARTS, OPENAI_CLIP, cache, lambda *how_far: progress.append(how_far), hub.url)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(hub.asked)
    assert not {"pytorch_model.bin", "flax_model.msgpack", "onnx/model.safetensors"} & set(hub.asked)
    whole = sum(len(hub.files[name]) for name in hub.asked)
    assert progress == sorted(progress)
    assert progress[-1] == (whole, whole)
    hub.asked.clear()
    download_network(Clip.PARTS, OPENAI_CLIP, cache, endpoint=hub.url)
    assert hub.asked == []
    assert "CLIPScore" in by_name(ClipAlignment(ScoreSettings(cache=cache), Embeddings()).measure(frames()))


def test_an_interrupted_download_is_not_present(hub: FakeHub, tmp_path: Path):
    hub.truncates = True
    with pytest.raises(DownloadError, match=f"^weights: '{OPENAI_CLIP}' could not be downloaded.*try again"):
        download_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint=hub.url)
    with pytest.raises(NotDownloaded):
        from_cache(Clip.PARTS[0], OPENAI_CLIP, tmp_path)
    hub.truncates = False
    download_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint=hub.url)
    assert "CLIPScore" in by_name(
        ClipAlignment(ScoreSettings(cache=tmp_path), Embeddings()).measure(frames())
    )


def test_corrupted_weights_are_reported_and_downloaded_again(hub: FakeHub, tmp_path: Path):
    download_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint=hub.url)
    (weights,) = (path.resolve() for path in (tmp_path / "hub").rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:5000])
    entries = ClipAlignment(ScoreSettings(cache=tmp_path), Embeddings())
    with pytest.raises(MetricUnavailable, match="cannot be read") as caught:
        entries.measure(frames())
    assert caught.value.fetch == "clip"
    download_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint=hub.url)
    assert "CLIPScore" in by_name(entries.measure(frames()))


def test_without_a_network_the_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(
        DownloadError,
        match=rf"^weights: '{OPENAI_CLIP}' is not downloaded .* cannot be reached .*check the network$",
    ):
        download_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint="http://127.0.0.1:9")


def test_only_missing_weights_can_be_fetched(tmp_path: Path):
    from consistory_svd.metrics.result import MissingScore
    from consistory_svd.metrics.suite import Suite

    settings = ScoreSettings(cache=tmp_path)
    entries = list(Suite(settings).measure(frames()))
    assert fetchable(entries) == ("dreamsim", "clip", "dino")
    assert fetchable([MissingScore("CLIP", "the computation failed")]) == ()
    with pytest.raises(ValueError, match=r"^what must be one of"):
        fetch_weights("weights", settings)


def test_a_folder_is_never_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture):
    (corrupted := tmp_path / "clip").mkdir()
    with pytest.raises(DownloadError, match="a folder is not downloaded"):
        download_network(Clip.PARTS, str(corrupted), tmp_path)
    with pytest.raises(MetricUnavailable) as caught:
        ClipAlignment(ScoreSettings(cache=tmp_path, clip=str(corrupted)), Embeddings()).measure(frames())
    assert caught.value.fetch == ""
    common = ["fetch", "clip", "--cache", str(tmp_path)]
    for arguments, field in (
        ([*common, "--model", os.fspath(tmp_path / "none")], "model"),
        ([*common, "--url", "http://127.0.0.1:9"], "url"),
    ):
        assert run(app, arguments) == 2
        assert f"error: {field}" in capsys.readouterr().err
