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
from consistory_svd.studio.components.model_following import RUN, Following, few_steps, own_values
from consistory_svd.studio.components.sampling_settings import CUSTOM_SIZE, Sizes
from consistory_svd.studio.examples import EXAMPLES
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.layout import FORM
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.wiring import _within

SECONDS = 120.0
OWN_SIZE = "The model's own: 32 × 32"
NAMES = (
    "seen",
    "line",
    "frame",
    "words",
    "size",
    "width",
    "height",
    "steps",
    "guidance",
    "scheduler",
    "spacing",
)


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


def following(manager: ModelManager, limits: Limits | None = None) -> Following:
    handlers = Handlers(manager, limits)
    return Following(manager, handlers.limits, Sizes(manager), handlers.model_shown)


def follow(page: Following, seen: Any, link: str = "", size: str = OWN_SIZE, sides: Any = ("", "")) -> dict:
    """What changes on a page, by name."""
    updates = dict(zip(NAMES, page.follow(seen, link, size, *sides), strict=True))
    return {name: value for name, value in updates.items() if value != gr.skip()}


def switch(manager: ModelManager, source: Path) -> None:
    manager.switch(ModelRequest(str(source), "cpu"))
    assert manager.wait(SECONDS)
    assert manager.last_error == ""


def test_a_page_takes_sizes_and_words_once(manager: ModelManager):
    page = following(manager)
    first = follow(page, None, size="The model's own")
    assert set(first) == {"seen", "line", "frame", "words", "size"}, "an ordinary model sets no steps"
    assert first["size"]["value"] == OWN_SIZE
    assert follow(page, first["seen"]) == {}


def test_every_page_hears_of_a_switch_and_a_few_step_model_sets_the_form(
    manager: ModelManager, lightning: Path
):
    pages = [following(manager), following(manager)]
    seen = [follow(page, None)["seen"] for page in pages]
    switch(manager, lightning)
    for page, before in zip(pages, seen, strict=True):
        now = follow(page, before)
        assert [now[name] for name in RUN] == [
            2,
            0.0,
            "euler",
            "trailing",
        ]
        assert "toy-lightning-2step" in now["line"]
        assert "made for few steps: the form begins with steps 2, guidance 0, scheduler euler" in now["line"]
        assert now["size"]["value"] == "The model's own: 64 × 64"
        assert follow(page, now["seen"]) == {}


def test_the_ordinary_defaults_come_back_after_a_few_step_model(
    manager: ModelManager, lightning: Path, tiny_folder: Path
):
    switch(manager, lightning)
    page = following(manager, Limits(steps=20))
    first = follow(page, None)
    assert first["steps"] == 2, "also on a page that finds it loaded"
    switch(manager, tiny_folder)
    now = follow(page, first["seen"])
    assert [now[name] for name in RUN] == [20, 5.0, "own", "own"]
    switch(manager, lightning)
    assert follow(page, now["seen"])["steps"] == 2


def test_an_ordinary_model_after_another_leaves_the_boxes_alone(
    manager: ModelManager, tiny_folders: dict[str, Path]
):
    page = following(manager)
    seen = follow(page, None)["seen"]
    switch(manager, tiny_folders["sdxl"])
    assert "steps" not in follow(page, seen)


def test_a_link_keeps_what_it_says(manager: ModelManager, lightning: Path, tiny_folder: Path):
    switch(manager, lightning)
    page = following(manager)
    first = follow(page, None, link="abc")
    assert "steps" not in first
    switch(manager, tiny_folder)
    assert follow(page, first["seen"], link="abc")["steps"] == Settings.steps


def test_sizes_of_the_former_model_go_with_words_and_ones_own_stay(
    manager: ModelManager, lightning: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(gr, "Info", said.append)
    sizes, page = Sizes(manager), following(manager)
    seen = follow(page, None)["seen"]
    wide = next(name for name in sizes.name("", "")["choices"] if name.startswith("Wide"))
    switch(manager, lightning)
    now = follow(page, seen, size=wide, sides=("44", "24"))
    assert (now["width"], now["height"], now["size"]["value"]) == ("", "", "The model's own: 64 × 64")
    assert len(said) == 1
    assert wide in said[0]
    kept = follow(page, seen, size=CUSTOM_SIZE, sides=("48", "72"))
    assert "width" not in kept
    assert kept["size"]["value"] == CUSTOM_SIZE


def test_a_stale_size_that_is_chosen_all_the_same_is_said(
    manager: ModelManager, lightning: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", said.append)
    sizes = Sizes(manager)
    old = sizes.name("", "")["choices"]
    switch(manager, lightning)
    width, height, choice = sizes.take(old[1], "", "")
    assert (width, height) == (gr.skip(), gr.skip())
    assert "is no size of the model that is there now" in said[0]
    assert not set(old) & set(choice["choices"])
    new = choice["choices"][1]
    assert [int(side) for side in sizes.take(new, "", "")[:2]] == [
        int(part) for part in new.split(": ")[1].split(" × ")
    ]


def test_examples_are_told_as_a_few_step_model_wants_it(manager: ModelManager, lightning: Path):
    handlers = Handlers(manager)
    assert dict(zip(FORM, _within(handlers, EXAMPLES[0]), strict=True))["steps"] == Settings.steps
    switch(manager, lightning)
    values = dict(zip(FORM, _within(handlers, EXAMPLES[0]), strict=True))
    assert (values["steps"], values["guidance"], values["spacing"]) == (2, 0.0, "trailing")


def test_a_recipe_is_within_the_limits(lightning: Path):
    recipe = ModelRequest("hyper-8step.safetensors").recipe
    assert own_values(recipe, Limits(steps=4))["steps"] == 4
    assert "steps 4," in few_steps(recipe, Limits(steps=4))
    assert few_steps(None, Limits()) == ""


def test_pages_look_for_another_model_where_one_can_be_chosen():
    def timers(demo: gr.Blocks) -> int:
        return sum(isinstance(block, gr.Timer) for block in demo.blocks.values())

    assert (timers(create_demo()), timers(create_demo(may_switch=False))) == (1, 0)
