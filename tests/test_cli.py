"""The command line: what it writes, and that a wrong value is one line."""

import json
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from consistory_svd.cli.main import app
from consistory_svd.cli.options import run
from consistory_svd.metadata import read_frame, read_story_json
from consistory_svd.presets import PRESETS
from consistory_svd.settings import Settings, SVDFilter

SCENES = ("--scene", "in the forest", "--scene", "on the beach")
CAT = ("generate", "--subject", "a cat", *SCENES)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "story"


def error_of(capsys: pytest.CaptureFixture, arguments: tuple[str, ...]) -> str:
    """What a wrong command line says; fails unless it is one line on stderr and exit code 2."""
    assert run(app, [*arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_story_is_written_with_its_making(tiny_folder: Path, out: Path):
    numbers = ("--seed", "3", "--steps", "2", "--guidance", "2")
    code = run(app, [*CAT, *numbers, "--model", str(tiny_folder), "--device", "cpu", "--out", str(out)])
    assert code == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["frame-01.png", "frame-02.png", "mask-01.png", "mask-02.png", "story.json"]
    record = read_story_json(out)
    assert record.pictures == ("frame-01.png", "frame-02.png")
    assert record.masks == ("mask-01.png", "mask-02.png")
    frame = read_frame(out / "frame-02.png")
    assert frame.prompt == "a photo of a cat on the beach"
    assert (frame.story, frame.settings) == (record.story, record.settings)
    assert (frame.settings.steps, frame.settings.guidance, frame.story.seed) == (2, 2.0, 3)
    assert frame.seed == record.story.frame_seeds[1]


def test_a_story_of_one_scene_needs_no_flag(tiny_folder: Path, out: Path):
    arguments = ["--subject", "a cat", "--scene", "in the forest", "--steps", "2"]
    assert run(app, ["generate", *arguments, "--model", str(tiny_folder), "--out", str(out)]) == 0
    assert read_story_json(out).settings.anchors == 1


def test_the_plain_preset_shares_nothing_and_flags_override_it(tiny_folder: Path, out: Path):
    arguments = ["--preset", "plain", "--steps", "1", "--model", str(tiny_folder), "--out", str(out)]
    assert run(app, [*CAT, *arguments]) == 0
    settings = json.loads((out / "story.json").read_text())["settings"]
    assert (settings["sdsa"], settings["steps"]) == (False, 1)
    assert settings["guidance"] == PRESETS["plain"].guidance


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("generate", *SCENES), "subject"),
        (("generate", "--subject", " ", *SCENES), "subject"),
        (("generate", "--subject", "a cat"), "scene"),
        ((*CAT, "--scene", ""), "scenes"),
        ((*CAT, "--concept", "dog"), "concepts"),
        ((*CAT, "--seed", "-1"), "seed"),
        ((*CAT, "--steps", "abc"), "steps"),
        ((*CAT, "--steps", "2.5"), "steps"),
        ((*CAT, "--steps", "1000000"), "steps"),
        ((*CAT, "--guidance", "nan"), "guidance"),
        ((*CAT, "--anchors", "3"), "anchors"),
        ((*CAT, "--mask-dropout", "1.5"), "mask_dropout"),
        ((*CAT, "--preset", "nonsense"), "preset"),
        ((*CAT, "--k-filter", "quantile:0"), "k-filter"),
        ((*CAT, "--k-filter", "quantile"), "k-filter"),
        ((*CAT, "--k-filter", "all:3"), "k-filter"),
        ((*CAT, "--k-filter", "all:"), "k-filter"),
        ((*CAT, "--k-filter", "most:3"), "k-filter"),
        ((*CAT, "--v-filter", "energy:1"), "v-filter"),
        ((*CAT, "--v-filter", "count:2.5"), "v-filter"),
        ((*CAT, "--v-filter", "energy:nan"), "v-filter"),
        ((*CAT, "--k-filter-reweight", "log:2"), "k-filter-reweight"),
        ((*CAT, "--v-filter-reweight", "exp:-1"), "v-filter-reweight"),
        ((*CAT, "--v-filter-reweight", "exp:"), "v-filter-reweight"),
        ((*CAT, "--model", "no/such folder"), "model"),
        ((*CAT, "--device", "abacus"), "device"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_field(
    capsys: pytest.CaptureFixture, out: Path, arguments: tuple[str, ...], field: str
):
    assert re.match(rf"error: (--)?{field}\b", error_of(capsys, (*arguments, "--out", str(out))))
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("generate", "--stepz", "3"), "--stepz"), (("generate", "--steps"), "--steps"), (("sing",), "sing")],
)
def test_a_flag_that_is_not_there_is_one_line(
    capsys: pytest.CaptureFixture, arguments: tuple[str, ...], said: str
):
    assert said in error_of(capsys, arguments)


def test_the_message_says_value_and_range(capsys: pytest.CaptureFixture, out: Path):
    message = error_of(capsys, (*CAT, "--steps", "abc", "--out", str(out)))
    assert message == "error: steps must be a whole number from 1 to 200, got 'abc'\n"


