"""Fetching weights: whole or not there at all."""

import functools
import http.server
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from consistory_svd.cli.main import app
from consistory_svd.cli.options import run
from consistory_svd.downloads import (
    CACHE_VARIABLE,
    MANIFEST,
    DownloadError,
    cache_folder,
    download_file,
    is_complete,
)
from consistory_svd.metrics.dreamsim_weights import FIRST_WEIGHTS, download_dreamsim, dreamsim_folder

BACKBONE = "clip_vitb32"
FILES = {
    f"{BACKBONE}_pretrain.pth.tar": os.urandom(300_000),
    f"{BACKBONE}_single_lora/adapter_config.json": b"{}",
}


def packed(files: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()


ARCHIVE = packed(FILES)


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; answers ranges as long as the tag is still that of the content; may break off."""

    content = ARCHIVE
    tag = '"one"'
    breaks_after: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        content, start = self.server.content, 0
        if wanted and self.headers.get("If-Range") == self.server.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = len(content) if self.server.breaks_after is None else start + self.server.breaks_after
        self.wfile.write(content[start:stop])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_dreamsim_is_downloaded_once_with_progress_and_nothing_left_over(server: Server, tmp_path: Path):
    generated: list[tuple[int, int | None]] = []
    folder = download_dreamsim(BACKBONE, tmp_path, server.url, lambda *how_far: generated.append(how_far))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert is_complete(folder)
    assert generated[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert [path.name for path in folder.parent.iterdir()] == [BACKBONE]
    assert download_dreamsim(BACKBONE, tmp_path, server.url) == folder
    assert len(server.asked) == 1


def test_an_interrupted_download_is_not_present_and_resumes(server: Server, tmp_path: Path):
    server.breaks_after = 100_000
    with pytest.raises(DownloadError, match=f"100000 of {len(ARCHIVE)} bytes"):
        download_dreamsim(BACKBONE, tmp_path, server.url)
    folder = dreamsim_folder(BACKBONE, tmp_path)
    assert not folder.exists()
    assert not is_complete(folder)
    server.breaks_after = None
    download_dreamsim(BACKBONE, tmp_path, server.url)
    assert server.asked == [None, "bytes=100000-"]
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_another_file_at_the_address_is_not_appended_to_the_first_half(server: Server, tmp_path: Path):
    server.breaks_after = 100_000
    with pytest.raises(DownloadError):
        download_file(server.url, tmp_path / "file")
    server.breaks_after, server.tag, server.content = None, '"two"', bytes(250_000)
    assert download_file(server.url, tmp_path / "file").read_bytes() == bytes(250_000)


@pytest.mark.parametrize("damage", ["missing", "short", "list gone", "list broken", "list of another kind"])
def test_incomplete_weights_are_not_present(tmp_path: Path, damage: str):
    (tmp_path / "at hand.zip").write_bytes(ARCHIVE)
    folder = download_dreamsim(BACKBONE, tmp_path, (tmp_path / "at hand.zip").as_uri())
    assert is_complete(folder)
    victim, listed = folder / f"{BACKBONE}_pretrain.pth.tar", folder / MANIFEST
    match damage:
        case "missing":
            victim.unlink()
        case "short":
            victim.write_bytes(victim.read_bytes()[:-1])
        case "list gone":
            listed.unlink()
        case "list broken":
            listed.write_text(listed.read_text()[:20])
        case "list of another kind":
            listed.write_text(json.dumps(["no", "sizes"]))
    assert not is_complete(folder)
    download_dreamsim(BACKBONE, tmp_path, (tmp_path / "at hand.zip").as_uri())
    assert is_complete(folder)


@pytest.mark.parametrize(
    ("content", "shown_text"),
    [
        (ARCHIVE[:-1000], "archive is corrupted"),
        (ARCHIVE[:1000] + bytes(1000) + ARCHIVE[2000:], "archive is corrupted"),
        (b"<html>please log in</html>", "archive is corrupted"),
        (packed({"ensemble_lora/adapter_config.json": b"{}"}), f"not DreamSim's {BACKBONE}"),
    ],
)
def test_other_archives_are_deleted(server: Server, tmp_path: Path, content: bytes, shown_text: str):
    server.content = content
    with pytest.raises(DownloadError, match=shown_text):
        download_dreamsim(BACKBONE, tmp_path, server.url)
    assert list((tmp_path / "dreamsim").iterdir()) == []


def test_without_the_torch_hub_model_nothing_is_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = (*FIRST_WEIGHTS["ensemble"], "ensemble_lora/adapter_config.json")
    (tmp_path / "at hand.zip").write_bytes(packed(dict.fromkeys(names, b"1")))
    url = (tmp_path / "at hand.zip").as_uri()
    asked = []

    def load(repository: str, model: str) -> None:
        import torch

        asked.append((repository, model))
        if len(asked) == 1:
            raise OSError("no network")
        (Path(torch.hub.get_dir()) / "code.py").write_text("1")

    import torch

    before = torch.hub.get_dir()
    monkeypatch.setattr(torch.hub, "load", load)
    with pytest.raises(DownloadError, match=r"torch\.hub: no network"):
        download_dreamsim("ensemble", tmp_path, url)
    assert not dreamsim_folder("ensemble", tmp_path).exists()
    assert torch.hub.get_dir() == before
    folder = download_dreamsim("ensemble", tmp_path, url)
    assert "code.py" in json.loads((folder / MANIFEST).read_text())
    assert asked == [("facebookresearch/dino:main", "dino_vitb16")] * 2


def test_the_cache_folder_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_folder() == tmp_path / "user" / "consistory_svd"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "told"))
    assert cache_folder() == tmp_path / "told"
    assert cache_folder(tmp_path / "flag") == tmp_path / "flag"


def test_the_command_line_downloads_and_names_the_wrong_field(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture
):
    common = ["fetch", "dreamsim", "--cache", str(tmp_path)]
    assert run(app, [*common, "--backbone", BACKBONE, "--url", server.url]) == 0
    assert is_complete(dreamsim_folder(BACKBONE, tmp_path))
    capsys.readouterr()
    for arguments, field in (
        ([*common, "--backbone", "resnet"], "backbone"),
        (["fetch", "nonsense"], "what"),
        ([*common, "--url", (tmp_path / "no such file").as_uri()], "weights"),
    ):
        assert run(app, arguments) == 2
        assert f"error: {field}" in capsys.readouterr().err
