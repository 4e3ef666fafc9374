"""The About room: what it says of the machine, its pictures, and the commands it names."""

import os
import shlex
import tomllib
from pathlib import Path

import pytest
import torch
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import app as studio_app
from consistory_svd.cli import main as command_line
from consistory_svd.cli.options import run
from consistory_svd.settings import check
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.tabs import about as about_tab
from consistory_svd.studio.tabs.about_text import MASKS, PARTS, PICTURES, STEPS
from consistory_svd.system_info import Memory, memory, versions

HOUSE = Path(__file__).parents[1]
FILES = [(part, name, file) for part in PARTS for name, file in part.strips]


def test_memory_adds_up_and_is_this_machines():
    (ram,) = memory("cpu")
    assert 0 < ram.ours < ram.whole
    assert ram.used + ram.free == ram.whole
    assert [item.name for item in memory(None)] == ["Memory"]
    held = bytearray(200_000_000)
    assert memory("cpu")[0].ours - ram.ours > 150_000_000, "what this program takes is seen"
    del held


def test_versions_are_those_that_run():
    known = versions()
    assert known["torch"] == torch.__version__.split("+")[0] or known["torch"] == torch.__version__
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    assert project["project"]["name"] not in known
    assert {"Python", "diffusers", "gradio"} <= set(known)


def test_the_room_says_model_device_memory_and_versions(tiny_folder: Path):
    manager = ModelManager(str(tiny_folder), "cpu")
    assert "The model is loading." in about_tab.now(manager)
    manager.start()
    assert manager.wait(120)
    html = about_tab.now(manager)
    assert manager.model.describe() in html
    assert "on CPU in float32" in html
    assert 'role="meter"' in html
    assert "by this studio." in html
    assert f"<dd>{torch.__version__}</dd>" in html


def test_a_model_that_could_not_be_loaded_is_said(tmp_path: Path):
    manager = ModelManager(str(tmp_path), "cpu")
    manager.start()
    assert manager.wait(120)
    assert "model_index.json" in about_tab.now(manager)


def test_what_stands_in_the_room_is_escaped():
    html = about_tab.facts("<b>", (Memory("<i>", 1, 2, 4),), {"<u>": "<s>"})
    assert not any(tag in html for tag in ("<b>", "<i>", "<u>", "<s>"))
    assert 'aria-valuenow="50"' in html


@pytest.mark.parametrize(("part", "name", "file"), FILES, ids=lambda value: str(value)[:20])
def test_every_strip_is_there_and_small(part, name: str, file: str):
    with Image.open(PICTURES / file) as image:
        assert image.format == "WEBP"
        assert image.size == (4 * 256 + 3 * 8, 256)
        colors = image.convert("RGB").crop((0, 0, 256, 256)).getcolors(1 << 16)
        assert colors is None or len(colors) > 200, "a picture, and no plain colour"
    assert (PICTURES / file).stat().st_size < 100_000


def test_no_picture_is_left_over():
    assert {path.name for path in PICTURES.iterdir()} == {file for _, _, file in FILES}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.key)
def test_every_part_says_what_it_does_and_what_is_seen(part):
    assert part.does
    assert part.seen
    assert len({row.settings for row in part.rows}) == len(part.rows) >= 2
    for row in part.rows:
        check(part.story, row.settings)
        assert row.settings.steps == STEPS
    html = about_tab.method([part])
    assert html.count("<img") == len(part.strips)
    assert html.count('alt=""') == 0
    assert (MASKS in html) is part.masks


COMMANDS = [line for _, _, command in about_tab.COMMANDS for line in command.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_exist(command: str, capsys: pytest.CaptureFixture):
    python, *arguments = shlex.split(command)
    assert python == "python"
    if arguments[0] == "app.py":
        app, arguments = studio_app.app, arguments[1:]
    else:
        assert arguments[:2] == ["-m", "consistory_svd"]
        app, arguments = command_line.app, arguments[2:]
    assert run(app, [*arguments, "--help"]) == 0
    assert arguments[0].startswith("--") or arguments[0] in capsys.readouterr().out
