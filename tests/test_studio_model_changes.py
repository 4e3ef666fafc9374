"""Pages keep with the model: its sizes and words, and how a few-step model is run, on all of them."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.limits import Limits
from consistory_svd.models.request import ModelRequest
from consistory_svd.settings import Settings
from consistory_svd.studio import create_demo
from consistory_svd.studio.components.model_picker import RECIPE_FIELDS, few_steps, recipe_values
from consistory_svd.studio.components.sampling_settings import CUSTOM_SIZE
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.tabs.story import StoryTab
from tests.visitors import make_story_tab

SECONDS = 120.0
DEFAULT_SIZE = "Model default: 32 × 32"


@pytest.fixture
def lightning(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny model of the other layout, under a few-step model's name."""
    return shutil.copytree(tiny_folders["sdxl"], tmp_path / "toy-lightning-2step")


@pytest.fixture
def manager(tiny_folder: Path) -> ModelManager:
    manager = ModelManager(str(tiny_folder), "cpu")
    manager.start()
    assert manager.wait(SECONDS)
    return manager


def following(manager: ModelManager, **parts: Any) -> StoryTab:
    return make_story_tab(manager, **parts)


def follow(
    tab: StoryTab, seen: Any, link: str = "", size: str = DEFAULT_SIZE, sides: Any = ("", "")
) -> dict[str, Any]:
    """What changes on a page, by name."""
    updates = tab.model.follow(seen, link, size, *sides)
    items = {
        **tab.form,
        "seen": tab.model._seen,
        "line": tab.model.line,
        "words": tab.model.words,
        "size": tab.sampling.size,
    }
    return {name: updates[item] for name, item in items.items() if item in updates}


def switch(manager: ModelManager, source: Path) -> None:
    manager.switch(ModelRequest(str(source), "cpu"))
    assert manager.wait(SECONDS)
    assert manager.last_error == ""


def test_page_applies_sizes_and_notes_once(manager: ModelManager):
    page = following(manager)
    first = follow(page, None, size="Model default")
    assert set(first) == {"seen", "line", "words", "size", "k_count", "v_count"}, "it sets no steps"
    assert first["size"]["value"] == DEFAULT_SIZE
    assert first["k_count"]["maximum"] == manager.most_values
    assert follow(page, first["seen"]) == {}


def test_every_page_hears_of_a_switch_and_a_few_step_model_sets_the_form(
    manager: ModelManager, lightning: Path
):
    pages = [following(manager), following(manager)]
    seen = [follow(page, None)["seen"] for page in pages]
    switch(manager, lightning)
    for page, before in zip(pages, seen, strict=True):
        now = follow(page, before)
        assert [now[name] for name in RECIPE_FIELDS] == [
            2,
            0.0,
            "euler",
            "trailing",
        ]
        assert "toy-lightning-2step" in now["line"]
        assert "needs few steps: the form starts with steps 2, guidance 0, scheduler euler" in now["line"]
        assert now["size"]["value"] == "Model default: 64 × 64"
        assert follow(page, now["seen"]) == {}


def test_the_ordinary_defaults_come_back_after_a_few_step_model(
    manager: ModelManager, lightning: Path, tiny_folder: Path
):
    switch(manager, lightning)
    page = following(manager, limits=Limits(steps=20))
    first = follow(page, None)
    assert first["steps"] == 2, "also on a page that finds it loaded"
    switch(manager, tiny_folder)
    now = follow(page, first["seen"])
    assert [now[name] for name in RECIPE_FIELDS] == [20, 5.0, "own", "own"]
    switch(manager, lightning)
    assert follow(page, now["seen"])["steps"] == 2


def test_an_ordinary_model_after_another_leaves_the_boxes_alone(
    manager: ModelManager, tiny_folders: dict[str, Path]
):
    page = following(manager)
    seen = follow(page, None)["seen"]
    switch(manager, tiny_folders["sdxl"])
    assert "steps" not in follow(page, seen)


def test_link_keeps_story_and_settings(manager: ModelManager, lightning: Path, tiny_folder: Path):
    switch(manager, lightning)
    page = following(manager)
    first = follow(page, None, link="abc")
    assert "steps" not in first
    switch(manager, tiny_folder)
    assert follow(page, first["seen"], link="abc")["steps"] == Settings.steps


def test_sizes_of_the_last_model_are_cleared_with_a_note_and_custom_ones_stay(
    manager: ModelManager, lightning: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(gr, "Info", said.append)
    page = following(manager)
    seen = follow(page, None)["seen"]
    wide = next(name for name in page.sampling.named("", "")["choices"] if name.startswith("Wide"))
    switch(manager, lightning)
    now = follow(page, seen, size=wide, sides=("44", "24"))
    assert (now["width"], now["height"], now["size"]["value"]) == ("", "", "Model default: 64 × 64")
    assert len(said) == 1
    assert wide in said[0]
    kept = follow(page, seen, size=CUSTOM_SIZE, sides=("48", "72"))
    assert "width" not in kept
    assert kept["size"]["value"] == CUSTOM_SIZE


def test_stale_size_is_refused_with_the_reason(
    manager: ModelManager, lightning: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", said.append)
    sampling = following(manager).sampling
    old = sampling.named("", "")["choices"]
    switch(manager, lightning)
    updates = sampling.choose(old[1], "", "")
    assert list(updates) == [sampling.size]
    assert "is not a size of the loaded model" in said[0]
    choices = updates[sampling.size]["choices"]
    assert not set(old) & set(choices)
    updates = sampling.choose(choices[1], "", "")
    sides = [updates[sampling.fields[name]] for name in ("width", "height")]
    assert sides == choices[1].split(": ")[1].split(" × ")


def test_examples_take_the_settings_of_a_few_step_model(manager: ModelManager, lightning: Path):
    tab = make_story_tab(manager)
    assert tab.fill_example(0)[tab.form["steps"]] == Settings.steps
    switch(manager, lightning)
    updates = tab.fill_example(0)
    assert [updates[tab.form[name]] for name in ("steps", "guidance", "spacing")] == [2, 0.0, "trailing"]


def test_a_recipe_is_within_the_limits(lightning: Path):
    recipe = ModelRequest("hyper-8step.safetensors").recipe
    assert recipe_values(recipe, Limits(steps=4))["steps"] == 4
    assert "steps 4," in few_steps(recipe, Limits(steps=4))
    assert few_steps(None, Limits()) == ""


def test_a_page_follows_the_model_after_each_generate():
    demo = create_demo()
    events = {fn.name: fn for fn in demo.fns.values()}
    after = {fn.trigger_after for fn in demo.fns.values() if fn.name == "follow"} - {None}
    followed = {events[name]._id for name in ("wait_for_model", "load_model")}
    generated = next(fn._id for fn in demo.fns.values() if fn.name == "generate" and fn.targets)
    assert after == followed | {generated}
    assert not any(isinstance(block, gr.Timer) for block in demo.blocks.values())
