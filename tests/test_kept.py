"""Stories that are kept: gone on with from the library, on several pages, with other models, and compared."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.library import Library, keep_scores, look_at
from consistory_svd.record import read_story_json
from consistory_svd.scores import Absent
from consistory_svd.scores.report import as_json
from consistory_svd.settings import Settings, Story
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.library_handlers import Room
from consistory_svd.studio.restore import Restoring
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
    names = ("part", "how", "resume", "changes", "scene", "picture", "text", "back", "scenes", "seeds")
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


# -- one story, one model --------------------------------------------------------------------------------


def refusal_of(handlers: Handlers, visitor: gr.Request, kind: str = "redo", picture: int = 0) -> str:
    """What the page says to a wish that is refused."""
    updates = handlers.going_on.begin(kind, "", picture, "", visitor)
    status = next(updates)[0]
    assert 'role="alert"' in status
    with pytest.raises(gr.Error):
        next(updates)
    return status


def redo(handlers: Handlers, visitor: gr.Request, picture: int = 0) -> list[str]:
    """Redo a picture as the page does; the names of the story's pictures then."""
    list(handlers.going_on.begin("redo", "", picture, "", visitor))
    list(handlers.go_on("redo", "", picture, "", visitor))
    return [one.path.name for one in handlers.story_of(visitor).progress.pictures]


def test_a_story_of_another_model_is_not_gone_on_with(handlers: Handlers, library: Library, engine: Engine):
    folder = keep(library)
    before = (folder / "story.json").read_bytes()
    name = engine.model.name
    words = f"told with a model, and {name} is loaded"
    status = open_story(handlers, ANN, folder)
    assert words in status
    assert f"Load a model to go on with it, or press Generate to tell it anew with {name}." in status
    assert words in offered(handlers, ANN)["how"]
    assert words in refusal_of(handlers, ANN)
    assert (folder / "story.json").read_bytes() == before
    assert sorted(path.name for path in folder.glob("frame-*")) == ["frame-01.png", "frame-02.png"]


def test_another_model_that_comes_while_a_story_waits_changes_nothing(
    handlers: Handlers, library: Library, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    folder, name = keep_own(library, engine), engine.model.name
    assert "is loaded" not in open_story(handlers, ANN, folder)
    assert redo(handlers, ANN) == ["frame-01-2.png", "frame-02.png"]
    run = handlers.story_of(ANN)
    monkeypatch.setattr(engine, "_model", replace(engine.model, name="another model"))
    again = run.again(run.told.story, (1,))
    again.start()
    assert again.join(120)
    assert "and another model is loaded" in again.progress.error
    handlers.going_on.take_back(0, "", "", ANN)
    record = read_story_json(folder)
    assert (record.pictures, record.model) == (("frame-01.png", "frame-02.png"), name)


# -- two pages, one story --------------------------------------------------------------------------------


def test_pictures_are_never_written_over_and_a_stale_page_says_so(handlers, library, engine):
    folder = keep_own(library, engine)
    for visitor in (ANN, BEN):
        open_story(handlers, visitor, folder)
    assert redo(handlers, ANN) == ["frame-01-2.png", "frame-02.png"]
    made = (folder / "frame-01-2.png").read_bytes()
    assert "was changed on another page" in refusal_of(handlers, BEN)
    assert "was changed on another page" in handlers.going_on.take_back(0, "", "", BEN)[1]
    open_story(handlers, BEN, folder)
    assert redo(handlers, BEN) == ["frame-01-3.png", "frame-02.png"]
    assert (folder / "frame-01-2.png").read_bytes() == made
    assert read_story_json(folder).pictures == ("frame-01-3.png", "frame-02.png")


def test_a_story_that_is_told_on_another_page_is_left_alone(handlers, library, engine):
    folder = keep_own(library, engine, settings=replace(QUICK, steps=60))
    for visitor in (ANN, BEN):
        open_story(handlers, visitor, folder)
    list(handlers.going_on.begin("redo", "", 0, "", ANN))
    telling = handlers.go_on("redo", "", 0, "", ANN)
    next(telling)
    assert "is being told on another page" in refusal_of(handlers, BEN)
    assert "still being told" in open_story(handlers, BEN, folder)
    telling.close()


def test_a_story_with_lost_pictures_can_be_gone_on_with(handlers, library, engine):
    folder = keep_own(library, engine, replace(CAT, scenes=(*CAT.scenes, "in the snow")))
    (folder / "frame-03.png").unlink()
    open_story(handlers, ANN, folder)
    assert redo(handlers, ANN) == ["frame-01-2.png", "frame-02.png"]


# -- stories that have no picture ------------------------------------------------------------------------


def test_a_story_without_a_picture_can_only_be_begun_anew(handlers: Handlers):
    telling = handlers.tell(ANN, **form(steps=200))
    next(status for _, status in telling if isinstance(status, str) and "step " in status)
    assert "Stopped before the first picture" in list(handlers.cancel(ANN))[-1][1]
    part = offered(handlers, ANN)
    assert (part["part"]["visible"], part["resume"]["visible"], part["changes"]["visible"]) == (
        True,
        True,
        False,
    )
    list(handlers.tell(ANN, **form()))
    assert offered(handlers, ANN)["changes"]["visible"]


def test_a_story_that_is_cancelled_in_the_line_never_began(handlers: Handlers):
    first = handlers.tell(BEN, **form(steps=200))
    next(status for _, status in first if isinstance(status, str) and "step " in status)
    second = handlers.tell(ANN, **form())
    next(status for _, status in second if isinstance(status, str) and "before yours" in status)
    assert "Cancelled before your story began" in list(handlers.cancel(ANN))[-1][1]
    assert handlers.story_of(ANN).progress.stage == "stopped"
    first.close()


# -- files that make no sense ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Press Generate to tell it."),
        ({"pictures": "no"}, "What it has under 'pictures' means nothing here and was left out."),
        ({"frames": [{"picture": "x.png", "prompt": "a house"}]}, "are not those of its scenes"),
        ({"frames": [{"picture": "x.png", "prompt": CAT.prompts[0]}] * 3}, "are not those of its scenes"),
    ],
    ids=str,
)
def test_parts_of_a_file_that_make_no_sense_are_named(
    library: Library, engine: Engine, changes: dict[str, Any], words: str
):
    path = keep_own(library, engine) / "story.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    *_, status = Restoring(engine).open_file(str(path))
    assert words in unescape(status)
    assert ("left out" in status or "alone" in status) == bool(changes)
