"""Scores on the page: they come after the pictures, under their own names, and give way to a newer story."""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.downloads import CACHE_VARIABLE, DownloadError
from consistory_svd.metrics.result import Frames, MissingScore, Result
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.studio.components import scores_fetching as fetching
from consistory_svd.studio.components import scores_html as scorecard
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.model_manager import ModelManager
from tests.test_studio import form
from tests.visitors import ANN

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
    html = scorecard.card([MissingScore("DreamSim", "its weights are <gone>", "Fetch them.")], FRAMES)
    assert "DreamSim unavailable: its weights are &lt;gone&gt;. Fetch them." in html
    assert headlines(html) == []


@pytest.fixture
def handlers(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handlers]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    manager = ModelManager(str(tiny_folder), "cpu")
    manager.start()
    assert manager.wait(120)
    handlers = Handlers(manager)
    yield handlers
    handlers.leave(ANN)


def test_a_told_story_is_scored_with_its_masks_and_gives_way_to_the_next(handlers: Handlers):
    assert list(handlers.score("ensemble", "noise", ANN)) == [], "there is no story yet"
    *_, _last = handlers.generate(ANN, **form())
    pictures = handlers.story_of(ANN).pictures
    frames = scorecard.frames_of(pictures, "some model")
    assert [mask.size for mask in frames.masks] == [image.size for image in frames.images]
    first, *cards = handlers.score("ensemble", "noise", ANN)
    assert first == scorecard.scoring()
    assert "DreamSim unavailable" in cards[-1]
    assert "python -m consistory_svd fetch dreamsim" in cards[-1]

    again = handlers.score("ensemble", "noise", ANN)
    assert next(again) == scorecard.scoring()
    for _ in handlers.begin(ANN, "", True, **form()):
        pass
    assert list(again) == [""], "an older story's scores stand below a newer one"


def test_headlines_say_what_differs_from_published_protocols():
    other = [
        result(
            "DreamSim", 0.3, better="lower", matrix=((0.0, 0.3), (0.3, 0.0)), unlike="that <paper> uses noise"
        )
    ]
    assert "No published values beside it: that &lt;paper&gt; uses noise." in scorecard.card(other, FRAMES)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What `fetch_weights` was asked for; "error" makes it fail, "wait" holds it up."""
    generated: dict[str, object] = {"asked": [], "error": None, "wait": threading.Event()}
    generated["wait"].set()

    def fetch_weights(what: str, settings: ScoreSettings, report) -> None:
        generated["asked"].append((what, settings.backbone))
        report(120_400_000, 605_000_000)
        assert generated["wait"].wait(20)
        if generated["error"]:
            raise generated["error"]

    monkeypatch.setattr(fetching, "fetch_weights", fetch_weights)
    return generated


def test_weights_are_fetched_from_the_page_and_then_scored_with(handlers: Handlers, fetched: dict):
    *_, _last = handlers.generate(ANN, **form())
    assert handlers.offer_fetch(ANN)[0]["visible"] is False, "nothing was scored yet"
    list(handlers.score("clip_vitb32", "noise", ANN))
    button, line = handlers.offer_fetch(ANN)
    assert (button["visible"], button["value"]) == (True, "Fetch DreamSim, CLIP and DINO")
    assert "CLIP 605 MB" in line
    fetched["wait"].clear()
    going = handlers.fetch("clip_vitb32", "noise", ANN)
    seen = [next(going)]
    while "120 of 605 MB" not in seen[-1][1]:
        seen.append(next(going))
    assert 'aria-valuenow="20"' in seen[-1][1]
    assert seen[-1][0]["interactive"] is False
    list(handlers.generate(ANN, **form()))
    assert len(handlers.story_of(ANN).pictures) == 3, "a story is told while weights are fetched"
    fetched["wait"].set()
    *_, (button, line) = going
    assert button["interactive"] is True
    assert "The weights are here." in line
    assert fetched["asked"] == [(what, "clip_vitb32") for what in ("dreamsim", "clip", "dino")]


@pytest.mark.parametrize(
    "error", [DownloadError("weights: <x> could not be downloaded: no route"), KeyError("lost")]
)
def test_a_fetch_that_fails_is_said_and_can_be_tried_again(
    handlers: Handlers, fetched: dict, error: Exception
):
    handlers.sessions.of(ANN).missing_weights, fetched["error"] = ("clip",), error
    seen: list[tuple] = []
    with pytest.raises(gr.Error, match="could not be fetched"):
        seen.extend(handlers.fetch("ensemble", "noise", ANN))  # what came before the error stays
    button, line = seen[-1]
    assert button["interactive"] is True
    assert 'role="alert"' in line
    assert "CLIP could not be downloaded:" in line
    assert "<x>" not in line
    assert "Your images and all other scores do not need it" in line
    fetched["error"] = None
    *_, (_, line) = handlers.fetch("ensemble", "noise", ANN)
    assert "The weights are here." in line


def test_two_visitors_share_one_download(fetched: dict):
    fetched["wait"].clear()
    download = fetching.Fetching()
    assert list(download.watch()) == []
    for _ in range(2):
        download.start(("clip",), ScoreSettings())
    fetched["wait"].set()
    assert [[*download.watch()][-1].over for _ in range(2)] == [True, True]
    assert fetched["asked"] == [("clip", "ensemble")]
