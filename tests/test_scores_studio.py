"""Scores on the page: they come after the pictures, under their own names, and give way to a newer story."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.scores import Absent, Frames, Result, fetch
from consistory_svd.studio import scorecard
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.handlers import Handlers
from tests.test_studio import form

ANN = gr.Request(session_hash="ann")
FRAMES = Frames([Image.new("RGB", (64, 48), color) for color in ("red", "blue")], ["a <b>cat</b>", "a fox"])


def result(name: str, value: float, **more: object) -> Result:
    return Result(name, value, "unit", **{"better": "higher", "model": "<net>", "protocol": "pairs"} | more)


def headlines(html: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", html)


def test_headlines_keep_their_names_and_take_the_best_that_is_known():
    weak = [result("Identity agreement by the storybook reader", 0.5, matrix=((1, 0.5), (0.5, 1)))]
    assert headlines(scorecard.card(weak, FRAMES)) == ["Identity agreement by the storybook reader"]
    strong = [
        *weak,
        result("CLIPScore", 0.8, per_frame=(0.7, 0.9), published={"SDXL": 0.9074}, source="that paper"),
        result("DreamSim", 0.25, better="lower", matrix=((0.0, 0.25), (0.25, 0.0))),
    ]
    html = scorecard.card(strong, FRAMES)
    assert headlines(html) == ["DreamSim", "CLIPScore"]
    assert "SDXL 0.9074" in html
    assert "that paper" in html
    assert "<net>" not in html


def test_the_more_alike_a_pair_the_stronger_its_colour_in_both_directions():
    near = [result("DreamSim", 0.1, better="lower", matrix=((0.0, 0.1), (0.1, 0.0)))]
    alike = [result("Identity agreement by the storybook reader", 0.9, matrix=((1.0, 0.9), (0.9, 1.0)))]
    for entries in (near, alike):
        shades = re.findall(r"rgb\(15 118 110 / ([\d.]+)\)", scorecard.card(entries, FRAMES))
        assert shades == ["0.60", "0.54", "0.54", "0.60"]


def test_bars_are_as_long_as_their_numbers():
    html = scorecard.card([result("CLIPScore", 0.8, per_frame=(0.7, 1.4))], FRAMES)
    assert re.findall(r"width:(\d+)%", html) == ["70", "100"]
    assert "1.400" in html


def test_what_is_not_there_says_why():
    html = scorecard.card([Absent("DreamSim", "its weights are <gone>", "Fetch them.")], FRAMES)
    assert "DreamSim is not shown: its weights are &lt;gone&gt;. Fetch them." in html
    assert headlines(html) == []


@pytest.fixture
def handlers(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handlers]:
    monkeypatch.setenv(fetch.CACHE_VARIABLE, str(tmp_path))
    engine = Engine(str(tiny_folder), "cpu")
    engine.start()
    assert engine.wait(120)
    handlers = Handlers(engine)
    yield handlers
    handlers.leave(ANN)


def test_a_told_story_is_scored_with_its_masks_and_gives_way_to_the_next(handlers: Handlers):
    assert list(handlers.score(ANN)) == [], "there is no story yet"
    *_, _last = handlers.tell(ANN, **form())
    pictures = handlers._runs["ann"].progress.pictures
    frames = scorecard.frames_of(pictures, "some model")
    assert [mask.size for mask in frames.masks] == [image.size for image in frames.images]
    first, *cards = handlers.score(ANN)
    assert first == scorecard.scoring()
    assert "DreamSim is not shown" in cards[-1]
    assert "python -m consistory_svd fetch dreamsim" in cards[-1]

    again = handlers.score(ANN)
    assert next(again) == scorecard.scoring()
    for _ in handlers.begin(ANN, "", **form()):
        pass
    assert list(again) == [""], "an older story's scores stand below a newer one"
