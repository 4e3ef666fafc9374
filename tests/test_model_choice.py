"""Another model is chosen: the old one is freed first, stories are waited for, errors are said."""

import gc
import threading
import time
import weakref
from pathlib import Path

import gradio as gr
import pytest

from consistory_svd import Finished, Settings, Story, tell
from consistory_svd.loading import ModelRequest, with_recipe
from consistory_svd.schedulers import recipe_for
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.model_choice import load_chosen
from tests.test_lora import write_lora

STORY = Story("a fox", ("in the forest", "on the beach"))


@pytest.fixture
def engine(tiny_folder: Path) -> Engine:
    engine = Engine(str(tiny_folder), "cpu")
    engine.start()
    assert engine.wait(120)
    return engine


def test_the_old_model_is_freed_before_the_new_one_is_loaded(
    engine: Engine, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = weakref.ref(engine.model.pipe)
    load, there = ModelRequest.load, []

    def watched(self: ModelRequest, *given: object) -> object:
        gc.collect()
        there.append(old() is not None)
        return load(self, *given)

    monkeypatch.setattr(ModelRequest, "load", watched)
    engine.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
    assert engine.wait(120)
    assert there == [False]
    assert engine.model.name == "sdxl"
    assert (engine.reason, engine.complaint) == ("", "")
    assert isinstance(list(tell(engine.model, STORY, Settings(steps=2)))[-1], Finished)


def test_a_story_that_runs_is_waited_for(engine: Engine, tiny_folders: dict[str, Path]) -> None:
    events = tell(engine.model, STORY, Settings(steps=3))
    next(events)  # holds the lock from here
    engine.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
    time.sleep(0.3)
    assert not engine.loaded
    *_, last = events
    assert isinstance(last, Finished)
    assert engine.wait(120)
    assert engine.model.name == "sdxl"


def test_what_cannot_be_loaded_is_said_and_the_old_model_is_back(engine: Engine, tmp_path: Path) -> None:
    said = []
    with pytest.raises(gr.Error, match="is not there"):
        said.extend(iter(load_chosen_into(said, engine, str(tmp_path / "nowhere.safetensors"))))
    assert "is not there" in said[-1]
    assert "from before is in use again" in said[-1]
    assert 'role="alert"' in said[-1]
    assert engine.model.name == "small"
    assert engine.reason == ""


def load_chosen_into(said: list[str], engine: Engine, source: str, loras: str = "", memory: str = "auto"):
    for line in load_chosen(engine, source, loras, memory):
        if isinstance(line, str):
            said.append(line)
    return said


def test_a_visitor_chooses_a_model_with_a_lora(engine: Engine, tiny_folder: Path, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "toys_lightning_4step.safetensors", engine.model)
    said = load_chosen_into([], engine, str(tiny_folder), f"{lora}:0.5\n", "one-by-one")
    assert said[-1].count("Lightning is made for few steps; set steps 4, guidance 0.0, scheduler euler") == 1
    assert engine.model.loras[0].weight == 0.5
    assert engine.model.memory == "one-by-one"
    assert "toys_lightning_4step:0.5" in engine.model.describe()


@pytest.mark.parametrize(
    ("source", "loras", "memory", "words"),
    [
        ("", "", "auto", "model: it is empty"),
        (None, "", "auto", "model: it is empty"),
        (7, "", "auto", "model: 7 is not allowed"),
        ("storybook", "x.safetensors:much", "auto", "lora: 'x.safetensors:much' is not allowed"),
        ("storybook", "", "tiny", "memory: 'tiny' is not allowed"),
    ],
)
def test_wrong_wishes_are_said_before_anything_is_freed(
    source: object, loras: object, memory: object, words: str, engine: Engine
) -> None:
    model = engine.model
    with pytest.raises(gr.Error, match=words):
        list(load_chosen(engine, source, loras, memory))
    assert engine.model is model
    assert not model.placement.retired


def test_a_shared_demo_keeps_its_model(tiny_folder: Path) -> None:
    engine = Engine(str(tiny_folder), "cpu", may_switch=False)
    with pytest.raises(gr.Error, match="cannot be chosen here, because this page is shared"):
        list(load_chosen(engine, "storybook", "", "auto"))
    assert engine.wanted.source == str(tiny_folder)


def test_two_wishes_at_once_are_one_too_many(engine: Engine, tiny_folder: Path) -> None:
    held = threading.Lock()
    with engine.model.lock, held:
        engine.switch(ModelRequest(str(tiny_folder), "cpu"))
        with pytest.raises(ValueError, match=r"^model: one is being loaded already"):
            engine.switch(ModelRequest(str(tiny_folder), "cpu"))
    assert engine.wait(120)
    assert engine.model.name == "small"


def test_a_recipe_fills_only_what_nobody_gave() -> None:
    taken, said = with_recipe(recipe_for("sdxl_lightning_4step"), {"steps": 6})
    assert taken == {"guidance": 0.0, "scheduler": "euler", "spacing": "trailing"}
    assert said.startswith("Lightning is made for few steps: guidance 0.0")
    assert with_recipe(None, {}) == ({}, "")
