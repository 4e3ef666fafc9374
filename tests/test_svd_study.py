"""The study of the SVD filter: leakage of images with known backgrounds, differences and verdicts."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.svd_study import __main__ as study
from benchmarks.svd_study import leakage
from benchmarks.svd_study.claims import Claim, Groups, Rows, judge
from benchmarks.svd_study.numbers import between_groups, interval, tables
from benchmarks.svd_study.report import write_report
from benchmarks.svd_study.rows import ROWS
from training.world import render

SCENES = ("beach", "forest", "snow")


@pytest.fixture(scope="module")
def known() -> dict[str, leakage.Background]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "RENDERS", 6)  # rendering is slow
        return leakage.scene_backgrounds(SCENES, "photo")


def drawn(scene: str, subject: str, seed: int) -> leakage.Background:
    picture = render(subject, scene, "standing", "photo", np.random.default_rng(seed))
    return leakage.background(Image.fromarray(picture.image), Image.fromarray(picture.mask))


def test_confusion_separates_clean_from_leaking_backgrounds(known: dict) -> None:
    own = [drawn(scene, "cat", seed) for seed, scene in enumerate(SCENES)]
    all_beach = [drawn("beach", "cat", seed) for seed in range(3)]
    clean, leaking = leakage.confusion(own, SCENES, known), leakage.confusion(all_beach, SCENES, known)
    assert clean < 0.4 < leaking
    assert leakage.likeness(own) < leakage.likeness(all_beach) - 0.1


def test_the_subject_is_left_out() -> None:
    for seed in range(3):
        paint = np.zeros((64, 64, 3), np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        mask[16:40, 20:44] = 255
        one, other = paint.copy(), paint.copy()
        other[mask > 0] = np.random.default_rng(seed).integers(0, 256, 3)
        shown = [leakage.background(Image.fromarray(p), Image.fromarray(mask)) for p in (one, other)]
        assert leakage.distance(*shown) == 0
        assert leakage.distance(*(leakage.background(Image.fromarray(p), None) for p in (one, other))) > 0


def test_a_story_without_other_scenes_has_no_confusion(known: dict) -> None:
    assert np.isnan(leakage.confusion([drawn("beach", "cat", 0)], ["beach"], known))
    assert np.isnan(leakage.likeness([drawn("beach", "cat", 0)]))


def make_row(name: str, colors: list[list[str]], likeness: float = 0.5) -> dict[str, Any]:
    """A row whose stories' frames were read in the given colours."""
    named = {"subject": "cat", "scene": "beach", "action": "standing"}
    stories = [
        {
            "entry": entry,
            "group": "animals" if entry % 2 else "things",
            "subject": "a cat",
            "named": [named] * len(frames),
            "read": [{**named, "color": color, "pattern": "plain", "accessory": "none"} for color in frames],
            "confusion": 0.2,
            "likeness": likeness,
            "seconds": 1.0,
        }
        for entry, frames in enumerate(colors)
    ]
    return {"row": name, "steps": 10, "settings": {}, "stories": stories}


def test_intervals_and_paired_differences() -> None:
    mixed = make_row("a", [["red", "red"], ["red", "blue"], ["red", "red"], ["blue", "red"]])
    value, low, high = interval(tables(mixed, "main colour"))
    assert value == 0.5
    assert 0 <= low < 0.5 < high <= 1
    # Identity is the mean of three attributes, two of which agree everywhere.
    assert interval(tables(mixed, "identity"))[0] == pytest.approx((0.5 + 1 + 1) / 3)
    # Paired with itself nothing differs, whichever stories are drawn.
    assert interval(tables(mixed, "identity"), tables(mixed, "identity")) == (0, 0, 0)
    alike = make_row("b", [["red", "red"]] * 4)
    assert interval(tables(alike, "main colour"), tables(mixed, "main colour"))[0] == 0.5


