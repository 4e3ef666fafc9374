"""Stories that are kept: gone on with from the library, on several pages, with other models, and compared."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import httpx
from gradio.processing_utils import move_files_to_cache

from consistory_svd.downloads import CACHE_VARIABLE
from consistory_svd.library import ORDERS, Library, keep_scores, look_at
from consistory_svd.metadata import read_story_json
from consistory_svd.metrics.report import as_json
from consistory_svd.metrics.result import MissingScore
from consistory_svd.models.lora import Lora
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import launch
from consistory_svd.studio.app import build_page
from consistory_svd.studio.generated_story import GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.services import Services
from consistory_svd.studio.session import Session
from consistory_svd.studio.tabs.compare import NOTHING, Comparing, lay_out
from consistory_svd.studio.tabs.story import StoryTab
from consistory_svd.studio.visitor_storage import VisitorStorage
from tests.test_library import CAT, keep
from tests.test_studio import form
from tests.visitors import ANN, BEN, last, library_of, make_story_tab

QUICK = Settings(steps=2, anchors=1, batch=1)


@pytest.fixture
def story_tab(common: StoryTab) -> StoryTab:
    """Here all see one library."""
    return common


def keep_own(library: Library, manager: ModelManager, story: Story = CAT, settings: Settings = QUICK) -> Path:
    """A story in the library that the model which is loaded has told."""
    return keep(library, story, settings, model=manager.model.name)


def open_story(story_tab: StoryTab, visitor: gr.Request, folder: Path) -> str:
    """Open a kept story in Story, as the page does; the status, or why it was refused."""
    room = library_of(story_tab)
    updates = room.open(folder.name, visitor)
    return updates[room.message] or updates[story_tab.status]


def offered(story_tab: StoryTab, visitor: gr.Request) -> dict[str, Any]:
    """What the continue panel shows, by the names of its components."""
    panel = story_tab.continue_panel
    updates = panel.refresh([], visitor)
    return {name: updates[item] for name, item in vars(panel).items() if item in updates}


# -- opened from the library -----------------------------------------------------------------------------


def test_an_opened_story_can_be_gone_on_with_and_no_other(story_tab: StoryTab, library: Library, manager):
    list(story_tab.generate(ANN, **form(record_svd=True)))
    plots = story_tab.svd_plots
    assert plots.show(ANN)[plots.part]["visible"]
    folder = keep_own(library, manager)
    keep_scores(
        folder, look_at(folder).pictures, as_json([MissingScore("CLIPScore", "no weights", "", "clip")])
    )
    open_story(story_tab, ANN, folder)
    part = offered(story_tab, ANN)
    assert part["part"]["visible"]
    assert part["picture"]["choices"] == [("1: in the forest", 0), ("2: on the beach", 1)]
    assert "not in memory" in part["note"]
    assert not plots.show(ANN)[plots.part]["visible"]
    button = story_tab.scores.fetch_button
    assert story_tab.scores.offer_weights(ANN)[button]["value"] == "Download CLIP"
    open_story(story_tab, ANN, keep_own(library, manager))
    assert not story_tab.scores.offer_weights(ANN)[button]["visible"]


def test_the_page_offers_to_go_on_as_soon_as_a_story_is_opened(story_tab: StoryTab):
    demo = build_page(story_tab.services)
    (opened,) = (fn for fn in demo.fns.values() if fn.name == "open" and fn.api_name != "open_file")
    after = [fn.name for fn in demo.fns.values() if fn.trigger_after == opened._id]
    assert {"finish", "offer_weights"} <= set(after)


# -- one story, one model --------------------------------------------------------------------------------


def refusal_of(story_tab: StoryTab, visitor: gr.Request, kind: str = "redo", picture: int = 0) -> str:
    """What the page says to a wish that is refused."""
    updates = story_tab.continue_story(kind)("", picture, "", visitor)
    status = next(updates)[story_tab.status]
    assert 'role="alert"' in status
    with pytest.raises(gr.Error):
        next(updates)
    return status


def redo(story_tab: StoryTab, visitor: gr.Request, picture: int = 0) -> list[str]:
    """Redo a picture as the page does; the names of the story's pictures then."""
    list(story_tab.continue_story("redo")("", picture, "", visitor))
    return [one.path.name for one in story_tab.services.sessions.story_of(visitor).pictures]


