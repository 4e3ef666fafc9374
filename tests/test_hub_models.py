"""A model fetched from a server that speaks as much of the hub as is needed, gone on with, kept."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from consistory_svd import load_model
from consistory_svd.models import fetch_model, is_kept, kept_folder
from tests.tiny_models import make_pipeline

NAME = "someone/tiny"
LARGE = 20_000


class Hub(http.server.ThreadingHTTPServer):
    """Serves a model's files, in parts where asked to; may break off in the middle of large ones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {
            p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }
        self.files |= {"unet/diffusion_pytorch_model.bin": b"pickled", "their_code.py": b"raise SystemExit"}
        self.files |= {"unet/model.onnx": b"?", "all_in_one.safetensors": b"?"}
        self.asked: list[tuple[str, str | None]] = []
        self.breaks = False


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            listing = [
                {
                    "rfilename": name,
                    "size": len(content),
                    "lfs": {
                        "sha256": hashlib.sha256(content).hexdigest(),
                        "size": len(content),
                        "pointerSize": 1,
                    },
                }
                for name, content in self.server.files.items()
            ]
            body = json.dumps({"id": NAME, "sha": "3" * 40, "siblings": listing}).encode()
            self._send(200, body, len(body), {})
            return
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        content = self.server.files[name]
        span = self.headers.get("Range")
        self.server.asked.append((name, span))
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        rest = content[start:]
        sent = rest[: len(rest) // 2] if self.server.breaks and len(content) > LARGE else rest
        tag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self._send(206 if span else 200, sent, len(rest), tag)

    def _send(self, status: int, body: bytes, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(length)} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    make_pipeline("small").save_pretrained(folder := tmp_path / "theirs")
    monkeypatch.setenv("CONSISTORY_SVD_CACHE", str(tmp_path / "cache"))
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with Hub(folder) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_model_is_fetched_once_with_progress_and_only_what_is_read(hub: Hub) -> None:
    generated: list[tuple[int, int | None]] = []
    assert not is_kept(NAME)
    model = load_model(NAME, "cpu", report=lambda *how_far: generated.append(how_far))
    assert model.name == NAME
    asked = {name for name, _ in hub.asked}
    assert "unet/diffusion_pytorch_model.safetensors" in asked
    assert not {name for name in asked if name.endswith((".bin", ".py", ".onnx"))}
    assert "all_in_one.safetensors" not in asked
    assert generated == sorted(generated)
    assert (
        generated[-1][0]
        == generated[-1][1]
        == sum(len(hub.files[name]) for name in asked - {"model_index.json"})
    )
    hub.asked.clear()
    load_model(NAME, "cpu")
    assert hub.asked == []


def test_a_download_that_broke_off_is_gone_on_with(hub: Hub) -> None:
    hub.breaks = True
    with pytest.raises(
        ValueError, match=r"^model: 'someone/tiny' could not be fetched.*it goes on from there"
    ):
        fetch_model(NAME, torch.float32)
    assert not is_kept(NAME)
    broken = next(name for name, _ in reversed(hub.asked))
    hub.breaks = False
    hub.asked.clear()
    folder = fetch_model(NAME, torch.float32)
    again = dict(hub.asked)
    assert again[broken] == f"bytes={len(hub.files[broken]) // 2}-"
    assert (folder / broken).read_bytes() == hub.files[broken]
    assert kept_folder(NAME) == folder


def test_what_is_no_sdxl_is_refused_before_its_weights_come(hub: Hub) -> None:
    index = json.loads(hub.files["model_index.json"])
    hub.files["model_index.json"] = json.dumps(index | {"_class_name": "FluxPipeline"}).encode()
    with pytest.raises(ValueError, match=r"^model: 'someone/tiny' holds a FluxPipeline"):
        load_model(NAME, "cpu")
    assert {name for name, _ in hub.asked} == {"model_index.json"}
    hub.files = {name: content for name, content in hub.files.items() if not name.endswith(".safetensors")}
    with pytest.raises(ValueError, match=r"^model: 'someone/tiny' has no safetensors weights of its unet"):
        load_model(NAME, "cpu")
