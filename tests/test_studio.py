"""The studio without a browser: the form, the worker and the handlers, on a tiny real model."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageChops

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.metadata import read_frame, read_story_json
from consistory_svd.models.model import BY_FLAG
from consistory_svd.presets import PRESETS
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import create_demo
from consistory_svd.studio import html as view
from consistory_svd.studio.examples import EXAMPLES
from consistory_svd.studio.form import anchor_note, error_text, fill, parse, suggest_concept
from consistory_svd.studio.generated_story import GenerationRequest, Picture
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import Progress
from consistory_svd.studio.tabs.story import StoryTab
from tests.studio_form import SCENES, form
from tests.visitors import ANN, BEN, last, make_story_tab

STORY = Story("a cat", SCENES)
QUICK = Settings(steps=2, anchors=1, batch=1)
ENDLESS = replace(QUICK, steps=200)
SECONDS = 120.0


@pytest.fixture
def begin_run(manager: ModelManager, tmp_path: Path) -> Iterator[Callable[[Settings], GenerationJob]]:
    runs: list[GenerationJob] = []

    def begin(settings: Settings) -> GenerationJob:
        run = GenerationJob(manager, GenerationRequest(STORY, settings, tmp_path))
        runs.append(run)
        run.start()
        return run

    yield begin
    for run in runs:
        run.stop()
        assert run.join(SECONDS)


def wait_for(run: GenerationJob, condition: Callable[[Progress], bool]) -> Progress:
    return next(progress for progress in run.watch() if condition(progress))


# -- the form --------------------------------------------------------------------------------------------


def test_the_form_becomes_a_story_and_settings():
    story, settings = parse(
        form(subject=" a cat ", scenes=" in the forest \n\n on the beach\n", concept="cat, beach", seed=7.0)
    )
    assert story == Story("a cat", ("in the forest", "on the beach"), concepts=("cat", "beach"), seed=7)
    assert settings == Settings(steps=2, anchors=1, guidance=5.0)


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"subject": "  "}, "Subject"),
        ({"subject": None}, "Subject"),
        ({"scenes": "\n \n"}, "Scenes"),
        ({"concept": "teapot"}, "Concept words"),
        ({"anchors": 17}, "Anchors"),
        ({"anchors": 1.5}, "Anchors"),
        ({"steps": 100_000}, "Steps"),
        ({"steps": None}, "Steps"),
        ({"steps": float("nan")}, "Steps"),
        ({"guidance": float("inf")}, "Guidance"),
        ({"guidance": "much"}, "Guidance"),
        ({"mask_dropout": -0.1}, "Mask dropout"),
        ({"seed": -1}, "Seed"),
        ({"sdsa": "yes"}, "Shared attention (SDSA)"),
        ({"style": 3}, "Style"),
        ({"scenes": [{"text": "a", "seed": "x"}]}, "Scene seeds"),
        ({"scenes": [{"text": "a", "seed": 1.5}]}, "Scene seeds"),
        ({"scenes": [{"text": text, "seed": 7} for text in "ab"]}, "Scene seeds"),
        ({"scenes": ["in the snow"]}, "Scenes"),
        ({"scenes": [{"text": 3}]}, "Scenes"),
        ({"width": "wide"}, "Width"),
        ({"height": 100.5}, "Height"),
        ({"height": "100"}, "Height"),
        ({"batch": 0}, "Batch size"),
        ({"negative": "x" * 5000}, "Negative prompt"),
        ({"k_keep": "most"}, "K keep"),
        ({"k_keep": ["count"]}, "K keep"),
        ({"k_keep": "quantile", "k_quantile": 0}, "K ratio"),
        ({"k_keep": "quantile", "k_quantile": None}, "K ratio"),
        ({"k_keep": "energy", "k_energy": 1}, "K energy"),
        ({"k_keep": "count", "k_count": 2.5}, "K count"),
        ({"k_reweight": "sqrt"}, "K reweighting"),
        ({"k_reweight": "exp", "k_alpha": -1}, "K alpha"),
        ({"v_as_k": None}, "Filter V like K"),
        ({"v_as_k": False, "v_keep": "count", "v_count": 0}, "V count"),
        ({"v_as_k": False, "v_reweight": "exp", "v_alpha": "a"}, "V alpha"),
    ],
    ids=str,
)
def test_a_refusal_names_the_field_as_it_is_called_on_the_page(changes: dict[str, Any], label: str):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the label is looked at below
        parse(form(**changes))
    assert error_text(refusal.value).startswith(f"{label} must be ")


@pytest.mark.parametrize(
    ("changes", "anchors", "said"),
    [
        ({"scenes": "in the snow", "anchors": 2}, 1, "1 anchor, because the story has 1 scene"),
        ({"anchors": 16}, 3, "3 anchors, because the story has 3 scenes"),
        ({"anchors": 3}, 3, ""),
        ({"anchors": 16, "random_anchors": True}, 16, ""),
        ({"anchors": 16, "sdsa": False}, 16, ""),
    ],
    ids=str,
)
def test_a_short_story_has_anchor_note(changes: dict[str, Any], anchors: int, said: str):
    story, settings = parse(form(**changes))
    assert settings.anchors == anchors
    assert anchor_note(changes["anchors"], story, settings) == said


def test_story_of_one_scene_is_generated_with_a_note(story_tab: StoryTab):
    status = last(story_tab.generate(ANN, **form(scenes="in the snow", anchors=2)), story_tab.status)
    assert "1 image in " in status
    assert "Note: 1 anchor, because the story has 1 scene." in status


def test_the_concept_is_suggested_until_the_visitor_writes_one(story_tab: StoryTab):
    concept, suggested = story_tab.form["concept"], story_tab.suggested
    for before in ("cat", ""):
        updates = story_tab.suggest("a fluffy red fox with a hat", before, "cat")
        assert updates == {concept: "fox", suggested: "fox"}
    assert story_tab.suggest("a fox and a hat", "hat", "fox") == gr.skip()
    assert suggest_concept("a ") == ""


@pytest.mark.parametrize("name", PRESETS)
def test_the_form_is_read_as_it_was_filled(name: str):
    scenes = (SCENES[0], (SCENES[1], 91), (SCENES[2], 0))
    story = Story("a cat", scenes, concepts=("cat", "forest"), negative="fog", seed=7)
    settings = replace(PRESETS[name], steps=12, width=64, batch=2, scheduler="ddim")
    assert parse(fill(story, settings)) == (story, settings)


@pytest.mark.parametrize(
    ("rows", "seeds"),
    [
        ([("in a city", "91"), (" ", 5), ("in the snow", None)], [91, None]),
        ([("in a city", ""), ("in the snow", 7)], [None, 7]),
    ],
)
def test_a_scene_is_a_text_and_its_seed(rows: list[tuple[str, Any]], seeds: list[int | None]):
    story, _ = parse(form(scenes=[{"text": text, "seed": seed} for text, seed in rows]))
    assert list(story.scene_texts) == [text for text, _ in rows if text.strip()]
    assert [scene.seed for scene in story.scenes] == seeds


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_every_example_is_valid(example):
    story, _ = parse(fill(example.story, Settings()))
    assert story == example.story
    assert story.concept_words == (suggest_concept(story.subject),)


# -- the worker ------------------------------------------------------------------------------------------


def test_a_run_keeps_pictures_that_know_how_they_were_made(begin_run, tmp_path: Path):
    run = begin_run(QUICK)
    seen = list(run.watch())
    shares = [progress.share for progress in seen]
    assert seen[-1].state == "done"
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [picture.prompt for picture in seen[-1].pictures] == list(STORY.prompts)
    record = read_frame(seen[-1].pictures[1].path)
    assert (record.story, record.settings, record.seed) == (STORY, QUICK, STORY.frame_seeds[1])
    generated = read_story_json(tmp_path)
    assert generated.pictures == tuple(picture.path.name for picture in seen[-1].pictures)


def test_a_stopped_run_keeps_its_pictures_and_frees_the_model(
    begin_run, manager: ModelManager, tmp_path: Path
):
    run = begin_run(ENDLESS)
    wait_for(run, lambda progress: len(progress.pictures) == 1)
    run.stop()
    ended = wait_for(run, lambda progress: progress.over)
    assert ended.state == "stopped"
    assert len(ended.pictures) == 1
    assert ended.pictures[0].path.is_file()
    assert len(read_story_json(tmp_path).pictures) == 1
    assert run.join(SECONDS)
    assert not manager.model.lock.locked()


def test_a_run_stops_within_two_steps(begin_run):
    run = begin_run(ENDLESS)
    wait_for(run, lambda progress: progress.step >= 3)
    run.stop()
    stopped_at = run.progress.step
    assert wait_for(run, lambda progress: progress.over).step <= stopped_at + 2


def test_failed_run_shows_the_reason_and_keeps_its_images(begin_run, tmp_path: Path):
    (tmp_path / "mask-02.png").mkdir()  # the second picture's mask cannot be written there
    ended = wait_for(begin_run(QUICK), lambda progress: progress.over)
    assert ended.state == "failed"
    assert "mask-02.png" in ended.error
    assert [picture.path.name for picture in ended.pictures] == ["frame-01.png"]


def test_run_marks_the_subject_and_reports_its_passes(begin_run):
    seen = list(begin_run(replace(QUICK, injection=True, steps=12)).watch())
    assert any(progress.first_pass for progress in seen)
    assert not seen[-1].first_pass
    for picture in seen[-1].pictures:
        with Image.open(picture.path) as image, Image.open(picture.marked()) as marked:
            assert image.size == marked.size
            assert ImageChops.difference(image, marked).getbbox() is not None
    plain = list(begin_run(replace(QUICK, sdsa=False)).watch())[-1]
    assert [picture.marked() for picture in plain.pictures] == [picture.path for picture in plain.pictures]


def test_a_run_repeats_its_snapshot_while_a_step_is_long(begin_run, manager: ModelManager):
    with manager.model.lock:  # the model is busy elsewhere: nothing can change
        snapshots = begin_run(QUICK).watch(tick=0.01)
        assert [next(snapshots).state for _ in range(4)][-2:] == ["waiting", "waiting"]


# -- the model -------------------------------------------------------------------------------------------


def test_page_shows_why_a_model_could_not_be_loaded(tmp_path: Path):
    model = make_story_tab(ModelManager(str(tmp_path), "cpu")).model
    said = [update[model.line] for update in model.wait_for_model() if model.line in update]
    assert "loading" in said[0]
    assert 'role="alert"' in said[-1]
    assert "model_index.json" in said[-1]


def test_story_without_a_model_shows_the_loading_error(tmp_path: Path):
    story_tab = make_story_tab(ModelManager(str(tmp_path), "cpu"))
    status = last(story_tab.generate(ANN, **form()), story_tab.status)
    assert 'role="alert"' in status
    assert "model_index.json" in status


def test_page_shows_the_model_in_use(story_tab: StoryTab, manager: ModelManager):
    page = story_tab.model
    *_, updates = page.wait_for_model()
    assert manager.model.describe() in updates[page.line]
    assert updates[page.words_part]["visible"] is bool(manager.model.vocabulary)
    assert updates[page.words].count("<dt>") == len(manager.model.vocabulary)


def test_status_shows_the_first_pass_and_settings_without_effect():
    progress = Progress("generating", 4, last_frame=2, step=12, steps=30, first_pass=True)
    assert "step 12 of 30 of the first pass" in view.status(progress)
    done = Progress("done", 1, notes=("freeu: <nothing>",))
    assert "Note: freeu: &lt;nothing&gt;." in view.status(done)


def test_memory_is_one_short_line_and_the_rest_is_folded():
    progress = Progress("generating", 4, memory="Fits in memory", details="<long>.")
    said = view.status(progress)
    assert "<summary>Fits in memory</summary><p>&lt;long&gt;.</p></details>" in said
    later = view.status(replace(progress, seconds_left=75.0, notes=("a note",)))
    assert later.index("Note: a note.") < later.index("<details"), "notes are not folded"
    assert "<details" not in view.status(replace(progress, memory="", details=""))


# -- the handlers ----------------------------------------------------------------------------------------


def test_generate_takes_the_form_and_fills_in_the_concept(story_tab: StoryTab):
    generation = story_tab.generate(ANN, **form(subject="a red fox"))
    updates = next(generation)
    assert updates[story_tab.form["concept"]] == "fox"
    assert story_tab.form["seed"] not in updates
    assert not updates[story_tab.generate_button]["interactive"]
    assert updates[story_tab.cancel_button]["interactive"]
    assert "3 images in " in last(generation, story_tab.status)
    assert story_tab.services.sessions.story_of(ANN).story.concepts == ("fox",)


def test_an_unlocked_seed_is_new_for_every_run(story_tab: StoryTab):
    scenes = [{"text": text, "seed": 91 if text == SCENES[0] else None} for text in SCENES]
    generation = story_tab.generate(ANN, **form(locked=False, scenes=scenes, seed=0))
    updates = next(generation)
    assert [row["seed"] for row in updates[story_tab.form["scenes"]]] == [None] * 3
    story = story_tab.services.sessions.story_of(ANN).story
    assert story.seed == updates[story_tab.form["seed"]] != 0
    assert all(scene.seed is None for scene in story.scenes)
    generation.close()


def test_generate_refuses_in_the_status_area_and_as_an_error(story_tab: StoryTab):
    generation = story_tab.generate(ANN, **form(subject="", concept=""))
    updates = next(generation)
    assert list(updates) == [story_tab.status]
    assert 'role="alert"' in updates[story_tab.status]
    assert "Subject must be " in updates[story_tab.status]
    with pytest.raises(gr.Error, match="Subject must be ") as refusal:
        next(generation)
    assert not refusal.value.visible  # the status area shows it
    assert story_tab.services.sessions.story_of(ANN) is None


def test_second_visitor_waits(story_tab: StoryTab):
    first = story_tab.generate(ANN, **form(steps=200))
    next(update for update in first if "step " in update.get(story_tab.status, ""))
    second = story_tab.generate(BEN, **form())
    said = next(update for update in second if "ahead of you" in update.get(story_tab.status, ""))
    assert "1 job ahead of you" in said[story_tab.status]
    first.close()
    second.close()


def test_generate_sends_each_picture_once_and_ends_with_the_time(story_tab: StoryTab):
    updates = list(story_tab.generate(ANN, **form()))
    galleries = [update[story_tab.pictures] for update in updates if story_tab.pictures in update]
    assert galleries[0] == []
    made = [tuple(item for item in pictures if "being generated" not in item[1]) for pictures in galleries]
    assert [len(pictures) for pictures in made] == sorted(len(pictures) for pictures in made)
    assert galleries[-1] == list(made[-1])
    assert [caption for _, caption in galleries[-1]] == list(SCENES)
    assert all(Path(path).is_file() for path, _ in galleries[-1])
    said = [update[story_tab.status] for update in updates if story_tab.status in update]
    assert "3 images in " in said[-1]
    assert any("of 3, step " in status for status in said)
    ended = story_tab.finish([], ANN)
    assert ended[story_tab.generate_button]["interactive"]
    assert ended[story_tab.continue_panel.part]["visible"]


def test_cancel_keeps_the_images_and_shows_their_number(story_tab: StoryTab):
    generation = story_tab.generate(ANN, **form(anchors=1, steps=40))
    drawn = (update.get(story_tab.pictures, ()) for update in generation)
    next(made for made in drawn if any("being generated" not in text for _, text in made))
    updates = list(story_tab.cancel(ANN))[-1]
    assert "Stopped. 1 of 3 images kept." in updates[story_tab.status]
    assert [caption for _, caption in updates[story_tab.pictures]] == [SCENES[0]]


def test_an_abandoned_story_frees_the_model(story_tab: StoryTab, manager: ModelManager):
    generation = story_tab.generate(ANN, **form(steps=200))
    next(update for update in generation if "step " in update.get(story_tab.status, ""))
    generation.close()
    assert manager.model.lock.acquire(timeout=SECONDS)
    manager.model.lock.release()


def test_leaving_removes_the_visitors_files_alone(story_tab: StoryTab):
    made = {
        visitor.session_hash: last(story_tab.generate(visitor, **form()), story_tab.pictures)
        for visitor in (ANN, BEN)
    }
    story_tab.services.leave(ANN)
    assert not any(Path(path).exists() for path, _ in made["ann"])
    assert all(Path(path).exists() for path, _ in made["ben"])


# -- what the page says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "last", "said"),
    [
        (0, 2, "Images 1–2 of 4"),
        (2, 4, "Images 3–4 of 4"),
        (3, 4, "Image 4 of 4"),
        (1, 2, "Image 2 of 4"),
    ],
)
def test_progress_has_images_step_and_time_left(made: int, last: int, said: str):
    pictures = tuple(Picture(Path(f"{number}.png"), number, "", "") for number in range(made))
    progress = Progress(
        "generating",
        4,
        last_frame=last,
        step=12,
        steps=30,
        share=0.4,
        seconds_left=75.0,
        pictures=pictures,
    )
    assert f"{said}, step 12 of 30" in view.status(progress)
    assert "About 1 min 15 s left" in view.status(progress)
    assert 'aria-valuenow="40"' in view.status(progress)


def test_the_page_names_its_box_and_not_the_flag():
    manager = ModelManager("storybook", "cpu")
    manager._model = SimpleNamespace(describe=lambda: f"a model. Chosen because of that{BY_FLAG}.")
    assert manager.description == "a model. Chosen because of that; “Use another model” takes another."
    manager.may_switch = False  # the box is not there
    assert manager.description == "a model. Chosen because of that."


def test_what_visitors_wrote_is_escaped():
    assert "<b>" not in view.status(Progress("done", 1, subject='<b>"'))
    assert "<b>" not in view.alert("subject must be text, got '<b>'")
    assert "<b>" not in view.word_groups({"<b>": ["<b>"]})


def test_api_has_the_documented_endpoints_alone():
    assert set(create_demo().get_api_info()["named_endpoints"]) == {"/generate", "/compare", "/score"}