def test_a_story_of_another_model_is_not_gone_on_with(
    story_tab: StoryTab, library: Library, manager: ModelManager
):
    folder = keep(library)
    before = (folder / "story.json").read_bytes()
    name = manager.model.name
    words = f"generated with a model, but {name} is loaded"
    status = open_story(story_tab, ANN, folder)
    assert words in status
    assert f"Load a model to continue it, or press Generate to generate it again with {name}." in status
    assert words in offered(story_tab, ANN)["note"]
    assert words in refusal_of(story_tab, ANN)
    assert (folder / "story.json").read_bytes() == before
    assert sorted(path.name for path in folder.glob("frame-*")) == ["frame-01.png", "frame-02.png"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"checkpoint": "another model"}, "but another model is loaded"),
        ({"loras": (Lora(Path("toy.safetensors"), 0.5),)}, " with toy:0.5 is loaded"),
    ],
    ids=["checkpoint", "lora"],
)
def test_another_model_that_comes_while_a_story_waits_changes_nothing(
    story_tab: StoryTab,
    library: Library,
    manager: ModelManager,
    monkeypatch: pytest.MonkeyPatch,
    other: dict[str, object],
    words: str,
):
    folder, name = keep_own(library, manager), manager.model.name
    assert "is loaded" not in open_story(story_tab, ANN, folder)
    assert redo(story_tab, ANN) == ["frame-01-2.png", "frame-02.png"]
    story = story_tab.services.sessions.story_of(ANN)
    monkeypatch.setattr(manager, "_model", replace(manager.model, **other))
    again = GenerationJob(manager, GenerationRequest.continuing(story, story.story, (1,)))
    again.start()
    assert again.join(120)
    assert words in again.progress.error
    story_tab.continue_panel.undo(0, [], ANN)
    record = read_story_json(folder)
    assert (record.pictures, record.model) == (("frame-01.png", "frame-02.png"), name)


# -- two pages, one story --------------------------------------------------------------------------------


def test_pictures_are_never_written_over_and_a_stale_page_says_so(story_tab, library, manager):
    folder = keep_own(library, manager)
    for visitor in (ANN, BEN):
        open_story(story_tab, visitor, folder)
    assert redo(story_tab, ANN) == ["frame-01-2.png", "frame-02.png"]
    made = (folder / "frame-01-2.png").read_bytes()
    assert "was changed or deleted on another page" in refusal_of(story_tab, BEN)
    assert "was changed or deleted" in story_tab.continue_panel.undo(0, [], BEN)[story_tab.status]
    open_story(story_tab, BEN, folder)
    assert redo(story_tab, BEN) == ["frame-01-3.png", "frame-02.png"]
    assert (folder / "frame-01-2.png").read_bytes() == made
    assert read_story_json(folder).pictures == ("frame-01-3.png", "frame-02.png")


def test_a_story_that_is_told_on_another_page_is_left_alone(story_tab, library, manager):
    folder = keep_own(library, manager, settings=replace(QUICK, steps=200))
    for visitor in (ANN, BEN):
        open_story(story_tab, visitor, folder)
    generation = story_tab.continue_story("redo")("", 0, "", ANN)
    next(generation)
    assert "is being generated on another page" in refusal_of(story_tab, BEN)
    assert "being generated" in open_story(story_tab, BEN, folder)
    generation.close()


def test_a_story_with_lost_pictures_can_be_gone_on_with(story_tab, library, manager):
    folder = keep_own(library, manager, replace(CAT, scenes=(*CAT.scenes, "in the snow")))
    (folder / "frame-03.png").unlink()
    open_story(story_tab, ANN, folder)
    assert redo(story_tab, ANN) == ["frame-01-2.png", "frame-02.png"]


# -- stories that have no picture ------------------------------------------------------------------------