@pytest.mark.parametrize(
    ("flags", "keys", "values"),
    [
        ((), SVDFilter("quantile", 0.05), SVDFilter("quantile", 0.05)),
        (("--k-filter", "count:3"), SVDFilter("count", 3), SVDFilter("quantile", 0.05)),
        (
            ("--k-filter-reweight", "log", "--v-filter", "energy:0.9", "--v-filter-reweight", "exp:0.5"),
            SVDFilter("quantile", 0.05, "log"),
            SVDFilter("energy", 0.9, "exp", 0.5),
        ),
        (("--k-filter", "all", "--v-filter", "all"), SVDFilter(), SVDFilter()),
    ],
)
def test_the_filters_flags_override_the_preset_and_are_kept(
    tiny_folder: Path, out: Path, flags: tuple[str, ...], keys: SVDFilter, values: SVDFilter
):
    quick = ("--preset", "svd-quantile", "--steps", "2", "--model", str(tiny_folder), "--out", str(out))
    assert run(app, [*CAT, *quick, *flags]) == 0
    for settings in (read_story_json(out).settings, read_frame(out / "frame-02.png").settings):
        assert (settings.k_filter, settings.v_filter) == (keys, values)
        assert not settings.masking


def test_a_wrong_filter_says_what_is_allowed(capsys: pytest.CaptureFixture, out: Path):
    message = error_of(capsys, (*CAT, "--k-filter", "quantile:2", "--out", str(out)))
    assert message == (
        "error: k-filter must be all, count:N (1 or more), quantile:Q (above 0, at most 1) "
        "or energy:Q (above 0, below 1), got 'quantile:2'\n"
    )


def test_a_story_is_not_replaced_unasked(capsys: pytest.CaptureFixture, tiny_folder: Path, out: Path):
    out.mkdir()
    (out / "frame-07.png").write_bytes(b"an earlier story")
    (out / "notes.txt").write_text("not ours")
    quick = (*CAT, "--preset", "plain", "--steps", "1", "--model", str(tiny_folder), "--out", str(out))
    assert error_of(capsys, quick).startswith("error: out must be an empty folder ")
    assert (out / "frame-07.png").exists()
    assert run(app, [*quick, "--overwrite"]) == 0
    assert not (out / "frame-07.png").exists()
    assert (out / "notes.txt").exists()


def test_every_switch_of_the_method_has_a_flag(tiny_folder: Path, out: Path):
    off = ("--no-sdsa", "--no-masking", "--no-injection", "--no-query-blending", "--freeu", "--same-latent")
    arguments = [
        *CAT,
        *off,
        "--random-anchors",
        "--short-first-pass",
        "--steps",
        "2",
        "--model",
        str(tiny_folder),
    ]
    assert run(app, [*arguments, "--out", str(out)]) == 0
    settings = json.loads((out / "story.json").read_text())["settings"]
    assert not any(settings[name] for name in ("sdsa", "masking", "injection", "query_blending"))
    assert all(settings[name] for name in ("freeu", "same_latent", "random_anchors", "short_first_pass"))


def test_scenes_are_told_later_against_kept_anchors(tiny_folder: Path, out: Path, capsys):
    common = ["--preset", "sdsa", "--steps", "2", "--model", str(tiny_folder)]
    kept, later = out / "kept", out / "later"
    first = ["generate", "--subject", "a cat", *SCENES, *common, "--anchors", "1"]
    assert run(app, [*first, "--out", str(out / "first"), "--keep-anchors", str(kept)]) == 0
    more = ["generate", "--subject", "a cat", "--scene", "in the desert", "--anchors-from", str(kept)]
    assert run(app, [*more, *common, "--out", str(later)]) == 0
    (frame,) = json.loads((later / "story.json").read_text())["frames"]
    assert frame["prompt"] == "a photo of a cat in the desert"
    assert frame["picture"] == "frame-02.png"
    capsys.readouterr()
    assert run(app, [*more, *common, "--steps", "3", "--out", str(out / "no")]) == 2
    assert "error: anchor_cache must be made with " in capsys.readouterr().err


def test_help_tells_the_settings_own_ranges(capsys: pytest.CaptureFixture):
    assert run(app, ["generate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "From 1 to 200." in text
    assert "plain, sdsa, consistory" in text
    assert f"default: {Settings.steps}" not in text, "flags that are not given keep the preset"


def test_interrupting_keeps_the_pictures_already_made(tiny_folder: Path, out: Path):
    """Ctrl-C in a story of 400 frames: it ends with what is done, and story.json names it."""
    scenes = [word for number in range(400) for word in ("--scene", f"scene {number}")]
    arguments = ["generate", "--subject", "a cat", *scenes, "--preset", "plain", "--steps", "1"]
    # Whatever it was: a shell that started the tests in the background has Ctrl-C ignored.
    handler = signal.getsignal(signal.SIGINT)
    interrupter = threading.Thread(target=interrupt_after, args=(out / "frame-01.png",))
    interrupter.start()
    try:
        assert run(app, [*arguments, "--model", str(tiny_folder), "--out", str(out)]) == 130
    finally:
        interrupter.join()
    record = read_story_json(out)
    assert record.seconds is None, "the story was told to its end"
    assert 1 <= len(record.pictures) < 400
    assert sorted(path.name for path in out.glob("frame-*.png")) == sorted(record.pictures)
    assert signal.getsignal(signal.SIGINT) is handler


def interrupt_after(path: Path) -> None:
    """Press Ctrl-C as soon as a file is there; after two minutes without it, do nothing."""
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if path.exists():
        signal.raise_signal(signal.SIGINT)
