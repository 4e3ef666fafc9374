"""Another model is chosen: the old one is freed first, stories are waited for, errors are said."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest

from consistory_svd import Finished, Settings, Story, generate
from consistory_svd.limits import Limits
from consistory_svd.metadata import read_frame
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.models.few_step import few_step_model_for
from consistory_svd.models.request import ModelRequest, with_recipe
from consistory_svd.studio.comparison import Comparison, Row, rows_for
from consistory_svd.studio.generated_story import GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from tests.lora_files import write_lora
from tests.visitors import make_story_tab

STORY = Story("a fox", ("in the forest", "on the beach"))


@pytest.fixture
def manager(tiny_folder: Path) -> ModelManager:
    manager = ModelManager(str(tiny_folder), "cpu")
    manager.start()
    assert manager.wait(120)
    return manager


def test_the_old_model_is_freed_before_the_new_one_is_loaded(
    manager: ModelManager, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = weakref.ref(manager.model.pipe)
    load, there = ModelRequest.load, []

    def watched(self: ModelRequest, *given: object) -> object:
        gc.collect()
        there.append(old() is not None)
        return load(self, *given)

    monkeypatch.setattr(ModelRequest, "load", watched)
    manager.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
    assert manager.wait(120)
    assert there == [False]
    assert manager.model.name == "sdxl"
    assert (manager.error, manager.last_error) == ("", "")
    assert isinstance(list(generate(manager.model, STORY, Settings(steps=2)))[-1], Finished)


def test_a_story_that_runs_is_waited_for(
    manager: ModelManager, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, lock, locked = ModelRequest.load, manager.model.lock, []

    def watched(self: ModelRequest, *given: object) -> object:
        locked.append(lock.locked() and not finished)
        return load(self, *given)

    monkeypatch.setattr(ModelRequest, "load", watched)
    finished: list[Finished] = []
    events = generate(manager.model, STORY, Settings(steps=3))
    next(events)  # holds the lock from here
    manager.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
    assert not manager.wait(0.3)  # long enough for a load that does not wait to be seen
    finished += [event for event in events if isinstance(event, Finished)]
    assert len(finished) == 1
    assert manager.wait(120)
    assert locked == [False]
    assert manager.model.name == "sdxl"


def test_loading_error_is_shown_and_the_old_model_restored(manager: ModelManager, tmp_path: Path) -> None:
    said = []
    with pytest.raises(gr.Error, match="does not exist"):
        said.extend(iter(load_chosen_into(said, manager, str(tmp_path / "nowhere.safetensors"))))
    assert "does not exist" in said[-1]
    assert "The previous model is in use again" in said[-1]
    assert 'role="alert"' in said[-1]
    assert manager.model.name == "small"
    assert manager.error == ""


def load_chosen_into(
    said: list[str], manager: ModelManager, source: str, loras: str = "", memory: str = "auto"
):
    for line in make_story_tab(manager).model.load_model(source, loras, memory):
        if isinstance(line, str):
            said.append(line)
    return said


def test_a_visitor_chooses_a_model_with_a_lora(
    manager: ModelManager, tiny_folder: Path, tmp_path: Path
) -> None:
    lora = write_lora(tmp_path / "toys_lightning_4step.safetensors", manager.model)
    said = load_chosen_into([], manager, str(tiny_folder), f"{lora}:0.5\n", "one-by-one")
    assert "Lightning needs few steps: the form starts with steps 4, guidance 0, scheduler euler" in said[-1]
    assert manager.model.loras[0].weight == 0.5
    assert manager.model.memory == "one-by-one"
    assert "toys_lightning_4step:0.5" in manager.model.describe()


@pytest.mark.parametrize(
    ("source", "loras", "memory", "words"),
    [
        ("", "", "auto", "model must be a Hub ID, a folder or a file"),
        (None, "", "auto", "model must be a Hub ID, a folder or a file"),
        (7, "", "auto", "model must be text, got 7"),
        ("storybook", "x.safetensors:much", "auto", "lora must be FILE, or FILE:WEIGHT"),
        ("storybook", "", "tiny", "memory must be one of"),
    ],
)
def test_wrong_requests_are_refused_before_memory_is_freed(
    source: object, loras: object, memory: object, words: str, manager: ModelManager
) -> None:
    model = manager.model
    with pytest.raises(gr.Error, match=words):
        list(make_story_tab(manager).model.load_model(source, loras, memory))
    assert manager.model is model
    assert not model.placement.retired


@pytest.mark.parametrize("there", [True, False])
def test_shared_demo_keeps_its_model_and_reveals_no_file(
    tiny_folder: Path, tmp_path: Path, there: bool
) -> None:
    manager = ModelManager(str(tiny_folder), "cpu", may_switch=False)
    file = tmp_path / "a:file"
    if there:
        file.write_text("")
    with pytest.raises(gr.Error, match="cannot be chosen here, because this page is shared"):
        list(make_story_tab(manager).model.load_model("storybook", str(file), "auto"))
    assert manager.requested.source == str(tiny_folder)


def test_two_wishes_at_once_are_one_too_many(manager: ModelManager, tiny_folder: Path) -> None:
    held = threading.Lock()
    with manager.model.lock, held:
        manager.switch(ModelRequest(str(tiny_folder), "cpu"))
        with pytest.raises(ValueError, match=r"^model: one is being loaded already"):
            manager.switch(ModelRequest(str(tiny_folder), "cpu"))
    assert manager.wait(120)
    assert manager.model.name == "small"


def test_a_recipe_fills_only_what_nobody_gave() -> None:
    taken, said = with_recipe(few_step_model_for("sdxl_lightning_4step"), {"steps": 6})
    assert taken == {"guidance": 0.0, "scheduler": "euler", "spacing": "trailing"}
    assert said.startswith("Lightning is made for few steps: using guidance 0.0")
    assert with_recipe(None, {}) == ({}, "")


# -- the line --------------------------------------------------------------------------------------------


QUICK = Settings(steps=2, anchors=1, batch=1)
SECONDS = 120.0


def made_by(run: GenerationJob) -> set[str]:
    return {read_frame(picture.path).model for picture in run.progress.pictures}


def test_waiting_stories_use_the_model_they_were_requested_with(
    manager: ModelManager, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    runs = [
        GenerationJob(manager, GenerationRequest(STORY, QUICK, tmp_path / str(number))) for number in range(3)
    ]
    with manager.model.lock:  # the first is held up, as by a long step
        for run in runs[:2]:
            run.start()
        manager.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
        runs[2].start()
        assert not manager.wait(0.3)
        assert manager.loaded, "the old model is there until its stories are told"
        waiting = next(now for now in runs[2].watch() if now.jobs_ahead)
        assert waiting.jobs_ahead == 2, "the switch is no story"
    for run in runs:
        assert run.join(SECONDS)
        assert (run.progress.state, run.progress.error) == ("done", "")
    assert [made_by(run) for run in runs] == [{"small"}, {"small"}, {"sdxl"}]


def test_story_that_does_not_fit_a_new_model_is_refused_with_the_reason(
    manager: ModelManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far = Story(
        f"a {' '.join(['red'] * 60)} fox", ("in the forest", "on the beach")
    )  # 66 tokens, 77 are read
    run = GenerationJob(manager, GenerationRequest(far, QUICK, tmp_path / "told"))
    with manager.model.lock:
        manager.switch(ModelRequest("storybook", "cpu"))  # which reads 48
        run.start()
    assert run.join(SECONDS)
    assert run.progress.state == "failed"
    assert "The story could not be generated: subject: the prompts are truncated" in run.progress.error
    assert "Traceback" not in caplog.text


def folders_in(folder: Path) -> Callable[[str], Path]:
    """What makes the folder of a row."""

    def new_folder(row: str) -> Path:
        (made := folder / row).mkdir()
        return made

    return new_folder


def test_a_comparison_ends_where_another_model_comes_and_keeps_its_rows(
    manager: ModelManager, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    rows = rows_for(STORY, QUICK, [Row("a", Settings(sdsa=False)), Row("b", Settings())], Limits())
    comparison = Comparison(manager, STORY, rows, folders_in(tmp_path), ScoreSettings())
    snapshots = comparison.watch()
    next(now for now in snapshots if now.current and now.current.state == "done")
    manager.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
    *_, last = snapshots
    assert (last.at, last.current.state, last.over) == (1, "failed", True)
    assert "Another model was loaded meanwhile" in last.current.error
    assert len(last.rows[0].progress.pictures) == 2
    assert last.rows[0].entries is not None
    assert last.rows[1].progress.pictures == ()


def test_the_same_model_loaded_again_lets_a_comparison_go_on(
    manager: ModelManager, tiny_folder: Path, tmp_path: Path
) -> None:
    rows = rows_for(STORY, QUICK, [Row("a", Settings(sdsa=False)), Row("b", Settings())], Limits())
    snapshots = Comparison(manager, STORY, rows, folders_in(tmp_path), ScoreSettings()).watch()
    next(now for now in snapshots if now.current and now.current.state == "done")
    manager.switch(ModelRequest(str(tiny_folder), "cpu"))
    *_, last = snapshots
    assert [len(generation.progress.pictures) for generation in last.rows] == [2, 2]


def test_the_model_that_is_there_is_not_loaded_again(manager: ModelManager, tiny_folder: Path) -> None:
    model = manager.model
    assert "already loaded" in load_chosen_into([], manager, str(tiny_folder))[-1]
    assert manager.model is model
    assert not model.placement.retired
    assert not manager.has(ModelRequest(str(tiny_folder), "cpu", memory="one-by-one"))


def test_a_model_that_is_asked_for_twice_comes_once(
    manager: ModelManager, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = ModelRequest.load, []
    monkeypatch.setattr(ModelRequest, "load", lambda *given: loaded.append(given[0]) or load(*given))
    with manager.model.lock:
        first = make_story_tab(manager).model.load_model(str(tiny_folders["sdxl"]), "", "auto")
        next(first)
        second = make_story_tab(manager).model.load_model(str(tiny_folders["sdxl"]), "", "auto")
        assert 'role="alert"' not in next(second)
        with pytest.raises(gr.Error, match="one is being loaded already"):
            list(make_story_tab(manager).model.load_model("storybook", "", "auto"))
    assert ["Loaded." in list(line)[-1] for line in (first, second)] == [True, True]
    assert len(loaded) == 1


def test_the_models_of_the_machines_own_choice_are_known_by_their_names() -> None:
    manager = ModelManager(None, "cpu")
    assert not manager.has(ModelRequest("storybook", "cpu"))
    manager.start()
    assert manager.wait(SECONDS)
    assert manager.has(ModelRequest("storybook", "cpu"))


def test_a_mistyped_name_is_one_line_of_the_log(
    manager: ModelManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        manager.switch(ModelRequest(str(tmp_path / "nowhere.safetensors"), "cpu"))
        assert manager.wait(SECONDS)
    assert "does not exist" in manager.last_error
    (record,) = [record for record in caplog.records if record.name == "consistory_svd.studio.model_manager"]
    assert record.exc_info is None
    assert "\n" not in record.getMessage()
    assert "does not exist" in record.getMessage()


def test_a_fault_of_ours_keeps_its_traceback(
    manager: ModelManager, tiny_folders: dict[str, Path], caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    load = ModelRequest.load

    def faulty(self: ModelRequest, *given: object) -> object:
        if "sdxl" in self.source:
            raise KeyError("weights")
        return load(self, *given)

    monkeypatch.setattr(ModelRequest, "load", faulty)
    manager.switch(ModelRequest(str(tiny_folders["sdxl"]), "cpu"))
    assert manager.wait(SECONDS)
    assert "Traceback" in caplog.text