def test_a_story_without_a_picture_can_only_be_begun_anew(story_tab: StoryTab):
    generation = story_tab.generate(ANN, **form(steps=200))
    next(update for update in generation if "step " in update.get(story_tab.status, ""))
    assert "Stopped before the first picture" in last(story_tab.cancel(ANN), story_tab.status)
    part = offered(story_tab, ANN)
    assert (part["part"]["visible"], part["resume"]["visible"], part["changes"]["visible"]) == (
        True,
        True,
        False,
    )
    list(story_tab.generate(ANN, **form()))
    assert offered(story_tab, ANN)["changes"]["visible"]


def test_a_story_that_is_cancelled_in_the_line_never_began(story_tab: StoryTab):
    first = story_tab.generate(BEN, **form(steps=200))
    next(update for update in first if "step " in update.get(story_tab.status, ""))
    second = story_tab.generate(ANN, **form())
    next(update for update in second if "before yours" in update.get(story_tab.status, ""))
    assert "Cancelled before your story began" in last(story_tab.cancel(ANN), story_tab.status)
    assert story_tab.services.sessions.of(ANN).job.progress.state == "stopped"
    first.close()


# -- files that make no sense ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Press Generate to generate it."),
        ({"pictures": "no"}, "Unknown keys were ignored: 'pictures'."),
        ({"frames": [{"picture": "x.png", "prompt": "a house"}]}, "do not match its scenes"),
        ({"frames": [{"picture": "x.png", "prompt": CAT.prompts[0]}] * 3}, "do not match its scenes"),
    ],
    ids=str,
)
def test_parts_of_a_file_that_make_no_sense_are_named(
    story_tab: StoryTab, library: Library, manager: ModelManager, changes: dict[str, Any], words: str
):
    path = keep_own(library, manager) / "story.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    status = story_tab.share.open_file(str(path), ANN)[story_tab.status]
    assert words in unescape(status)
    assert ("ignored" in status or "do not match" in status) == bool(changes)


# -- comparisons -----------------------------------------------------------------------------------------


@pytest.fixture
def comparing(story_tab: StoryTab) -> Comparing:
    with gr.Blocks(), gr.Tabs() as rooms:
        widgets = lay_out(rooms)
    return Comparing(story_tab.services, widgets)


def compare(comparing: Comparing, visitor: gr.Request, **changes: Any) -> Iterator[tuple[Any, ...]]:
    rows = ("plain", "sdsa", NOTHING, NOTHING)
    return comparing.compare(visitor, None, rows, ("ensemble", "noise"), **form(**changes))


