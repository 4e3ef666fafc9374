"""The filter for sexual pictures in the studio: no way leads around it, and nothing starts without it."""

import importlib.util
import json
import os
import pickle
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import huggingface_hub.constants
from gradio_client import Client
from playwright.sync_api import Browser, expect

import app as studio_app
from consistory_svd.cli.options import run as run_flags
from consistory_svd.content_filter import NOTICE, ContentFilter, filtered_image, load_content_filter
from consistory_svd.downloads import CACHE_VARIABLE, DownloadError
from consistory_svd.library import ORDERS, Library
from consistory_svd.limits import FILTER_VARIABLE
from consistory_svd.metadata import read_frame, read_story_json
from consistory_svd.metrics.result import MissingScore, Result
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import compare_html as compare_view
from consistory_svd.studio import create_demo, launch
from consistory_svd.studio import html as view
from consistory_svd.studio.comparison import Row, RowResult, Snapshot
from consistory_svd.studio.generated_story import GenerationRequest, Picture, undo
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import Progress
from consistory_svd.studio.tabs import about as about_tab
from consistory_svd.studio.visitor_storage import VisitorStorage
from tests.browser import STORY_MS, captions, pictures, visit, write_scenes
from tests.classifiers import EVERY, NONE, keep_in_cache, save_classifier, screen_against, screen_of
from tests.packaging_helpers import ROOT, run
from tests.stories import with_seeds
from tests.studio_form import form
from tests.test_compare import PLAIN, SDSA, comparison
from tests.visitors import ANN, last, library_of, make_story_tab

SECONDS = 120.0
SCENES = ("in the forest", "on the beach", "in the snow")
STORY = Story("a cat", SCENES)
QUICK = Settings(steps=4, anchors=1, batch=1)
BLANK = filtered_image((32, 32), "sexual").tobytes()


@pytest.fixture
def content_filter(manager: ModelManager, tmp_path: Path) -> Iterator[Any]:
    """The studio's manager with a screen, which a test says; without one afterwards."""

    def put(bias: float) -> ContentFilter:
        manager.content_filter = screen_of(tmp_path / "net", bias)
        return manager.content_filter

    yield put
    manager.content_filter = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "story").mkdir()
    return folder


def generated(
    manager: ModelManager, folder: Path, settings: Settings = QUICK, story: Story = STORY
) -> GenerationJob:
    return finished(GenerationJob(manager, GenerationRequest(story, settings, folder)))


def finished(run: GenerationJob) -> GenerationJob:
    run.start()
    for progress in run.watch():
        if run._manager.content_filter is not None:
            assert progress.previews == ()
    assert progress.state == "done", progress.error
    return run


def continued(run: GenerationJob, story: Story, *frames: int) -> GenerationJob:
    request = GenerationRequest.continuing(run.generated, story, frames)
    return finished(GenerationJob(run._manager, request))


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def all_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# -- a story of the page -------------------------------------------------------------------------------------


def test_nothing_of_a_sexual_story_reaches_disk_or_page(manager: ModelManager, content_filter, folder: Path):
    content_filter(EVERY)
    run = generated(manager, folder)
    assert all_files(folder) == ["frame-01.png", "frame-02.png", "frame-03.png", "story.json"]
    assert {pixels(path) for path in folder.glob("*.png")} == {BLANK}
    assert list(run._previews.iterdir()) == []
    assert all((one.mask, one.marked()) == (None, one.path) for one in run.progress.pictures)
    record = read_story_json(folder)
    assert record.filtered == ("sexual",) * 3
    assert record.masks == ()
    assert read_frame(folder / "frame-02.png").filtered == "sexual"
    assert read_frame(folder / "frame-02.png").story == STORY, "how to tell it is the visitor's own"
    said = view.status(run.progress)
    assert "Images 1, 2 and 3 were filtered: they were classified as sexual." in said


