"""Stories that are kept: gone on with from the library, on several pages, with other models, and compared."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.library import Library, keep_scores, look_at
from consistory_svd.scores import Absent
from consistory_svd.scores.report import as_json
from consistory_svd.settings import Settings, Story
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.library_handlers import Room
from consistory_svd.studio.shelves import Shelves
from consistory_svd.studio.wiring import build
from tests.test_library import CAT, keep
from tests.test_studio import form

ANN, BEN = gr.Request(session_hash="ann"), gr.Request(session_hash="ben")
QUICK = Settings(steps=2, anchors=1, batch=1)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def handlers(engine: Engine, library: Library) -> Iterator[Handlers]:
    handlers = Handlers(engine, shelves=Shelves(library))
    yield handlers
    for visitor in (ANN, BEN):
        handlers.leave(visitor)


def keep_own(library: Library, engine: Engine, story: Story = CAT, settings: Settings = QUICK) -> Path:
    """A story in the library that the model which is loaded has told."""
    return keep(library, story, settings, model=engine.model.name)


def open_story(handlers: Handlers, visitor: gr.Request, folder: Path) -> str:
    """Open a kept story in Story, as the page does; the status, or why it was refused."""
    message, _, status, *_ = Room(handlers).open(folder.name, visitor)
    return message or status


def offered(handlers: Handlers, visitor: gr.Request) -> dict[str, Any]:
    names = ("part", "how", "resume", "scene", "picture", "text", "back", "scenes", "seeds")
    return dict(zip(names, handlers.going_on.offer("", "", visitor), strict=True))


# -- opened from the library -----------------------------------------------------------------------------


def test_an_opened_story_can_be_gone_on_with_and_no_other(handlers: Handlers, library: Library, engine):
    list(handlers.tell(ANN, **form(record_spectra=True)))
    assert handlers.show_spectra(ANN)[0]["visible"]
    folder = keep_own(library, engine)
    keep_scores(folder, look_at(folder).pictures, as_json([Absent("CLIPScore", "no weights", "", "clip")]))
    open_story(handlers, ANN, folder)
    part = offered(handlers, ANN)
    assert part["part"]["visible"]
    assert part["picture"]["choices"] == [("1: in the forest", 0), ("2: on the beach", 1)]
    assert "not kept in memory" in part["how"]
    assert not handlers.show_spectra(ANN)[0]["visible"]
    assert handlers.offer_fetch()[0]["value"] == "Fetch CLIP"
    open_story(handlers, ANN, keep_own(library, engine))
    assert not handlers.offer_fetch()[0]["visible"]


def test_the_page_offers_to_go_on_as_soon_as_a_story_is_opened(handlers: Handlers):
    demo = build(handlers)
    (opened,) = (fn for fn in demo.fns.values() if fn.name == "open" and fn.api_name != "open_file")
    after = [fn.name for fn in demo.fns.values() if fn.trigger_after == opened._id]
    assert {"offer", "show_spectra", "offer_fetch"} <= set(after)
