"""What strangers send, by raw HTTP: nothing of it becomes a path, a pattern or another visitor."""

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import httpx

from consistory_svd.library import Library
from consistory_svd.studio import create_demo, launch
from consistory_svd.studio.model_manager import ModelManager

SECONDS = 60.0
WRONG_HASHES = [
    "*/../../../outside",
    "*/../stories",
    "../outside",
    "../../outside",
    "..",
    ".",
    "/",
    "*",
    "**",
    "?" * 7,
    "[",
    "[!x]*",
    "a\\..\\outside",
    "",
    "x" * 5000,
    "a\0b",
    "a\nb",
    "victim1\n",
    "%2e%2e",
    "%2A",
    "..%2Foutside",
    "a b",
    "ä",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "a-b",
]
REFUSAL = "session_hash must be 1 to 64 letters and digits"
SCENES = [{"text": text, "seed": None} for text in ("in the forest", "on the beach")]
STORY = {"subject": "a cat", "scenes": SCENES, "steps": 2, "anchors": 1}
pages = count(1)


@dataclass
class Visitor:
    """Someone who sends what they like, with a session hash of their own making."""

    demo: gr.Blocks
    session: str
    http: httpx.Client = field(repr=False)

    def send(self, name: str, first: str | None = None, **values: Any) -> str:
        """Call the page's handler `name`, whose first box is `first`, as its button does: the last thing that
        the studio answers, as JSON or as an error's text. `values` are boxes by their ids, the others as they
        are on a new page."""
        named = [fn for fn in self.demo.fns.values() if fn.name == name]
        fns = [fn for fn in named if fn.targets] or named  # the page's handler rather than the endpoint
        fn = fns[0] if first is None else next(fn for fn in fns if fn.inputs[0].elem_id == first)
        data = [values.get(box.elem_id, getattr(box, "value", None)) for box in fn.inputs]
        body = {"fn_index": fn._id, "data": data, "session_hash": self.session}
        if not fn.queue or not self.session:  # the queue has no answers for an empty hash
            return self.http.post(f"/gradio_api/run/{fn.api_name}", json=body).text
        joined = self.http.post("/gradio_api/queue/join", json=body)
        if joined.is_error:
            return joined.text
        query = {"session_hash": self.session}
        with self.http.stream("GET", "/gradio_api/queue/data", params=query) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") in ("process_completed", "unexpected_error"):
                    return json.dumps(message.get("output") or message)
        raise AssertionError(f"{name} was not answered")

    def generate(self) -> str:
        return self.send("generate", **STORY)

    def export(self) -> str:
        return self.send("make", "export-format")

    def export_address(self) -> str:
        """Export the story on the page: where its file is fetched."""
        return json.loads(self.export())["data"][1]["value"]["url"]

    def open_and_close(self) -> None:
        """What a page does that is opened and closed again."""
        address = f"/gradio_api/heartbeat/{quote(self.session, safe='')}"
        with self.http.stream("GET", address) as beat:
            next(beat.iter_raw(), b"")


