"""The Hugging Face Space: how it is put together, what it says, and a story on a GPU that is lent."""

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio
import pytest
import yaml
from huggingface_hub import SpaceHardware

from consistory_svd.events import Cancelled, Finished, FrameDone, Preview, Started
from tests.packaging_helpers import ROOT, files_under, requirements, run

APP = requirements(ROOT / "requirements.txt")


def assembler() -> ModuleType:
    """The script behind `make space`, as a module."""
    spec = importlib.util.spec_from_file_location("assemble_space", ROOT / "tools" / "assemble_space.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assembled Space."""
    folder = tmp_path_factory.mktemp("spaces") / "space"
    assembler().assemble(folder)
    return folder


def test_a_space_is_put_together_of_what_it_needs(space: Path):
    assert {path.name for path in space.iterdir()} == {
        *("app.py", "README.md", "requirements.txt", ".gitattributes", "LICENSE", "assets", "consistory_svd")
    }
    assert files_under(space / "assets") == files_under(ROOT / "assets")
    assert files_under(space / "consistory_svd") == files_under(ROOT / "consistory_svd")
    stored = (space / ".gitattributes").read_text()
    large = [path for path in space.rglob("*") if path.is_file() and path.stat().st_size > 1_000_000]
    assert large
    for path in large:
        assert f"*{path.suffix} filter=lfs" in stored, "the Hub takes large files by git-lfs alone"


def test_a_space_is_put_together_again_but_never_over_something_else(space: Path, tmp_path: Path, capsys):
    (space / ".git").mkdir(exist_ok=True)
    (space / "consistory_svd" / "old.py").write_text("")
    assert assembler().main([str(space)]) == 0
    assert not (space / "consistory_svd" / "old.py").exists()
    assert (space / ".git").is_dir()
    (tmp_path / "thesis.tex").write_text("")
    for arguments in ([str(tmp_path)], [""], []):
        assert assembler().main(arguments) == 2
        assert capsys.readouterr().err.startswith("error: DIR: ")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_space_has_the_metadata_of_the_hub(space: Path):
    said = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert (said["sdk"], said["python_version"], said["license"]) == ("gradio", "3.12.12", "apache-2.0")
    assert said["sdk_version"] in APP["gradio"].specifier
    assert said["sdk_version"] == gradio.__version__
    assert (space / said["app_file"]).is_file()
    assert said["suggested_hardware"] in {hardware.value for hardware in SpaceHardware}
    assert {said["colorFrom"], said["colorTo"]} <= {
        *("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
    }
    assert len(said["short_description"]) <= 60


def test_the_space_asks_for_the_apps_libraries_and_its_own(space: Path):
    asked = requirements(space / "requirements.txt")
    assert asked.keys() == APP.keys() - {"gradio"} | {"spaces"}
    for name in asked.keys() - {"spaces"}:
        assert asked[name].specifier == APP[name].specifier


PROGRAM = """
import os, pathlib, pickle, sys, threading, types
from dataclasses import replace
from gradio.context import LocalContext
from starlette.datastructures import Headers
from consistory_svd import Settings, Story
from consistory_svd.presets import preset
from consistory_svd.attention import FilterSummary
from consistory_svd.studio.generated_story import GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.zerogpu import gpu_seconds, zero_gpu_manager

manager = zero_gpu_manager(sys.argv[1])
quick = replace(preset("svd-quantile"), steps=2, injection=False, query_blending=False)
story = Story("a cat", ("in the forest", "on the beach", "in the snow"))
told, stop = [], threading.Event()
filter_log = FilterSummary(2)

def whole():
    told.extend(manager.generate(manager.model, story, quick, filter_log=filter_log, keep_anchors=True))

thread = threading.Thread(target=whole)  # as in the studio: not the thread that loaded the model
thread.start()
thread.join()
stopped = []
for event in manager.generate(manager.model, story, replace(quick, steps=200), stop):
    stopped.append(event)
    if len(stopped) == 5:
        stop.set()

def words(**wrong):
    try:
        list(manager.generate(manager.model, story, **{"settings": quick, **wrong}))
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"

mistake = words(settings=replace(quick, anchors=9))
failure = words(frames=[1])

# As the studio does it, for a visitor whom the Hub knows.
LocalContext.request.set(types.SimpleNamespace(headers=Headers({"x-ip-token": "visitor"})))
visit = GenerationJob(manager, GenerationRequest(story, quick, pathlib.Path(".")))
visit.start()
visit.join(100)
LocalContext.request.set(None)
os.environ["LENT_GPU_REFUSES"] = "yes"
refusal = words()
plain = replace(preset("plain"), steps=30, height=1024, width=1024)
wishes = {
    "a story": (story, plain, {}),
    "more steps": (story, replace(plain, steps=60), {}),
    "larger": (story, replace(plain, width=2048), {}),
    "more scenes": (Story("a cat", story.scenes * 2), plain, {}),
    "two passes": (story, replace(plain, injection=True), {}),
    "a filter": (story, replace(plain, k_filter=quick.k_filter), {}),
    "one frame": (story, plain, {"frames": [2]}),
}
seconds = {what: gpu_seconds(manager.model.name, *wish) for what, wish in wishes.items()}
seen = {
    "seconds": seconds,
    "device": str(manager.model.device),
    "scores_on": manager.scores_on,
    "told": told,
    "recorded": len(filter_log.stats),
    "stopped": stopped,
    "mistake": mistake,
    "failure": failure,
    "visit": visit.progress,
    "refusal": refusal,
}
with open(sys.argv[2], "wb") as file:
    pickle.dump(seen, file)
"""


@pytest.fixture(scope="module")
def shared(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """What ZeroGPU's scheduler was asked, and what a program saw that told stories on a lent GPU."""
    folder = tmp_path_factory.mktemp("lent")
    (folder / "program.py").write_text(PROGRAM)
    program = str(ROOT / "tests" / "fake_zerogpu.py"), "program.py", str(tiny_folder), "seen"
    said = run(sys.executable, *program, cwd=folder, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    calls = [tuple(line.split()[1:]) for line in said.splitlines() if line.startswith("scheduler ")]
    return calls, pickle.loads((folder / "seen").read_bytes())


def test_zero_gpu_generates_the_same_story(shared):
    _, seen = shared
    assert (seen["device"], seen["scores_on"]) == ("cuda", "cpu")
    generated = seen["told"]
    assert isinstance(generated[0], Started)
    assert sum(isinstance(event, Preview) for event in generated) == generated[0].total_steps == 6
    frames = [event for event in generated if isinstance(event, FrameDone)]
    assert [frame.frame for frame in frames] == [0, 1, 2]
    assert all(frame.latents.isfinite().all() for frame in frames)
    ended = generated[-1]
    assert isinstance(ended, Finished)
    assert [image.tobytes() for image in ended.images] == [frame.image.tobytes() for frame in frames]
    assert all(mask is not None for mask in ended.masks)
    assert seen["recorded"]


def test_anchors_that_stay_elsewhere_are_not_promised(shared):
    _, seen = shared
    assert seen["told"][-1].anchor_cache is None
    assert any(note.startswith("keep_anchors: ") for note in seen["told"][0].notes)


def test_a_stopped_story_gives_the_gpu_back_within_a_step(shared):
    calls, seen = shared
    assert seen["stopped"][-1] == Cancelled(0)
    assert len(seen["stopped"]) == 6  # the event at which it was stopped is the last before
    assert [call[0] for call in calls[3:6]] == ["/schedule", "/allow", "/release"]


def test_the_time_that_is_asked_for_grows_with_the_story(shared):
    calls, seen = shared
    seconds = seen["seconds"]
    story = seconds.pop("a story")
    assert 0 < seconds.pop("one frame") < story < min(seconds.values())
    assert story == 33, "3 x 30 steps of 0.2 s, 3 pictures, and the start"
    asked = [int(call[1]) for call in calls if call[0] == "/schedule"]
    assert len(asked) == 5
    assert min(asked) >= 12


def test_errors_are_reported_and_mistakes_use_no_gpu(shared):
    calls, seen = shared
    assert seen["mistake"].startswith("FieldError: anchors must be ")
    assert seen["failure"].startswith("RuntimeError: frames must be all frames, or include the anchors")
    assert seen["refusal"].startswith("RuntimeError: ")
    assert "fewer scenes" in seen["refusal"]
    generated = ["/schedule", "/allow", "/release"] * 4  # a whole one, a stopped, a failed, the visitor's
    assert [call[0] for call in calls] == [*generated, "/schedule"]


def test_the_studio_requests_the_gpu_in_the_visitors_name(shared):
    calls, seen = shared
    assert seen["visit"].state == "done", seen["visit"].error
    assert len(seen["visit"].pictures) == 3
    named = [call[2] for call in calls if len(call) == 3]
    assert named == ["visitor"]
