"""Limits, who counts as a stranger, sign-in, and the line for the model."""

import os
import threading
from dataclasses import replace

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

import app as studio_app
from consistory_svd.cli.options import run
from consistory_svd.limits import PUBLIC, Limits, limits_of, public, read_auth, warnings
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import Progress
from consistory_svd.studio.queue import GenerationQueue, Position
from tests.test_studio import form
from tests.visitors import ANN, last, make_story_tab

STORY = Story("a cat", ("in the forest", "on the beach", "in the snow"))
SECONDS = 60.0


# -- limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "settings", "said"),
    [
        (Limits(frames=2), Settings(), "scenes must be at most 2 in this studio, got 3"),
        (Limits(steps=20), Settings(steps=21), "steps must be at most 20 in this studio, got 21"),
        (
            Limits(size=512),
            Settings(height=520),
            "height must be at most 512 in this studio, got 520",
        ),
        (Limits(size=512), Settings(width=1024), "width must be .*, got 1024"),
        (Limits(batch=8), Settings(batch=64), "batch must be at most 8 in this studio, got 64"),
    ],
)
def test_a_story_over_a_limit_names_field_value_and_limit(limits: Limits, settings: Settings, said: str):
    with pytest.raises(ValueError, match=said):
        limits.check(STORY, settings)


def test_a_story_at_its_limits_and_of_the_models_own_size_is_allowed():
    Limits(frames=3, steps=20, size=512).check(STORY, Settings(steps=20, height=512, width=512))
    Limits(size=64).check(STORY, Settings())
    Limits().check(STORY, Settings(steps=200, height=4096))


@pytest.mark.parametrize(
    "wrong", [{"frames": 0}, {"steps": 1}, {"size": 5000}, {"queue": True}, {"queue": "9"}]
)
def test_a_wrong_limit_names_its_flag(wrong: dict):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number from .*, got "):
        Limits(**wrong)


def test_limits_that_are_given_replace_the_safe_ones_alone():
    assert limits_of(False) == Limits()
    assert limits_of(True) == PUBLIC
    assert limits_of(True, frames=30, steps=None) == replace(PUBLIC, frames=30)
    assert limits_of(False, queue=2) == Limits(queue=2)


def test_strangers_cannot_have_any_number_of_pictures_drawn_together():
    story = Story("a cat", tuple(f"in the {word}" for word in ("forest", "snow")))
    limits_of(True).check(story, Settings())
    with pytest.raises(ValueError, match="batch must be at most 8 in this studio, got 64"):
        limits_of(True).check(story, Settings(batch=64))


def test_widgets_end_at_the_limits_and_say_so():
    limits = Limits(frames=6, steps=12, batch=8)
    boxes = make_story_tab(ModelManager(device="cpu"), limits=limits).form
    assert boxes["batch"].maximum == 8
    assert (boxes["steps"].maximum, boxes["steps"].value) == (12, 12)
    assert boxes["steps"].info.endswith("At most 12 in this studio.")
    assert "At most 6 in this studio." in boxes["scenes"].html_template
    assert Limits(steps=12).fitted({"steps": 30, "seed": 99, "scenes": "a"}) == {
        "steps": 12,
        "seed": 99,
        "scenes": "a",
    }


def test_the_page_and_programmes_are_held_to_the_limits(manager: ModelManager):
    story_tab = make_story_tab(manager, limits=Limits(frames=2))
    updates = story_tab.generate(ANN, **form())
    assert "Scenes must be at most 2 in this studio, got 3" in next(updates)[story_tab.status]
    with pytest.raises(gr.Error, match="Scenes must be at most 2"):
        next(updates)
    assert len(manager.queue) == 0


# -- who can come ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "share", "environ", "expected"),
    [
        ("127.0.0.1", False, {}, False),
        ("127.8.0.1", False, {}, False),
        ("::1", False, {}, False),
        ("localhost", False, {}, False),
        ("127.0.0.1", True, {}, True),
        ("127.0.0.1", False, {"SPACE_ID": "a/b"}, True),
        ("0.0.0.0", False, {}, True),
        ("::", False, {}, True),
        ("192.168.0.7", False, {}, True),
        ("studio.example", False, {}, True),
    ],
)
def test_strangers_come_by_link_space_and_any_address_but_this_machines(host, share, environ, expected):
    assert public(host, share, environ) is expected


