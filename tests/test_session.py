"""What the studio keeps of its visitors: each has their own, and folders are removed by their owner alone."""

import os
import threading
import time
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.library import Library, keep_scores, look_at, remove_folder
from consistory_svd.metrics.report import as_json
from consistory_svd.metrics.result import MissingScore
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.queue import GenerationQueue
from consistory_svd.studio.session import Session, Sessions
from consistory_svd.studio.tabs.story import StoryTab
from tests.test_library import keep
from tests.test_studio import form
from tests.visitors import ANN, BEN, library_of, make_story_tab

SECONDS = 30.0


def test_a_session_is_known_by_hash_and_user_together():
    sessions = Sessions()
    ann = sessions.of(gr.Request(session_hash="page", username="ann"))
    ben = sessions.of(gr.Request(session_hash="page", username="ben"))
    assert sessions.of(gr.Request(session_hash="page", username="ann")) is ann
    assert ann is not ben
    assert sessions.find(gr.Request(session_hash="page")) is None
    assert sessions.remove(gr.Request(session_hash="page")) is None
    assert sessions.remove(gr.Request(session_hash="page", username="ann")) is ann
    assert sessions.all() == [ben]


@pytest.mark.parametrize("sent", [None, "", "a/b", "a\n", "ä", "x" * 65, 7, ["a"]], ids=repr)
def test_a_hash_of_another_form_is_refused(sent: object):
    sessions = Sessions()
    for ask in (sessions.of, sessions.find):
        with pytest.raises(gr.Error, match="session_hash must be 1 to 64 letters and digits, got"):
            ask(gr.Request(session_hash=sent))
    assert sessions.remove(gr.Request(session_hash=sent)) is None
    assert sessions.all() == []


def test_what_ones_scores_lack_is_ones_own(common: StoryTab, library: Library, manager: ModelManager):
    lacking, whole = (keep(library, model=manager.model.name) for _ in range(2))
    keep_scores(
        lacking, look_at(lacking).pictures, as_json([MissingScore("CLIPScore", "no weights", "", "clip")])
    )
    library_of(common).open(lacking.name, ANN)
    library_of(common).open(whole.name, BEN)
    button = common.scores.fetch_button
    assert common.scores.offer_weights(ANN)[button]["value"] == "Download CLIP"
    assert not common.scores.offer_weights(BEN)[button]["visible"]


def test_how_one_scores_is_ones_own():
    ann, ben = Session(), Session()
    first = ann.suite_for(ScoreSettings())
    ben.suite_for(ScoreSettings("clip_vitb32"))
    assert ann.suite_for(ScoreSettings()) is first


def test_the_last_place_is_given_once(manager: ModelManager):
    """Of sessions that ask at the same moment, only as many wait as there are places."""
    manager.queue, before = GenerationQueue(max_waiting=1), manager.queue
    story_tab, asking = make_story_tab(manager), 8
    counted = manager.queue.check_capacity
    together, accepted, refused = threading.Barrier(asking), [], []

    def check_capacity(joining: int = 0) -> None:
        time.sleep(0.01)  # a place that is counted and taken in two steps is now taken by all
        counted(joining)

    manager.queue.check_capacity = check_capacity

    def ask(number: int) -> None:
        together.wait(SECONDS)
        updates = story_tab.generate(gr.Request(session_hash=f"page{number}"), **form())
        (accepted if story_tab.cancel_button in next(updates) else refused).append(updates)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(asking)]
    try:
        manager.queue.enqueue(1)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    finally:
        for updates in accepted:
            updates.close()
        manager.queue = before
    assert (len(accepted), len(refused)) == (1, asking - 1)


@pytest.mark.parametrize("kind", ["elsewhere", "deeper", "itself", "link", "through a link"])
def test_only_what_lies_in_the_owners_folder_is_removed(tmp_path: Path, kind: str):
    owner, other = tmp_path / "owner", tmp_path / "other"
    for folder in (owner / "story" / "deep", other / "story"):
        folder.mkdir(parents=True)
    (owner / "link").symlink_to(other / "story")
    (owner / "away").symlink_to(other)
    folder = {
        "elsewhere": owner / ".." / "other" / "story",
        "deeper": owner / "story" / "deep",
        "itself": owner,
        "link": owner / "link",
        "through a link": owner / "away" / "story",
    }[kind]
    with pytest.raises(PermissionError, match="is not removed"):
        remove_folder(folder, owner)
    assert (other / "story").is_dir()
    assert (owner / "story" / "deep").is_dir()
    remove_folder(owner / "story", owner)
    assert not (owner / "story").exists()