@dataclass
class Studio:
    """A studio that answers on this machine. Everything that it writes is in `folder`; `deletes_stories` says
    whether a visitor's stories go with the visitor."""

    demo: gr.Blocks
    users: tuple[str, ...]
    folder: Path
    deletes_stories: bool

    def visitor(self, session: str = "", user: str = "") -> Visitor:
        """A visitor who has signed in where one has to; with a new page, unless another hash is given."""
        visitor = self.stranger(session or f"page{next(pages)}")
        if self.users:
            form = {"username": user or self.users[-1], "password": "secret"}
            assert visitor.http.post("/login", data=form).status_code == 200
        return visitor

    def stranger(self, session: str) -> Visitor:
        """Someone who has not signed in."""
        return Visitor(self.demo, session, httpx.Client(base_url=self.demo.local_url, timeout=SECONDS))

    def files(self) -> dict[str, bytes]:
        """The content of all files by their names, without previews."""
        found = (Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names)
        content = {}
        for path in found:
            with suppress(FileNotFoundError):  # of a visitor who is leaving
                content[str(path)] = path.read_bytes()
        return {name: file for name, file in content.items() if "previews-" not in name}

    def settle(self) -> None:
        """Wait until the studio has dealt with all pages that were closed: one that is closed last leaves
        nothing behind but a story that is to be kept."""
        last = self.visitor()
        story = Path(re.search(r'"path": "([^"]*frame-01\.png)"', last.generate())[1]).parent
        export = Path(re.search(r'"path": "([^"]*a-cat\.pdf)"', last.export())[1])
        assert story.is_dir()
        assert export.is_file()
        last.open_and_close()
        until = time.monotonic() + SECONDS
        while export.exists() or (self.deletes_stories and story.exists()):
            assert time.monotonic() < until, "a closed page's files stay"
            time.sleep(0.05)


@pytest.fixture(scope="module", params=["default", "private", "auth"])
def studio(request: Any, manager: ModelManager, tmp_path_factory: Any) -> Iterator[Studio]:
    """A studio as it is on one's own machine, one where stories are private, one with sign-in. Files
    that are none of its own lie beside its folders, up to three levels above."""
    folder = tmp_path_factory.mktemp(request.param)
    temporary = folder / "one" / "two"
    temporary.mkdir(parents=True)
    for above in (folder, folder / "one", temporary):
        for name in ("outside", "outside-1", "outside2", "stories-1", "x-1"):
            (above / name).mkdir()
            (above / name / "kept.txt").write_text("kept")
    library = Library(folder / "library") if request.param == "default" else None
    users = ("ann", "ben") if request.param == "auth" else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        demo = create_demo(manager=manager, library=library)
        auth = [(user, "secret") for user in users]
        launch(demo, port=None, auth=auth, library=library, prevent_thread_lock=True, quiet=True)
        yield Studio(demo, users, folder, deletes_stories=request.param == "private")
        demo.close()


@pytest.fixture(scope="module")
def victim(studio: Studio) -> Visitor:
    """A visitor with a story and an export; the first user where one signs in."""
    visitor = studio.visitor("victim1", user="ann")
    assert "2 images in " in visitor.generate()
    assert visitor.http.get(visitor.export_address()).is_success
    return visitor


def test_no_hash_reaches_a_path_or_another_visitor(studio: Studio, victim: Visitor):
    own = studio.visitor()
    own.generate()
    folder = Path(own.export_address()).parent.name
    beside = [f"{folder.removeprefix('export-')}/../../../outside2/x", f"{folder}/../../../outside2/x"]
    before = studio.files()
    for sent in (*WRONG_HASHES, *beside):
        attacker = studio.visitor()
        attacker.session = sent
        for one in (attacker, studio.stranger(sent)):
            one.send("leave")
            one.open_and_close()
        for answer in (attacker.generate(), attacker.export(), attacker.send("start", **STORY)):
            assert REFUSAL in answer, sent
        attacker.send("leave")
    studio.settle()
    after = studio.files()
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if name not in before and "outside" in name]
    assert victim.http.get(victim.export_address()).is_success


def test_addresses_do_not_contain_the_hash(victim: Visitor):
    assert victim.session not in victim.export()


def test_another_users_hash_is_nobody(studio: Studio, victim: Visitor):
    if not studio.users:
        pytest.skip("without sign-in, the hash alone identifies a visitor")
    ben = studio.visitor(victim.session, user="ben")
    assert "There is no story to export yet" in ben.export()
    before = studio.files()
    ben.send("leave")
    ben.open_and_close()
    studio.stranger(victim.session).open_and_close()
    studio.settle()
    after = studio.files()
    assert {name: after.get(name) for name in before} == before
    assert victim.http.get(victim.export_address()).is_success