def test_users_are_read_from_several_flags_and_from_a_list():
    assert read_auth(["ann:a b", "ben:c:d,cleo:e"]) == [("ann", "a b"), ("ben", "c:d"), ("cleo", "e")]
    assert read_auth([]) == []


@pytest.mark.parametrize("wrong", ["hunter2", ":hunter2", "ann:", "ann:hunter2,hunter3", ""])
def test_a_wrong_sign_in_names_the_flag_and_never_the_password(wrong: str):
    with pytest.raises(ValueError, match=r"^auth: entry [12] is not of the form user:password") as refusal:
        read_auth([wrong])
    assert "hunter" not in str(refusal.value)


def test_a_user_given_twice_is_refused_without_the_passwords():
    with pytest.raises(ValueError, match="auth: user 'ann' is given twice") as refusal:
        read_auth(["ann:hunter2", "ann:hunter3"])
    assert "hunter" not in str(refusal.value)


def test_an_open_studio_is_warned_of_once_it_is_open():
    assert warnings(False, [], {}) == []
    assert warnings(True, [("ann", "x")], {}) == []
    assert warnings(True, [], {"SPACE_ID": "a/b"}) == []
    (line,) = warnings(True, [], {})
    assert "--auth user:password" in line


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the start file would launch, without serving it."""
    calls: list[dict] = []
    monkeypatch.setattr("consistory_svd.studio.create_demo", lambda model, **given: given)
    monkeypatch.setattr(
        "consistory_svd.studio.launch", lambda demo, **given: calls.append({"demo": demo, **given})
    )
    monkeypatch.delenv("SPACE_ID", raising=False)
    return calls


def test_flags_reach_the_studio(launched: list[dict], caplog: pytest.LogCaptureFixture):
    assert run(studio_app.app, ["--max-steps", "12", "--auth", "ann:hunter2", "--auth", "ben:hunter3"]) == 0
    assert launched[0]["demo"]["limits"] == Limits(steps=12)
    assert launched[0]["auth"] == [("ann", "hunter2"), ("ben", "hunter3")]
    assert launched[0]["public"] is False
    assert "hunter" not in caplog.text


def test_the_port_is_a_flag_or_a_variable(launched: list[dict], monkeypatch: pytest.MonkeyPatch):
    for arguments in ([], ["--port", "8001"]):
        assert run(studio_app.app, arguments) == 0
    monkeypatch.setenv("CONSISTORY_SVD_PORT", "8002")
    for arguments in ([], ["--port", "8003"]):
        assert run(studio_app.app, arguments) == 0
    assert [call["port"] for call in launched] == [7860, 8001, 8002, 8003]
    monkeypatch.setenv("CONSISTORY_SVD_PORT", "0")
    assert run(studio_app.app, []) == 2


def test_a_public_host_switches_the_limits_on_and_warns(
    launched: list[dict], caplog: pytest.LogCaptureFixture
):
    assert run(studio_app.app, ["--host", "0.0.0.0", "--max-frames", "4"]) == 0
    assert launched[0]["demo"]["limits"] == limits_of(True, frames=4)
    assert launched[0]["public"] is True
    assert "Start it with --auth" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--auth", "hunter2"], "auth: entry 1 is not of the form user:password"),
        (["--max-frames", "0"], "max-frames: "),
        (["--max-steps", "many"], "max-steps: "),
        (["--port", "0"], "port: "),
    ],
)
def test_wrong_flags_are_one_line(launched, capsys: pytest.CaptureFixture, arguments: list[str], said: str):
    assert run(studio_app.app, arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {said}")
    assert captured.err.count("\n") == 1
    assert "hunter2" not in captured.err + captured.out
    assert launched == []


def test_every_flag_says_what_it_does(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    run(studio_app.app, ["--help"])
    said = capsys.readouterr().out
    for flag in (
        "host",
        "port",
        "share",
        "auth",
        "max-frames",
        "max-steps",
        "max-size",
        "max-queue",
        "max-batch",
        "model",
    ):
        assert f"--{flag}" in said


# -- the line --------------------------------------------------------------------------------------------


def test_the_line_tells_places_and_what_those_before_take():
    queue = GenerationQueue()
    first, second, third = (queue.enqueue(work) for work in (100, 200, 100))
    assert [queue.position(ticket) for ticket in (first, second, third)] == [
        Position(0, 0),
        Position(1, None),
        Position(2, None),
    ]
    with queue.wait_turn(first, threading.Event(), lambda position: None):
        first.seconds_left = 30.0
        assert queue.position(second) == Position(1, 30.0)
        position = queue.position(third)
        assert position.jobs_ahead == 2
        assert position.seconds == pytest.approx(
            30.0 + 2 * 30.0, abs=1.0
        )  # twice the work of the one that runs
    assert queue.position(second) == Position(0, 0)
    assert queue.position(third).seconds == pytest.approx(0.0, abs=0.5)  # the first was quick, by the clock


def test_turns_come_in_the_order_of_joining_and_stopping_gives_the_place_up():
    queue, order, entered = GenerationQueue(), [], threading.Event()
    tickets = [queue.enqueue(1) for _ in range(3)]
    stops = [threading.Event() for _ in range(3)]

    def take(number: int) -> None:
        with queue.wait_turn(tickets[number], stops[number], lambda position: entered.set()):
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in (2, 1)]
    for thread in threads:
        thread.start()
    assert entered.wait(SECONDS)
    assert order == []
    stops[1].set()
    threads[1].join(SECONDS)
    assert order == [1], "who stops does not wait any longer"
    with queue.wait_turn(tickets[0], stops[0], lambda position: None):
        order.append(0)
    threads[0].join(SECONDS)
    assert order == [1, 0, 2]
    assert len(queue) == 0


def test_what_is_no_story_has_its_turn_and_is_not_counted_as_one():
    queue = GenerationQueue()
    switch, story = queue.enqueue(0), queue.enqueue(100)
    assert queue.position(story) == Position(0, None)
    with queue.wait_turn(switch, threading.Event(), lambda position: None):
        pass
    assert queue.position(story) == Position(0, 0)


def test_a_line_that_is_full_says_so():
    queue = GenerationQueue(max_waiting=1)
    queue.check_capacity(joining=1)
    first = queue.enqueue(1)
    queue.enqueue(1)
    with pytest.raises(ValueError, match="The queue is full: 1 job is waiting"):
        queue.enqueue(1)
    queue.leave(first)
    queue.enqueue(1)


def test_a_story_behind_a_full_line_is_refused_on_the_page_and_by_programmes(manager: ModelManager):
    manager.queue, before = GenerationQueue(max_waiting=1), manager.queue
    try:
        for _ in range(2):
            manager.queue.enqueue(1)
        story_tab = make_story_tab(manager)
        updates = story_tab.generate(ANN, **form())
        assert "The queue is full" in next(updates)[story_tab.status]
        with pytest.raises(gr.Error, match="The queue is full"):
            next(updates)
    finally:
        manager.queue = before


def test_a_waiting_story_says_its_place_and_time_and_then_begins(manager: ModelManager):
    story_tab = make_story_tab(manager)
    ticket = manager.queue.enqueue(1)
    ticket.seconds_left = 40.0
    updates = story_tab.generate(ANN, **form())
    said = next(
        status for update in updates if "before yours" in (status := update.get(story_tab.status, ""))
    )
    assert "Another story is before yours. It begins by itself in about 40 s." in said
    manager.queue.leave(ticket)
    assert "3 pictures in " in last(updates, story_tab.status)
    assert story_tab.services.sessions.of(ANN).job.join(SECONDS)
    assert len(manager.queue) == 0


def test_waiting_is_said_in_words():
    waiting = Progress("waiting", 3, jobs_ahead=3, seconds_to_wait=75.0)
    assert "3 other stories are before yours. It begins by itself in about 1 min 15 s." in view.status(
        waiting
    )
    assert "It begins by itself." in view.status(Progress("waiting", 3, jobs_ahead=1))
