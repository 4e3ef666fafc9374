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
from consistory_svd.studio.components import scores_panel
from consistory_svd.studio.components.scores_panel import WeightsDownload, load_frames, scores_html
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.tabs.story import StoryTab
from tests.test_studio import form
from tests.visitors import ANN, make_story_tab

FRAMES = Frames([Image.new("RGB", (64, 48), color) for color in ("red", "blue")], ["a <b>cat</b>", "a fox"])


def result(name: str, value: float, **more: object) -> Result:
    return Result(name, value, "unit", **{"better": "higher", "model": "<net>", "protocol": "pairs"} | more)


def headlines(html: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", html)


def test_headlines_keep_their_names_and_take_the_best_that_is_known():
    weak = [result("Identity agreement by the storybook reader", 0.5, matrix=((1, 0.5), (0.5, 1)))]
    assert headlines(scores_html(weak, FRAMES)) == ["Identity agreement by the storybook reader"]
    strong = [
        *weak,
        result("CLIPScore", 0.8, per_frame=(0.7, 0.9), published={"SDXL": 0.9074}, source="that paper"),
        result("DreamSim", 0.25, better="lower", matrix=((0.0, 0.25), (0.25, 0.0))),
    ]
    html = scores_html(strong, FRAMES)
    assert headlines(html) == ["DreamSim", "CLIPScore"]
    assert "SDXL 0.9074" in html
    assert "that paper" in html
    assert "<net>" not in html


def test_the_more_alike_a_pair_the_stronger_its_colour_in_both_directions():
    near = [result("DreamSim", 0.1, better="lower", matrix=((0.0, 0.1), (0.1, 0.0)))]
    alike = [result("Identity agreement by the storybook reader", 0.9, matrix=((1.0, 0.9), (0.9, 1.0)))]
    for entries in (near, alike):
        shades = re.findall(r"rgb\(15 118 110 / ([\d.]+)\)", scores_html(entries, FRAMES))
        assert shades == ["0.60", "0.54", "0.54", "0.60"]


def test_bars_are_as_long_as_their_numbers():
    html = scores_html([result("CLIPScore", 0.8, per_frame=(0.7, 1.4))], FRAMES)
    assert re.findall(r"width:(\d+)%", html) == ["70", "100"]
    assert "1.400" in html


def test_what_is_not_there_says_why():
    html = scores_html([MissingScore("DreamSim", "its weights are <gone>", "Fetch them.")], FRAMES)
    assert "DreamSim unavailable: its weights are &lt;gone&gt;. Fetch them." in html
    assert headlines(html) == []


@pytest.fixture
def story_tab(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoryTab]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    manager = ModelManager(str(tiny_folder), "cpu")
    manager.start()
    assert manager.wait(120)
    story_tab = make_story_tab(manager)
    yield story_tab
    story_tab.services.leave(ANN)


def test_a_told_story_is_scored_with_its_masks_and_gives_way_to_the_next(story_tab: StoryTab):
    assert list(story_tab.scores.score("ensemble", "noise", ANN)) == [], "there is no story yet"
    list(story_tab.generate(ANN, **form()))
    pictures = story_tab.services.sessions.story_of(ANN).pictures
    frames = load_frames(pictures, "some model")
    assert [mask.size for mask in frames.masks] == [image.size for image in frames.images]
    first, *cards = story_tab.scores.score("ensemble", "noise", ANN)
    assert "Computing scores." in first
    assert "DreamSim unavailable" in cards[-1]
    assert "python -m consistory_svd fetch dreamsim" in cards[-1]

    again = story_tab.scores.score("ensemble", "noise", ANN)
    assert "Computing scores." in next(again)
    generation = story_tab.generate(ANN, **form())
    next(generation)
    assert list(again) == [""], "an older story's scores stand below a newer one"
    generation.close()


def test_headlines_say_what_differs_from_published_protocols():
    other = [
        result(
            "DreamSim", 0.3, better="lower", matrix=((0.0, 0.3), (0.3, 0.0)), unlike="that <paper> uses noise"
        )
    ]
    assert "No published values for comparison: that &lt;paper&gt; uses noise." in scores_html(other, FRAMES)


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

    monkeypatch.setattr(scores_panel, "fetch_weights", fetch_weights)
    return generated


def test_weights_are_fetched_from_the_page_and_then_scored_with(story_tab: StoryTab, fetched: dict):
    scores, button, status = story_tab.scores, story_tab.scores.fetch_button, story_tab.scores.fetch_status
    list(story_tab.generate(ANN, **form()))
    assert scores.offer_weights(ANN)[button]["visible"] is False, "nothing was scored yet"
    list(scores.score("clip_vitb32", "noise", ANN))
    offered = scores.offer_weights(ANN)
    assert (offered[button]["visible"], offered[button]["value"]) == (
        True,
        "Download DreamSim, CLIP and DINO",
    )
    assert "CLIP 605 MB" in offered[status]
    fetched["wait"].clear()
    going = scores.fetch("clip_vitb32", "noise", ANN)
    seen = next(update for update in going if "120 of 605 MB" in update[status])
    assert 'aria-valuenow="20"' in seen[status]
    assert seen[button]["interactive"] is False
    list(story_tab.generate(ANN, **form()))
    assert len(story_tab.services.sessions.story_of(ANN).pictures) == 3, "a download does not hold up a story"
    fetched["wait"].set()
    *_, ended = going
    assert ended[button]["interactive"] is True
    assert "The weights are downloaded." in ended[status]
    assert fetched["asked"] == [(what, "clip_vitb32") for what in ("dreamsim", "clip", "dino")]


@pytest.mark.parametrize(
    "error", [DownloadError("weights: <x> could not be downloaded: no route"), KeyError("lost")]
)
def test_a_fetch_that_fails_is_said_and_can_be_tried_again(
    story_tab: StoryTab, fetched: dict, error: Exception
):
    story_tab.services.sessions.of(ANN).missing_weights, fetched["error"] = ("clip",), error
    scores, seen = story_tab.scores, []
    with pytest.raises(gr.Error, match="could not be downloaded"):
        seen.extend(scores.fetch("ensemble", "noise", ANN))  # what came before the error stays
    assert seen[-1][scores.fetch_button]["interactive"] is True
    status = seen[-1][scores.fetch_status]
    assert 'role="alert"' in status
    assert "CLIP could not be downloaded." in status
    assert "<x>" not in status
    assert "Images and all other scores are not affected" in status
    fetched["error"] = None
    *_, ended = scores.fetch("ensemble", "noise", ANN)
    assert "The weights are downloaded." in ended[scores.fetch_status]


def test_two_visitors_share_one_download(fetched: dict):
    fetched["wait"].clear()
    download = WeightsDownload()
    assert list(download.watch()) == []
    for _ in range(2):
        download.start(("clip",), ScoreSettings())
    fetched["wait"].set()
    assert [[*download.watch()][-1].over for _ in range(2)] == [True, True]
    assert fetched["asked"] == [("clip", "ensemble")]
