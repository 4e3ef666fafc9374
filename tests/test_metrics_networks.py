"""CLIP fetched through the hub's own client, from a server that speaks as much of the hub as it needs."""

import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from consistory_svd.cli.main import app
from consistory_svd.cli.options import run
from consistory_svd.metrics.clip_dino import OPENAI_CLIP, ClipAlignment
from consistory_svd.metrics.dreamsim_weights import FetchError
from consistory_svd.metrics.images import Embeddings
from consistory_svd.metrics.networks import Clip, NotHere, fetch_network, from_cache
from consistory_svd.metrics.result import MetricUnavailable
from consistory_svd.metrics.suite import ScoreSettings
from consistory_svd.metrics.weights import fetch_weights, fetchable
from tests.test_metrics import by_name, frames, save_clip


class Hub(http.server.ThreadingHTTPServer):
    """Serves the files of one network; may lack it, or break off in the middle of its weights."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.files |= {"onnx/model.safetensors": b"?", "pytorch_model.bin": b"?", "flax_model.msgpack": b"?"}
        self.asked: list[str] = []
        self.breaks = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        if self.path.startswith(f"/api/models/{OPENAI_CLIP}"):
            files = [{"rfilename": name, "size": len(b)} for name, b in self.server.files.items()]
            self._send(json.dumps({"id": OPENAI_CLIP, "sha": "2" * 40, "siblings": files}).encode(), {})
        else:
            self._answer(send=True)

    def _answer(self, send: bool) -> None:
        name = self.path.removeprefix(f"/{OPENAI_CLIP}/resolve/main/")
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        if send:
            self.server.asked.append(name)
        tag = hashlib.sha256(content).hexdigest()
        self._send(content, {"ETag": f'"{tag}"', "X-Repo-Commit": "2" * 40}, send)

    def _send(self, content: bytes, headers: dict[str, str], send: bool = True) -> None:
        self.send_response(200)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if send:
            half = self.server.breaks and len(content) > 10_000
            self.wfile.write(content[: len(content) // 2] if half else content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    save_clip(folder := tmp_path / "theirs")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with Hub(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_fetched_once_with_progress_and_only_what_is_read(hub: Hub, tmp_path: Path):
    cache, generated = tmp_path / "cache", []
    with pytest.raises(NotHere):
        from_cache(Clip.PARTS[0], OPENAI_CLIP, cache)
    fetch_network(Clip.PARTS, OPENAI_CLIP, cache, lambda *how_far: generated.append(how_far), hub.url)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(hub.asked)
    assert not {"pytorch_model.bin", "flax_model.msgpack", "onnx/model.safetensors"} & set(hub.asked)
    whole = sum(len(hub.files[name]) for name in hub.asked)
    assert generated == sorted(generated)
    assert generated[-1] == (whole, whole)
    hub.asked.clear()
    fetch_network(Clip.PARTS, OPENAI_CLIP, cache, endpoint=hub.url)
    assert hub.asked == []
    assert "CLIPScore" in by_name(ClipAlignment(Embeddings(), cache).measure(frames()))


def test_a_half_download_is_not_there(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub.file_download as client

    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)  # between its retries
    hub.breaks = True
    with pytest.raises(FetchError, match="cannot be had"):
        fetch_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint=hub.url)
    with pytest.raises(NotHere):
        from_cache(Clip.PARTS[0], OPENAI_CLIP, tmp_path)
    hub.breaks = False
    fetch_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint=hub.url)
    assert "CLIPScore" in by_name(ClipAlignment(Embeddings(), tmp_path).measure(frames()))


def test_what_is_spoilt_is_said_and_fetched_anew(hub: Hub, tmp_path: Path):
    fetch_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint=hub.url)
    (weights,) = (path.resolve() for path in (tmp_path / "hub").rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:5000])
    entries = ClipAlignment(Embeddings(), tmp_path)
    with pytest.raises(MetricUnavailable, match="cannot be read") as caught:
        entries.measure(frames())
    assert caught.value.fetch == "clip"
    fetch_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint=hub.url)
    assert "CLIPScore" in by_name(entries.measure(frames()))


def test_without_a_network_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(FetchError, match=rf"^weights: {OPENAI_CLIP} cannot be had: .+$"):
        fetch_network(Clip.PARTS, OPENAI_CLIP, tmp_path, endpoint="http://127.0.0.1:9")


def test_only_what_lacks_weights_can_be_fetched(tmp_path: Path):
    from consistory_svd.metrics import MissingScore, Suite

    settings = ScoreSettings(cache=tmp_path)
    entries = list(Suite(settings).measure(frames()))
    assert fetchable(entries) == ("dreamsim", "clip", "dino")
    assert fetchable([MissingScore("CLIP", "computing it failed")]) == ()
    with pytest.raises(ValueError, match=r"^what: 'weights'"):
        fetch_weights("weights", settings)


def test_a_folder_is_never_fetched(tmp_path: Path, capsys: pytest.CaptureFixture):
    (corrupted := tmp_path / "clip").mkdir()
    with pytest.raises(FetchError, match="a folder is not fetched"):
        fetch_network(Clip.PARTS, str(corrupted), tmp_path)
    with pytest.raises(MetricUnavailable) as caught:
        ClipAlignment(Embeddings(), tmp_path, str(corrupted)).measure(frames())
    assert caught.value.fetch == ""
    common = ["fetch", "clip", "--cache", str(tmp_path)]
    for arguments, field in (
        ([*common, "--model", os.fspath(tmp_path / "none")], "model"),
        ([*common, "--url", "http://127.0.0.1:9"], "url"),
    ):
        assert run(app, arguments) == 2
        assert f"error: {field}: " in capsys.readouterr().err
