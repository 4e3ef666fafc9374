"""Another model is chosen: the old one is freed first, stories are waited for, errors are said."""

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest

from consistory_svd import Finished, Settings, Story, tell
from consistory_svd.limits import Limits
from consistory_svd.loading import ModelRequest, with_recipe
from consistory_svd.record import read_frame
from consistory_svd.schedulers import recipe_for
from consistory_svd.scores import ScoreSettings
from consistory_svd.studio.comparing import Comparison, compared
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.model_choice import load_chosen
from consistory_svd.studio.recipes import Row
from consistory_svd.studio.worker import StoryRun
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
    assert (
        "Lightning is made for few steps: the form begins with steps 4, guidance 0, scheduler euler"
        in said[-1]
    )
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


@pytest.mark.parametrize("there", [True, False])
def test_a_shared_demo_keeps_its_model_and_tells_of_no_file(
    tiny_folder: Path, tmp_path: Path, there: bool
) -> None:
    engine = Engine(str(tiny_folder), "cpu", may_switch=False)
    file = tmp_path / "a:file"
    if there:
        file.write_text("")
    with pytest.raises(gr.Error, match="cannot be chosen here, because this page is shared"):
        list(load_chosen(engine, "storybook", str(file), "auto"))
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


# -- the line --------------------------------------------------------------------------------------------


QUICK = Settings(steps=2, anchors=1, batch=1)
SECONDS = 120.0


def made_by(run: StoryRun) -> set[str]:
    return {read_frame(picture.path).model for picture in run.progress.pictures}


def test_stories_that_wait_are_told_by_the_model_that_they_were_asked_of(
    engine: Engine, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    runs = [StoryRun(engine, STORY, QUICK, tmp_path / str(number)) for number in range(3)]
    with engine.model.lock:  # the first is held up, as by a long step
        for run in runs[:2]:
            run.start()
        engine.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
        runs[2].start()
        assert not engine.wait(0.3)
        assert engine.loaded, "the old model is there until its stories are told"
        waiting = next(now for now in runs[2].watch() if now.before)
        assert waiting.before == 2, "the switch is no story"
    for run in runs:
        assert run.join(SECONDS)
        assert (run.progress.stage, run.progress.error) == ("done", "")
    assert [made_by(run) for run in runs] == [{"small"}, {"small"}, {"sdxl"}]


def test_a_story_that_does_not_fit_the_model_that_came_is_refused_in_words(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far = Story(
        f"a {' '.join(['red'] * 60)} fox", ("in the forest", "on the beach")
    )  # 66 tokens, 77 are read
    run = StoryRun(engine, far, QUICK, tmp_path / "told")
    with engine.model.lock:
        engine.switch(ModelRequest("storybook", "cpu"))  # which reads 48
        run.start()
    assert run.join(SECONDS)
    assert run.progress.stage == "failed"
    assert "The story could not be told: subject: 'fox' comes too late" in run.progress.error
    assert "Traceback" not in caplog.text


def folders_in(folder: Path) -> Callable[[str], Path]:
    """What makes the folder of a row."""

    def new_folder(row: str) -> Path:
        (made := folder / row).mkdir()
        return made

    return new_folder


def test_a_comparison_ends_where_another_model_comes_and_keeps_its_rows(
    engine: Engine, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    rows = compared(STORY, QUICK, [Row("a", Settings(sdsa=False)), Row("b", Settings())], Limits())
    comparison = Comparison(engine, STORY, rows, folders_in(tmp_path), ScoreSettings())
    snapshots = comparison.watch()
    next(now for now in snapshots if now.current and now.current.stage == "done")
    engine.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
    *_, last = snapshots
    assert (last.at, last.current.stage, last.over) == (1, "failed", True)
    assert "Another model was loaded meanwhile" in last.current.error
    assert len(last.tellings[0].progress.pictures) == 2
    assert last.tellings[0].entries is not None
    assert last.tellings[1].progress.pictures == ()


def test_the_same_model_loaded_again_lets_a_comparison_go_on(
    engine: Engine, tiny_folder: Path, tmp_path: Path
) -> None:
    rows = compared(STORY, QUICK, [Row("a", Settings(sdsa=False)), Row("b", Settings())], Limits())
    snapshots = Comparison(engine, STORY, rows, folders_in(tmp_path), ScoreSettings()).watch()
    next(now for now in snapshots if now.current and now.current.stage == "done")
    engine.switch(ModelRequest(str(tiny_folder), "cpu"))
    *_, last = snapshots
    assert [len(telling.progress.pictures) for telling in last.tellings] == [2, 2]


def test_the_model_that_is_there_is_not_loaded_again(engine: Engine, tiny_folder: Path) -> None:
    model = engine.model
    assert "loaded already; nothing was changed" in load_chosen_into([], engine, str(tiny_folder))[-1]
    assert engine.model is model
    assert not model.placement.retired
    assert not engine.has(ModelRequest(str(tiny_folder), "cpu", memory="one-by-one"))


def test_a_model_that_is_asked_for_twice_comes_once(
    engine: Engine, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = ModelRequest.load, []
    monkeypatch.setattr(ModelRequest, "load", lambda *given: loaded.append(given[0]) or load(*given))
    with engine.model.lock:
        first = load_chosen(engine, str(tiny_folders["sdxl"]), "", "auto")
        next(first)
        second = load_chosen(engine, str(tiny_folders["sdxl"]), "", "auto")
        assert 'role="alert"' not in next(second)
        with pytest.raises(gr.Error, match="one is being loaded already"):
            list(load_chosen(engine, "storybook", "", "auto"))
    assert ["Loaded." in list(line)[-1] for line in (first, second)] == [True, True]
    assert len(loaded) == 1


def test_the_models_of_the_machines_own_choice_are_known_by_their_names() -> None:
    engine = Engine(None, "cpu")
    assert not engine.has(ModelRequest("storybook", "cpu"))
    engine.start()
    assert engine.wait(SECONDS)
    assert engine.has(ModelRequest("storybook", "cpu"))


def test_a_mistyped_name_is_one_line_of_the_log(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        engine.switch(ModelRequest(str(tmp_path / "nowhere.safetensors"), "cpu"))
        assert engine.wait(SECONDS)
    assert "is not there" in engine.complaint
    (record,) = [record for record in caplog.records if record.name == "consistory_svd.studio.engine"]
    assert record.exc_info is None
    assert "\n" not in record.getMessage()
    assert "is not there" in record.getMessage()


def test_a_fault_of_ours_keeps_its_traceback(
    engine: Engine, tiny_folders: dict[str, Path], caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    load = ModelRequest.load

    def faulty(self: ModelRequest, *given: object) -> object:
        if "sdxl" in self.source:
            raise KeyError("weights")
        return load(self, *given)

    monkeypatch.setattr(ModelRequest, "load", faulty)
    engine.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
    assert engine.wait(SECONDS)
    assert "Traceback" in caplog.text