def test_a_story_without_a_find_is_the_same_byte_for_byte(
    manager: ModelManager, content_filter, tmp_path: Path
):
    folders = [tmp_path / name for name in ("without", "with")]
    for folder in folders:
        folder.mkdir()
    generated(manager, folders[0])
    content_filter(NONE)
    run = generated(manager, folders[1])
    assert all_files(folders[0]) == all_files(folders[1])
    for name in all_files(folders[0]):
        if name.endswith(".png"):
            assert (folders[1] / name).read_bytes() == (folders[0] / name).read_bytes(), name
    one, other = (json.loads((folder / "story.json").read_text()) for folder in folders)
    assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert "filtered:" not in view.status(run.progress)


def test_one_of_three_is_filtered_and_the_others_keep_masks_and_scores(
    manager: ModelManager, content_filter, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no weights"))
    (before := tmp_path / "before").mkdir()
    plain = [Image.open(picture.path) for picture in generated(manager, before).progress.pictures]
    content_filter(NONE)
    manager.content_filter = screen_against(tmp_path / "cut", plain, 1)
    (at,) = [k for k, image in enumerate(plain) if manager.content_filter.is_sexual(image)]
    run = generated(manager, folder)
    assert [picture.frame for picture in run.progress.pictures if picture.filtered] == [at]
    masks = [name for name in all_files(folder) if name.startswith(("mask-", "marked-"))]
    assert len(masks) == 2
    assert not any(f"-{at + 1:02d}" in name for name in masks)
    assert len(read_story_json(folder).masks) == 2
    story_tab = make_story_tab(manager)
    story_tab.services.sessions.of(ANN).show(run.generated)
    panel = story_tab.continue_panel
    assert panel.refresh([], ANN)[panel.picture]["value"] == at, "it is the one to be redone"
    shown = story_tab.show_masks(True, ANN)
    assert [text.endswith("(filtered)") for _, text in shown] == [k == at for k in range(3)]
    *_, card = story_tab.scores.score("ensemble", "noise", ANN)
    assert "1 filtered image is excluded from the scores" in card
    story_tab.services.leave(ANN)


def test_what_is_redone_added_continued_and_taken_back_is_looked_at(
    manager: ModelManager, content_filter, folder: Path
):
    run = generated(manager, folder)
    assert not any(picture.filtered for picture in run.progress.pictures)
    content_filter(EVERY)
    story = with_seeds(STORY, None, 99)
    again = continued(run, story, 1)
    assert [picture.filtered for picture in again.progress.pictures] == ["", "sexual", ""]
    assert pixels(folder / "frame-02-2.png") == BLANK
    assert not list(folder.glob("ma*-02-2.png")), "neither mask nor marked"
    longer = replace(story, scenes=(*SCENES, "in the desert"))
    more = continued(again, longer, 3)
    assert more.progress.pictures[3].filtered == "sexual"
    assert pixels(folder / "frame-04.png") == BLANK
    assert "Images 2 and 4 were filtered" in view.status(more.progress)
    manager.content_filter = None
    third = continued(more, with_seeds(longer, None, 98), 1)
    back = undo(third.generated, 1)
    assert back.pictures[1].filtered == "sexual", "it comes back as it was"


def test_anchors_regenerated_in_the_background_are_not_shown(
    manager: ModelManager, content_filter, folder: Path
):
    run = generated(manager, folder)
    run._generated = replace(run._generated, anchor_cache=None)
    content_filter(EVERY)
    before = all_files(folder)
    again = continued(run, with_seeds(STORY, None, None, 77), 2)
    assert set(all_files(folder)) - set(before) == {"frame-03-2.png"}
    assert again.progress.pictures[2].filtered == "sexual"


def test_failing_filter_hides_images_and_reports_it(manager: ModelManager, content_filter, folder: Path):
    content_filter = content_filter(NONE)
    with torch.no_grad():
        content_filter.model.classifier.weight.fill_(float("nan"))
    run = generated(manager, folder)
    assert {pixels(path) for path in folder.glob("*.png")} == {filtered_image((32, 32), "unseen").tobytes()}
    assert "the content filter failed to check them" in view.status(run.progress)
    assert read_story_json(folder).filtered == ("unseen",) * 3


def test_page_announces_the_content_filter(manager: ModelManager, content_filter):
    story_tab = make_story_tab(manager)
    before = last(story_tab.model.wait_for_model(), story_tab.model.line)
    assert NOTICE not in before
    content_filter(NONE)
    after = last(story_tab.model.wait_for_model(), story_tab.model.line)
    assert NOTICE in after
    assert NOTICE in about_tab.now(manager)


def test_the_library_keeps_shows_and_exports_the_plain_pictures_alone(
    manager: ModelManager, content_filter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no weights"))
    content_filter(EVERY)
    library = Library(tmp_path / "library")
    story_tab = make_story_tab(manager, storage=VisitorStorage(library))
    shown = last(story_tab.generate(ANN, **form()), story_tab.pictures)
    assert {pixels(Path(path)) for path, _ in shown} == {BLANK}
    assert (
        list(story_tab.scores.score("ensemble", "noise", ANN))[-1].count(
            "all images were removed by the content filter"
        )
        == 1
    )
    story_tab.services.leave(ANN)
    tab = library_of(story_tab)
    listed = tab.list_stories("", ORDERS[0], 24, ANN)
    covers, (name,) = listed[tab.stories], listed[tab.names]
    assert all(text.endswith("(filtered)") for _, text in tab.show(name, ANN)[tab.pictures]["value"])
    opened = tab.open(name, ANN)
    assert "Images 1, 2 and 3 were filtered" in opened[story_tab.status]
    assert [text.endswith("(filtered)") for _, text in opened[story_tab.pictures]] == [True] * 3
    assert covers["value"]
    thumbnail = f"thumbnails/{Path(covers['value'][0][0]).name}"
    known = {"frame-01.png", "frame-02.png", "frame-03.png", "story.json", thumbnail}
    assert set(all_files(library.root / name)) == known


def test_a_comparison_goes_through_the_filter(
    manager: ModelManager, content_filter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no weights"))
    content_filter(EVERY)
    (folder := tmp_path / "compared").mkdir()
    *_, last = comparison(manager, folder, PLAIN, SDSA).watch()
    assert last.over
    assert {pixels(path) for path in folder.rglob("*.png")} == {BLANK}
    assert not [name for name in all_files(folder) if "ma" in Path(name).name]
    for generation in last.rows:
        assert generation.entries == (MissingScore("The score", "all of these images were filtered"),)
    assert "plain: Images 1 and 2 were filtered" in compare_view.status(last)
    grid = compare_view.grid(last)
    assert grid.count("(filtered)") == grid.count("<img") * 4


def test_settings_that_lack_different_pictures_are_not_called_better():
    def generation(name: str, value: float, filtered: int | None) -> RowResult:
        made = tuple(
            Picture(Path(f"{k}.png"), k, "prompt", "scene", filtered="sexual" if k == filtered else "")
            for k in range(3)
        )
        score = Result("DreamSim", value, "unit", "higher", "net", "pairs")
        return RowResult(Row(name, QUICK), (), Progress("done", 3, share=1.0, pictures=made), (score,))

    for first, second, called in ((None, None, 1), (1, 1, 1), (1, 2, 0), (None, 0, 0)):
        generated = Snapshot(STORY, (generation("a", 0.4, first), generation("b", 0.6, second)))
        assert compare_view.grid(generated).count('class="best"') == called
        assert ("no row is marked as best" in compare_view.status(generated)) == (not called)


# -- API clients, and the page in a browser ------------------------------------------------------------------


@pytest.fixture(scope="module")
def public(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gr.Blocks]:
    """A studio whose filter takes every picture for sexual."""
    home = tmp_path_factory.mktemp("public")
    os.environ[CACHE_VARIABLE] = str(home / "no weights")
    demo = create_demo(str(tiny_folder), "cpu", content_filter=screen_of(home / "net", EVERY))
    launch(demo, port=None, prevent_thread_lock=True, quiet=True)
    yield demo
    demo.close()
    del os.environ[CACHE_VARIABLE]


def test_api_returns_blank_images_for_filtered_ones(public: gr.Blocks):
    client = Client(public.local_url, verbose=False)
    cat = {"subject": "a cat", "scenes": ["in the forest", "on the beach"], "steps": 4}
    job = client.submit(**cat, preset="sdsa", api_name="/generate")
    files, masks, record = job.result()
    every = {pixels(Path(file)) for files, *_ in job.outputs() for file in files}
    assert every == {BLANK}
    assert len(files) == 2
    assert masks == []
    assert [frame["withheld"] for frame in record["frames"]] == ["sexual"] * 2
    assert "Images 1 and 2 were filtered" in record["status"]
    figure, rows = client.predict(**cat, settings=["plain", "sdsa"], api_name="/compare")
    assert [row["filtered"] for row in rows] == [["sexual"] * 2] * 2
    assert [row["scores"] for row in rows] == [{}, {}]
    assert Path(figure).is_file()


def test_a_visitor_sees_plain_pictures_and_reads_why(browser: Browser, public: gr.Blocks):
    page = visit(browser, public.local_url)
    expect(page.locator("#model")).to_contain_text(NOTICE)
    page.locator("#subject textarea").fill("a cat")
    write_scenes(page, ["in the forest", "on the beach"])
    page.locator("#steps input[type=number]").fill("4")
    page.get_by_role("button", name="Generate").click()
    done = page.locator("#status .note-done")
    expect(done).to_contain_text("Images 1 and 2 were filtered", timeout=STORY_MS)
    expect(done).to_contain_text("Try other seeds or texts")
    expect(pictures(page)).to_have_count(2)
    assert all(text.endswith("(filtered)") for text in captions(page))
    for number in range(2):
        source = pictures(page).nth(number).get_attribute("src")
        saved = page.request.get(source).body()
        (path := Path(os.environ[CACHE_VARIABLE]).with_name(f"{number}.png")).write_bytes(saved)
        assert pixels(path) == BLANK
    expect(page.locator("#scores")).to_contain_text("all images were removed by the content filter")
    page.context.close()


# -- starting it ---------------------------------------------------------------------------------------------


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the start file would launch, without serving it."""
    calls: list[dict] = []
    monkeypatch.setattr("consistory_svd.studio.create_demo", lambda model, **given: given)
    monkeypatch.setattr("consistory_svd.studio.launch", lambda demo, **given: calls.append(demo))
    monkeypatch.delenv(FILTER_VARIABLE, raising=False)
    return calls


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("how", ["missing", "spoilt", "no label"])
def test_without_good_weights_the_studio_does_not_start(
    how: str,
    tmp_path: Path,
    launched: list[dict],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    if how != "missing":
        labels = ("a", "b") if how == "no label" else ("normal", "nsfw")
        kept = keep_in_cache(save_classifier(tmp_path / "net", NONE, labels), tmp_path / "cache")
        if how == "spoilt":
            (kept / "model.safetensors").write_bytes(b"no weights")
    capsys.readouterr()
    port = free_port()
    for asked in (["--hide-sexual-pictures"], []):
        monkeypatch.setenv(FILTER_VARIABLE, "1" if not asked else "")
        assert run_flags(studio_app.app, [*asked, "--port", str(port)]) == 2
        said = capsys.readouterr().err
        assert re.match(r"error: hide-sexual-pictures: .*\n$", said), said
        wanted = (
            "must have a label nsfw" if how == "no label" else "python -m consistory_svd fetch picture-filter"
        )
        assert wanted in said
    assert launched == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_flag_or_the_variable_switches_it_on_and_it_is_off_otherwise(
    tmp_path: Path, launched: list[dict], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    keep_in_cache(save_classifier(tmp_path / "net", EVERY), tmp_path / "cache")
    assert run_flags(studio_app.app, ["--hide-sexual-pictures"]) == 0
    monkeypatch.setenv(FILTER_VARIABLE, "1")
    assert run_flags(studio_app.app, []) == 0
    monkeypatch.setenv(FILTER_VARIABLE, "0")
    assert run_flags(studio_app.app, []) == 0
    monkeypatch.delenv(FILTER_VARIABLE)
    assert run_flags(studio_app.app, []) == 0
    on, also, off, default = (demo["content_filter"] for demo in launched)
    grey = Image.new("RGB", (32, 32), "grey")
    assert on.is_sexual(grey)
    assert also.is_sexual(grey)
    assert off is default is None
    monkeypatch.setenv(FILTER_VARIABLE, "please")
    assert run_flags(studio_app.app, []) == 2
    assert f"{FILTER_VARIABLE} must be 1 or 0, got 'please'" in capsys.readouterr().err


def test_stories_that_were_there_before_are_spoken_of(
    tmp_path: Path, launched: list[dict], monkeypatch: pytest.MonkeyPatch, manager: ModelManager, caplog
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    keep_in_cache(save_classifier(tmp_path / "net", NONE), tmp_path / "cache")
    library = Library(tmp_path / "library")
    generated(manager, library.new("a cat"))
    flags = ["--hide-sexual-pictures", "--library", str(library.root)]
    assert run_flags(studio_app.app, flags) == 0
    assert "not the 1 stories in the library" in caplog.text


def test_help_names_what_the_filter_does_and_does_not(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    run_flags(studio_app.app, ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for words in ("--hide-sexual-pictures", FILTER_VARIABLE, "It errs in both directions", "violence, hate"):
        assert words in said


def test_content_filter_moves_to_the_models_device_before_a_story(tiny_folder: Path, tmp_path: Path):
    manager = ModelManager(str(tiny_folder), "cpu")
    moved: list[str] = []
    manager.content_filter = load_content_filter(str(save_classifier(tmp_path / "net", NONE)))
    manager.content_filter.model.to = lambda device: moved.append(str(device))
    manager.start()
    assert manager.wait(SECONDS)
    assert moved == ["cpu"]
    assert manager.model


# -- where the GPU is lent, and a Space ----------------------------------------------------------------------

SHARED_PARTS = """
import pathlib, pickle, sys
from consistory_svd import Settings, Story
from consistory_svd.content_filter import load_content_filter
from consistory_svd.studio.generated_story import GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.zerogpu import zero_gpu_manager

manager = zero_gpu_manager(sys.argv[1], content_filter=load_content_filter(sys.argv[3]))
story = Story("a cat", ("in the forest", "on the beach"))
visit = GenerationJob(manager, GenerationRequest(story, Settings(steps=4), pathlib.Path(".")))
visit.start()
seen = list(visit.watch())
with open(sys.argv[2], "wb") as file:
    pickle.dump((seen, str(next(manager.content_filter.model.parameters()).device)), file)
"""


def test_images_of_zero_gpu_are_filtered_when_they_return(tiny_folder: Path, tmp_path: Path):
    (folder := tmp_path / "lent").mkdir()
    (folder / "program.py").write_text(SHARED_PARTS)
    net = save_classifier(tmp_path / "net", EVERY)
    program = str(ROOT / "tests" / "fake_zerogpu.py"), "program.py", str(tiny_folder), "seen", str(net)
    run(sys.executable, *program, cwd=folder, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    seen, device = pickle.loads((folder / "seen").read_bytes())
    assert seen[-1].state == "done", seen[-1].error
    assert device == "cpu"
    assert not any(progress.previews for progress in seen)
    assert {pixels(path) for path in folder.glob("*.png")} == {BLANK}
    assert read_story_json(folder).filtered == ("sexual", "sexual")


def test_space_filters_if_its_variable_is_set_or_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = importlib.util.spec_from_file_location("space_app", ROOT / "deploy" / "space" / "app.py")
    space = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(space)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(FILTER_VARIABLE, raising=False)
    started: list[dict] = []
    monkeypatch.setattr(space, "create_demo", lambda source, **given: started.append(given))
    monkeypatch.setattr(space, "launch", lambda demo, **given: None)
    space.main()
    assert started[0]["content_filter"] is None
    monkeypatch.setenv(FILTER_VARIABLE, "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        space.main()
    keep_in_cache(save_classifier(tmp_path / "net", EVERY), tmp_path / "cache")
    space.main()
    assert started[1]["content_filter"].is_sexual(Image.new("RGB", (32, 32), "grey"))
    assert len(started) == 2
