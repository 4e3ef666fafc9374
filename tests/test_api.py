"""What programmes may call, on a running studio with a tiny real model."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from consistory_svd.downloads import CACHE_VARIABLE
from consistory_svd.fields import field_of
from consistory_svd.limits import Limits
from consistory_svd.metadata import read_frame
from consistory_svd.presets import PRESETS
from consistory_svd.settings import Settings
from consistory_svd.studio import create_demo, launch
from consistory_svd.studio.api import ApiClients
from consistory_svd.studio.model_manager import ModelManager

CAT = {"subject": "a cat", "scenes": ["in the forest", "on the beach"], "steps": 2}
QUICK = {"preset": "sdsa"}


@pytest.fixture(scope="module")
def demo(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gr.Blocks]:
    """A studio with limits, and nobody else."""
    os.environ[CACHE_VARIABLE] = str(tmp_path_factory.mktemp("no weights"))
    demo = create_demo(str(tiny_folder), "cpu", Limits(frames=3, steps=150, size=128, queue=1))
    launch(demo, port=None, prevent_thread_lock=True, quiet=True)
    yield demo
    demo.close()
    del os.environ[CACHE_VARIABLE]


@pytest.fixture(scope="module")
def client(demo: gr.Blocks) -> Client:
    return Client(demo.local_url, verbose=False)


def test_every_parameter_says_what_it_is(client: Client):
    known = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(known) == {"/tell", "/compare", "/score"}
    for endpoint in known.values():
        assert endpoint["description"]
        for item in (*endpoint["parameters"], *endpoint["returns"]):
            assert item["label"]
            assert item["python_type"]["type"]
    generate = {item["parameter_name"]: item for item in known["/tell"]["parameters"]}
    assert [name for name, item in generate.items() if not item["parameter_has_default"]] == [
        "subject",
        "scenes",
    ]
    assert (generate["scenes"]["python_type"]["type"], generate["steps"]["python_type"]["type"]) == (
        "list[str]",
        "int | None",
    )
    assert generate["steps"]["label"].startswith(
        f"{field_of(Settings, 'steps').label}: {field_of(Settings, 'steps').help}"
    )
    assert generate["steps"]["parameter_default"] is None
    assert all(name in generate["preset"]["label"] for name in PRESETS)


def test_a_story_is_told_with_defaults_for_the_rest(client: Client):
    pictures, masks, generated = client.predict(**CAT, api_name="/tell")
    assert (len(pictures), len(masks)) == (2, 2)
    record = read_frame(Path(pictures[1]))
    assert record.prompt == "a photo of a cat on the beach"
    assert record.settings.injection, "the preset is consistory"
    assert generated["status"].startswith("2 pictures in ")
    assert [frame["prompt"] for frame in generated["frames"]] == list(record.story.prompts)


def test_settings_differ_from_the_preset_by_name_and_a_text_holds_a_scene_a_line(client: Client):
    changed = {"masking": False, "k_filter": {"keep": "quantile", "amount": 0.05}, "height": 96}
    scenes = "in the forest\non the beach\n"
    pictures, _, generated = client.predict(
        subject="a cat", scenes=scenes, steps=2, seed=7, preset="sdsa", settings=changed, api_name="/tell"
    )
    settings = generated["settings"]
    assert (settings["masking"], settings["k_filter"]["amount"], settings["steps"]) == (False, 0.05, 2)
    assert generated["story"]["seed"] == 7
    with Image.open(pictures[0]) as image:
        assert image.height == 96


def test_steps_and_guidance_are_the_models_own_unless_given(tiny_folder: Path, tmp_path: Path):
    quick = {"scenes": ["in the forest", "on the beach"], "subject": "a cat", "negative": "", "seed": 0}
    wish = {**quick, "style": "a photo of", "concepts": [], "preset": "sdsa", "settings": {}}
    few = shutil.copytree(tiny_folder, tmp_path / "toy-lightning-2step")
    calls = ApiClients(ModelManager(str(few), "cpu"), Limits(batch=3))

    def generated(**changes: Any) -> dict[str, Any]:
        *_, (_, _, story) = calls.generate(**{**wish, "steps": None, "guidance": None, **changes})
        return {
            name: story["settings"][name] for name in ("steps", "guidance", "scheduler", "spacing", "batch")
        }

    few_steps = {"steps": 2, "guidance": 0.0, "scheduler": "euler", "spacing": "trailing", "batch": 3}
    assert generated() == few_steps
    assert generated(steps=3) == {**few_steps, "steps": 3}
    assert generated(settings={"spacing": "leading"}) == {**few_steps, "spacing": "leading"}
    with pytest.raises(ValueError, match="batch must be at most 3 in this studio, got 4"):
        next(calls.generate(**{**wish, "steps": 2, "guidance": 1.0, "settings": {"batch": 4}}))
    ordinary = ApiClients(ModelManager(str(tiny_folder), "cpu"), Limits(steps=4))
    asked = ordinary._with_own(Settings(), {})
    assert asked == {"steps": 4, "batch": Settings.batch}


def test_pictures_stream_while_a_story_is_told(client: Client):
    job = client.submit(**CAT, **QUICK, settings={"anchors": 1, "batch": 1}, api_name="/tell")
    seen = [(len(pictures), generated["status"]) for pictures, _, generated in job]
    counts = [count for count, _ in seen]
    assert counts == sorted(counts)
    assert 1 in counts
    assert any("step 1 of 2" in status for _, status in seen)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subject": " "}, "subject: ' ' is empty"),
        ({"scenes": ["a", "b", "c", "d"]}, "scenes must be at most 3 in this studio, got 4"),
        ({"steps": 151}, "steps must be at most 150 in this studio, got 151"),
        ({"steps": "many"}, "steps must be a whole number from 1 to 200, got 'many'"),
        ({"settings": {"height": 136}}, "height must be at most 128 in this studio, got 136"),
        ({"settings": {"hight": 96}}, "settings: 'hight' is not known; the names are anchors"),
        ({"settings": ["masking"]}, "settings: .* give an object"),
        ({"preset": "best"}, "preset must be one of plain"),
        ({"concepts": ["teapot"]}, "concepts: 'teapot' is not in the prompt"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_refusal_names_field_value_and_what_is_allowed(client: Client, changes: dict, said: str):
    with pytest.raises(AppError, match=said):
        client.predict(**{**CAT, **changes}, api_name="/tell")


def test_settings_are_compared_with_the_same_seeds(client: Client):
    rows = ["plain", {"name": "unmasked", "preset": "sdsa", "masking": False}]
    figure, generated = client.predict(**CAT, settings=rows, api_name="/compare")
    assert [row["name"] for row in generated] == ["plain", "unmasked"]
    assert [row["differences"] for row in generated] == [["SDSA off"], ["SDSA on"]]
    records = [[read_frame(Path(file)) for file in row["pictures"]] for row in generated]
    assert [record.seed for record in records[0]] == [record.seed for record in records[1]]
    assert [row[0].settings.sdsa for row in records] == [False, True]
    with Image.open(figure) as image:
        made = json.loads(image.text["comparison"])
    assert [row["name"] for row in made["rows"]] == ["plain", "unmasked"]


def test_a_figure_is_compared_by_its_name(client: Client):
    _, generated = client.predict(**CAT, recipe="filters", api_name="/compare")
    assert [row["name"] for row in generated] == ["No filter", "Quantile", "Energy", "Log", "Log2"]
    assert generated[1]["differences"] == ["K and V quantile 0.05"]
    assert all(len(row["pictures"]) == 2 for row in generated)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": ["plain"]}, "settings: .* give a list of 2 to 4"),
        ({"settings": ["plain", "plain"]}, "settings: 'plain' is chosen more than once"),
        ({"settings": ["plain", {"preset": "sdsa"}]}, "give a preset or an object with a name"),
        ({"settings": ["plain", {"name": "a", "steps": 999}]}, "steps must be .*, got 999"),
        ({"recipe": "9.9"}, "recipe: '9.9' is not known; give one of leakage"),
    ],
    ids=str,
)
def test_a_wrong_comparison_is_refused(client: Client, changes: dict, said: str):
    with pytest.raises(AppError, match=said):
        client.predict(**CAT, **changes, api_name="/compare")


@pytest.fixture
def drawn(tmp_path: Path) -> list[str]:
    files = []
    for color in ("red", "blue"):
        Image.new("RGB", (48, 48), color).save(file := tmp_path / f"{color}.png")
        files.append(str(file))
    return files


def test_pictures_are_scored_and_what_is_missing_says_why(client: Client, drawn: list[str]):
    files = [handle_file(file) for file in drawn]
    result = client.predict(files, ["a red cat", "a blue cat"], storybook=True, api_name="/score")
    scores = {score["name"]: score for score in result["scores"]}
    agreement = scores["Identity agreement by the storybook reader"]
    assert 0 <= agreement["value"] <= 1
    assert len(scores["Storybook CLIP alignment"]["per_frame"]) == 2
    missing = {entry["name"]: entry for entry in result["absent"]}
    assert "python -m consistory_svd fetch dreamsim" in missing["DreamSim"]["remedy"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda files, path: {"prompts": ["one"]}, "prompts: 1 for 2 pictures"),
        (lambda files, path: {"pictures": files * 2, "prompts": ["a"] * 4}, "pictures: 4 are not allowed"),
        (lambda files, path: {"masks": files[:1]}, "masks: 1 for 2 pictures"),
        (lambda files, path: {"backbone": "mine"}, "backbone: 'mine'"),
        (lambda files, path: {"pictures": "red.png"}, "pictures: not a list of files"),
        (
            lambda files, path: {"pictures": [handle_file(path), files[0]]},
            "pictures: number 1 cannot be read",
        ),
    ],
    ids=["prompts", "too many", "masks", "backbone", "no files", "no picture"],
)
def test_wrong_pictures_are_refused(client: Client, drawn: list[str], tmp_path: Path, spoil, said: str):
    (tmp_path / "text.png").write_text("no picture")
    files = [handle_file(file) for file in drawn]
    given = {"pictures": files, "prompts": ["a", "b"], **spoil(files, str(tmp_path / "text.png"))}
    with pytest.raises(AppError, match=said):
        client.predict(**given, api_name="/score")


def test_a_picture_over_the_limit_is_refused(client: Client, tmp_path: Path):
    Image.new("RGB", (160, 48)).save(tmp_path / "wide.png")
    with pytest.raises(AppError, match="pictures: number 1 is 160 x 48; give at most 128 pixels a side"):
        client.predict([handle_file(str(tmp_path / "wide.png"))], ["a"], api_name="/score")


@pytest.mark.parametrize("mark", [{"meta": {"_type": "gradio.FileData"}}, {}], ids=["marked", "unmarked"])
def test_files_of_the_server_cannot_be_read(demo: gr.Blocks, drawn: list[str], mark: dict):
    """A caller that names a path of the server instead of uploading a file."""
    data = [[{"path": drawn[0], **mark}], ["a"], [], "ensemble", "noise", False]
    call = f"{demo.local_url}gradio_api/call/score"
    event = httpx.post(call, json={"data": data}).json()["event_id"]
    answer = httpx.get(f"{call}/{event}", timeout=60).text
    assert "event: error" in answer
    assert "event: complete" not in answer


def test_what_is_private_cannot_be_called_by_name(demo: gr.Blocks, client: Client):
    for name in ("begin", "leave", "cancel", "show_svd_plots", "compare_1", "start"):
        with pytest.raises(ValueError, match="Cannot find a function"):
            client.predict(api_name=f"/{name}")


def test_a_full_line_refuses_and_one_in_it_knows_its_place(demo: gr.Blocks, client: Client):
    long = {**CAT, "steps": 150, "scenes": ["in the forest"] * 3, "preset": "plain"}
    first = client.submit(**long, api_name="/tell")
    assert next(status for _, _, generated in first if "step" in (status := generated["status"]))
    second = Client(demo.local_url, verbose=False)
    waiting = second.submit(**CAT, api_name="/tell")
    places = (generated["status"] for _, _, generated in waiting)
    assert "Another story is before yours. It begins by itself in about " in next(
        status for status in places if "about" in status
    )
    with pytest.raises(AppError, match="The queue is full: 1 job is waiting"):
        client.predict(**CAT, api_name="/tell")
    first.cancel()
    *_, (pictures, _, _) = waiting
    assert len(pictures) == 2


def test_only_who_signs_in_comes_in(tiny_folder: Path):
    demo = create_demo(str(tiny_folder), "cpu")
    launch(demo, port=None, auth=[("ann", "hunter2")], prevent_thread_lock=True, quiet=True)
    try:
        with pytest.raises(ValueError, match=r"Could not fetch config|login|auth"):
            Client(demo.local_url, verbose=False)
        client = Client(demo.local_url, auth=("ann", "hunter2"), verbose=False)
        pictures, _, _ = client.predict(**CAT, preset="plain", api_name="/tell")
        assert len(pictures) == 2
    finally:
        demo.close()


def test_the_readmes_example_runs(demo: gr.Blocks):
    example = Path(__file__).parents[1] / "docs" / "client.py"
    said = subprocess.run(
        [sys.executable, str(example), demo.local_url], capture_output=True, text=True, timeout=240
    )
    assert said.returncode == 0, said.stderr
    assert "2 pictures in " in said.stdout
    assert "Storybook CLIP alignment" in said.stdout
    assert "svd-quantile; " in said.stdout
    assert "comparison.png" in said.stdout