def test_each_row_of_a_comparison_is_a_kept_story(
    comparing: Comparing, story_tab: StoryTab, library: Library, tmp_path, monkeypatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no weights"))
    *_, last = compare(comparing, ANN)
    story_tab.services.leave(ANN)
    stories = library.stories()
    assert {story.name.split("-", 4)[-1] for story in stories} == {"plain-a-cat", "shared-attention-a-cat"}
    for story in stories:
        assert (len(story.pictures), story.problem) == (3, "")
        assert story.scores["absent"]
    assert all(str(story.pictures[0]) in last[2] for story in stories)
    (shared,) = (story for story in stories if story.preset == "sdsa")
    assert "is loaded" not in open_story(story_tab, ANN, shared.folder)
    assert "is deleted" in library_of(story_tab).delete(shared.name, ANN)[1]
    assert [story.name for story in library.stories()] == [one.name for one in stories if one != shared]


def test_a_row_that_is_told_is_neither_deleted_nor_opened(comparing, story_tab, library):
    room = library_of(story_tab)  # first, because this takes longer than a row
    going = compare(comparing, ANN, steps=200)
    next(update for update in going if isinstance(update[2], str) and "<img" in update[2])
    (running,) = library.stories()
    assert "still being told" in room.delete(running.name, BEN)[1]
    assert "being generated" in room.open(running.name, BEN)[room.message]
    going.close()


def test_comparisons_of_a_shared_demo_go_with_the_visit(manager: ModelManager):
    story_tab = make_story_tab(manager)
    with gr.Blocks(), gr.Tabs() as rooms:
        comparing = Comparing(story_tab.services, lay_out(rooms))
    list(compare(comparing, ANN))
    root = story_tab.services.library_of(ANN).root
    assert len(list(root.iterdir())) == 2
    going = compare(comparing, ANN, steps=200)
    next(update for update in going if isinstance(update[2], str) and "<img" in update[2])
    story_tab.services.leave(ANN)
    assert not root.exists()


# -- what goes, and when ---------------------------------------------------------------------------------


def test_a_private_library_says_when_its_stories_go(manager: ModelManager, story_tab: StoryTab):
    def said(studio: StoryTab, visitor: gr.Request) -> str:
        return library_of(studio).shelf("", ORDERS[0], 24, visitor)[2]

    private = make_story_tab(manager)
    assert "Your stories go when you close or reload this page; take them along." in said(private, ANN)
    assert "stay for a day after your last visit" in said(private, signed_in("one"))
    assert "take them along" not in said(story_tab, ANN)


def signed_in(page: str) -> gr.Request:
    return gr.Request(session_hash=page, username="ann")


def test_who_signs_in_finds_their_stories_again(manager: ModelManager):
    studio = make_story_tab(manager)
    list(studio.generate(signed_in("one"), **form()))
    (story,) = studio.services.library_of(signed_in("one")).stories()
    studio.services.leave(signed_in("one"))
    assert [one.name for one in studio.services.library_of(signed_in("two")).stories()] == [story.name]
    other = gr.Request(session_hash="three", username="ben")
    assert studio.services.library_of(other).stories() == []


def test_stories_of_who_signed_in_go_in_the_end():
    storage, one, two = VisitorStorage(keep_seconds=0.0), Session("ann"), Session("ann")
    first, second = storage.of(one).root, storage.of(two).root
    assert first == second
    storage.leave(one)
    assert first.is_dir(), "another page of theirs is open"
    storage.leave(two)
    until = time.monotonic() + 30
    while first.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not first.exists()


def served(demo: gr.Blocks, files: list[str]) -> list[str]:
    """The addresses that the page's gallery gives to files."""
    gallery = next(one for one in demo.blocks.values() if one.elem_id == "pictures")
    data = gallery.postprocess([(file, "") for file in files])
    sent = move_files_to_cache(data, gallery, postprocess=True)
    return [f"{demo.local_url}{item['image']['url'].removeprefix('/')}" for item in sent]


def test_what_is_removed_cannot_be_read_by_its_address(manager: ModelManager):
    services = Services(manager)
    demo = build_page(services)
    studio = make_story_tab(**vars(services))
    launch(demo, port=None, prevent_thread_lock=True, quiet=True)
    try:
        pictures = last(studio.generate(ANN, **form()), studio.pictures)
        kept = Path(studio.services.library_of(ANN).stories()[0].folder)
        addresses = served(demo, [path for path, _ in pictures])
        assert [httpx.get(one).status_code for one in addresses] == [200] * 3
        library_of(studio).delete(kept.name, ANN)
        assert [httpx.get(one).status_code for one in addresses] == [403] * 3
        pictures = last(studio.generate(ANN, **form()), studio.pictures)
        addresses = served(demo, [path for path, _ in pictures])
        assert [httpx.get(one).status_code for one in addresses] == [200] * 3
        studio.services.leave(ANN)
        assert [httpx.get(one).status_code for one in addresses] == [403] * 3
    finally:
        demo.close()


def test_nobody_guesses_where_the_files_of_others_are():
    storage, ann = VisitorStorage(), Session()
    one, two = storage.of(ann).root.name, storage.of(Session()).root.name
    assert one[:-22] == two[:-22]
    assert one != two
    export_folder = storage.export_folder(ann, "story")
    (export_folder / "a.pdf").write_text("")
    storage.export_folder(ann, "library")
    assert (export_folder / "a.pdf").is_file(), "two parts of the page do not take each other's file"
    storage.leave(ann)
    assert not export_folder.exists()