def test_report_has_the_differences_of_the_rows(tmp_path: Path) -> None:
    rows = {name: make_row(name, [["red", "blue"]] * 4) for name in ROWS}
    rows["log2"] = make_row("log2", [["red", "red"]] * 4, likeness=0.9)
    fresh = {"masks": rows["log"], "energy 0.8, injection": make_row("x", [["red", "red"]] * 4)}
    write_report(rows, tmp_path, (), fresh)
    text = (tmp_path / "svd-study.md").read_text()
    assert "not measured yet" not in text  # every row that a claim compares is one of ROWS
    assert "| log2 | 100.0% (100% to 100%) | 100.0% (100% to 100%)" in text
    assert "identity: log2 against no masks | +33.3 points (+33.3 to +33.3; more)" in text
    assert "identity: log against no masks | +0.0 points (+0.0 to +0.0; no certain difference)" in text
    assert "likeness: log2 against no masks | +0.400 (+0.400 to +0.400; more)" in text
    assert 'Better than "masks" on identity' in text
    assert "log2 (+33.3 points" in text
    assert "| energy 0.8, injection against masks | +33.3 points (+33.3 to +33.3; more) |" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {"svd-study-scatter.png", "svd-study-grid.png"}


def test_verdict_follows_from_the_intervals() -> None:
    alike, mixed = [["red", "red"]] * 4, [["red", "blue"]] * 4
    rows = {"a": make_row("a", alike), "b": make_row("b", mixed), "c": make_row("c", mixed)}
    more, less, same = (Rows("a", "b", expected=sign) for sign in ("more", "less", "same"))
    assert judge(Claim("", (more,)), rows) == "holds"
    assert judge(Claim("", (less,)), rows) == "does not hold: the opposite is seen"
    assert judge(Claim("", (same,)), rows) == "does not hold: the opposite is seen"
    unseen = Claim("", (Rows("b", "c"), Rows("b", "a", expected="same")))
    assert judge(unseen, rows) == "does not hold: no such difference is seen"
    assert judge(Claim("", (more, Rows("b", "c", expected="same"))), rows) == "holds"
    assert judge(Claim("", (Rows("b", "c", expected="same"),)), rows) == "not refuted"
    assert judge(Claim("", (Rows("b", "a", expected="same"),)), rows) == "not refuted"
    assert judge(Claim("", (more, less)), rows) == "holds in part"
    assert judge(Claim("", (more, Rows("a", "d"))), rows) == "not measured yet"
    assert judge(Claim("", (Rows("a", "b", expected=None),)), rows) == "measured"


def test_groups_are_compared_within_a_row() -> None:
    # Odd entries are animals, even ones things.
    row = make_row("a", [["red", "blue"], ["red", "red"]] * 3)
    assert between_groups(row, "main colour", "animals", "things") == (1, 1, 1)
    assert judge(Claim("", (Groups("a", "animals", "things"),)), {"a": row}) == "holds"
    assert judge(Claim("", (Groups("a", "things", "animals"),)), {"a": row}).startswith("does not hold")
    assert judge(Claim("", (Groups("a", "people", "animals"),)), {"a": row}) == "not measured yet"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["generate", "--out", "x", "--only", "nothing"], "only"),
        (["generate", "--out", "x", "--part", "3", "--parts", "2"], "part"),
        (["report", "--out", "empty", "--docs", "docs"], "out"),
    ],
)
def test_wrong_values_name_the_field(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    field: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["svd_study", *arguments])
    assert study.run(study.app) == 2
    assert re.match(rf"error: (--)?{field}\b", capsys.readouterr().err)


def test_rows_of_different_lengths_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name, stories in (("log", 2), ("log2", 3)):
        row = make_row(name, [["red", "red"]] * stories)
        (tmp_path / f"{name}.json").write_text(json.dumps(row))
    monkeypatch.setattr("sys.argv", ["svd_study", "report", "--out", str(tmp_path), "--docs", str(tmp_path)])
    assert study.run(study.app) == 2
    assert "mixes rows" in capsys.readouterr().err
