"""A server that speaks as much of the Hugging Face Hub's protocol as downloads need."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants as constants
import huggingface_hub.file_download as client
import pytest

SHA = "3" * 40


class FakeHub(http.server.ThreadingHTTPServer):
    """Serves the files of one repository.

    Attributes:
        files: contents by name; tests may change them.
        asked: the names of files that were requested.
        truncates: large files break off in the middle.
        spoils: names of files that arrive with other contents of the same size.
    """

    LARGE = 10_000

    def __init__(self, repo_id: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        paths = (path for path in folder.rglob("*") if path.is_file())
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self.repo_id = repo_id
        self.asked: list[str] = []
        self.truncates = False
        self.spoils: set[str] = set()

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of `huggingface_hub`."""

    server: FakeHub

    def do_HEAD(self) -> None:
        """The metadata of a file."""
        self._answer(send=False)

    def do_GET(self) -> None:
        """The description of the repository, its listing, or a file."""
        api = f"/api/models/{self.server.repo_id}"
        if self.path.startswith(f"{api}/tree/"):
            self._send_json([self._entry(name, "path") | {"type": "file"} for name in self.server.files])
        elif self.path.startswith(api):
            siblings = [self._entry(name, "rfilename") for name in self.server.files]
            self._send_json({"id": self.server.repo_id, "sha": SHA, "siblings": siblings})
        else:
            self._answer(send=True)

    def _entry(self, name: str, key: str) -> dict:
        content = self.server.files[name]
        digest = hashlib.sha256(content).hexdigest()
        lfs = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 1}
        return {key: name, "size": len(content), "oid": digest, "lfs": lfs}

    def _send_json(self, content: object) -> None:
        self._send(json.dumps(content).encode(), {})

    def _answer(self, send: bool) -> None:
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        if self.path == "/" and not send:
            self._send(b"", {})
            return
        if name not in self.server.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if name else "RepoNotFound")
            self.end_headers()
            return
        content = self.server.files[name]
        if send:
            self.server.asked.append(name)
        tag = hashlib.sha256(content).hexdigest()
        sent = bytes(len(content)) if name in self.server.spoils else content
        self._send(sent, {"ETag": f'"{tag}"', "X-Repo-Commit": SHA}, send)

    def _send(self, content: bytes, headers: dict[str, str], send: bool = True) -> None:
        self.send_response(200)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if send:
            half = self.server.truncates and len(content) > self.server.LARGE
            self.wfile.write(content[: len(content) // 2] if half else content)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@contextmanager
def serving(repo_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that serves a folder, and to which the client goes by default."""
    with FakeHub(repo_id, folder) as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(client.time, "sleep", lambda seconds: None)  # between the client's retries
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,))
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
