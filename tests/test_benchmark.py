"""The suites and numbers of the benchmarks, and the command on a tiny model."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import figures, quality, score_speed, storybook
from benchmarks.suite import load_suite
from consistory_svd.cli.options import run
from consistory_svd.metrics.vocabulary import attributes_in, vocabulary
from consistory_svd.presets import PRESETS

SUITE = Path(__file__).parents[1] / "benchmarks" / "suites" / "storybook.yaml"


def make_story(
    colors: str,
    entry: int = 0,
    subject: str = "cat",
    named: dict[str, str] | None = None,
    seconds: float = 1.0,
) -> figures.GeneratedRow:
    """A story whose frames show the given colours ("red red blue"), always plain and with a scarf."""
    read = tuple(
        {"subject": "cat", "color": color, "pattern": "plain", "accessory": "scarf", "scene": "forest"}
        for color in colors.split()
    )
    return figures.GeneratedRow(entry, subject, (named or {},) * len(read), read, seconds=1.0)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_agreement_counts_pairs_of_free_attributes():
    assert figures.agreement(make_story("red red red blue")).tolist() == [[3, 6], [6, 6], [6, 6]]
    assert figures.agreement(make_story("red blue", named={"color": "red"})).tolist() == [
        [0, 0],
        [1, 1],
        [1, 1],
    ]


def test_identity_agreement_averages_over_the_attributes_that_are_free():
    assert figures.figure([make_story("red blue")], figures.agreement, rng()).value == pytest.approx(2 / 3)
    named = figures.figure([make_story("red blue", named={"color": "red"})], figures.agreement, rng())
    assert (named.value, named.parts) == (1.0, (None, 1.0, 1.0))


def test_chance_compares_other_generations_of_the_same_subject():
    cats = [make_story("red red", 0), make_story("red blue", 1)]
    bus = make_story("green red", 2, subject="bus")
    # Consistency within a story must not raise chance: the cats are compared with each other only.
    assert figures.chance(cats[0], [*cats, bus])[0].tolist() == [0.5, 1]
    # There is one bus, so it is compared with all others: red matches 3 of 4 frames, green none.
    assert figures.chance(bus, [*cats, bus])[0].tolist() == [3 / 8, 1]
    assert figures.chance(bus, [bus])[0].tolist() == [0, 0]


def test_perfect_consistency_with_free_identities_stays_at_chance():
    """Stories that are each consistent, over 5 colours drawn evenly: agreement 1, chance 1/5."""
    colors = ("red", "green", "blue", "pink", "gray")
    stories = [make_story(" ".join([color] * 4), number) for number, color in enumerate(colors * 40)]
    assert figures.figure(stories, figures.agreement, rng()).parts[0] == 1.0
    chance = figures.figure(stories, lambda one: figures.chance(one, stories), rng()).parts[0]
    assert chance == pytest.approx(1 / 5, abs=0.01)


def test_accuracy_counts_what_the_prompt_names():
    story = make_story("red blue", named={"color": "red", "pattern": "striped", "scene": "forest"})
    assert figures.named_right(story, ("scene",)).tolist() == [[2, 2]]
    assert figures.named_right(story, figures.IDENTITY).tolist() == [[1, 4]]
    assert (
        figures.figure([make_story("red")], lambda one: figures.named_right(one, ("scene",)), rng()).value
        is None
    )


def test_interval_is_reproducible_and_has_the_expected_width():
    stories = [make_story("red red" if number % 2 else "red blue", number) for number in range(40)]
    first, again = (figures.figure(stories, figures.agreement, rng()) for _ in range(2))
    assert first == again
    low, high = first.interval
    # The mean of 40 halves has a standard error of 0.079; a third of it comes through the average.
    assert low == pytest.approx(first.value - 1.96 * 0.079 / 3, abs=0.01)
    assert high == pytest.approx(first.value + 1.96 * 0.079 / 3, abs=0.01)


def test_generations_of_an_entry_are_resampled_together():
    """Ten generations of two entries are two draws, not ten."""
    stories = [make_story("red red" if entry else "red blue", entry) for entry in (0, 1) for _ in range(5)]
    low, high = figures.figure(stories, figures.agreement, rng()).interval
    assert (low, high) == (pytest.approx(2 / 3), pytest.approx(1.0))


def test_suite_has_24_stories_of_4_scenes_and_16_subjects():
    entries = load_suite(SUITE)
    assert [len(entry.story.scenes) for entry in entries] == [4] * 24
    assert len({entry.story.subject for entry in entries}) == 16
    assert {entry.group for entry in entries} == {"animals", "people", "things"}
    assert {len(entry.story.scenes) for entry in load_suite(SUITE, frames=2)} == {2}


@pytest.mark.parametrize("concepts", ["cat", "[cat]"])
def test_concept_token_may_be_a_word_or_a_list(tmp_path: Path, concepts: str):
    path = tmp_path / "suite.yaml"
    path.write_text(
        f"pets:\n  - subject: a cat\n    concept_token: {concepts}\n    settings: [in the snow]\n"
    )
    assert load_suite(path)[0].story.concepts == ("cat",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "holds no groups"),
        ("pets: {}", "group 'pets': not a list of entries"),
        ("pets: [a cat]", "entry 1: 'a cat' is not an entry"),
        ("pets: [{subject: a cat, settings: [at home], prompts: 3}]", "entry 1: prompts: no such key"),
        ("pets: [{subject: a cat}]", "entry 1: settings: is missing"),
        ("pets: [{subject: a cat, settings: at home}]", "settings: 'at home' is not a list"),
        ("pets: [{subject: a cat, settings: [at home], concept_token: dog}]", "entry 1: concepts"),
        ("pets: [", "is not YAML"),
    ],
)
def test_error_names_the_broken_entry(tmp_path: Path, text: str, expected: str):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^suite: ") as caught:
        load_suite(path)
    assert expected in str(caught.value)


def test_error_names_a_missing_suite(tmp_path: Path):
    with pytest.raises(ValueError, match=r"suite: .* cannot be read: No such file"):
        load_suite(tmp_path / "suite.yaml")


def test_command_generates_a_suite_with_a_preset(tmp_path: Path, tiny_folder: Path):
    suite, table = tmp_path / "suite.yaml", tmp_path / "table.json"
    suite.write_text(
        "pets: [{subject: a red cat, settings: [in the forest]}, {subject: a cat, settings: [at night]}]"
    )
    flags = [
        "--suite",
        suite,
        "--preset",
        "plain",
        "--json",
        table,
        "--model",
        tiny_folder,
        "--device",
        "cpu",
    ]
    assert run(storybook.app, [str(flag) for flag in flags]) == 0
    [result] = json.loads(table.read_text())
    assert (result["preset"], result["stories"], result["frames"], result["seeds"]) == ("plain", 2, 2, 1)
    assert result["settings"] == dataclasses.asdict(PRESETS["plain"])
    # One frame per story: no pairs within it, one other story to agree with by chance, one named colour.
    assert result["identity_agreement"] is None
    assert result["identity_chance_of"]["color"] is None
    assert result["identity_chance_of"]["pattern"] in (0.0, 1.0)
    assert result["named_attribute_accuracy"] in (0.0, 1.0)
    assert result["scene_accuracy"] in (0.0, 0.5, 1.0)
    assert result["subject_accuracy"] in (0.0, 0.5, 1.0)
    low, high = result["intervals"]["seconds_per_frame"]
    assert 0 < low <= result["seconds_per_frame"] <= high


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "plain"], "--suite is required"),
        (["--suite", str(SUITE)], "--preset is required"),
        (["--suite", str(SUITE), "--preset", "nonsense"], "preset must be one of "),
        (["--suite", str(SUITE), "--preset", "consistory", "--frames", "1"], "anchors must be 1 "),
        (["--suite", "nowhere.yaml", "--preset", "plain"], "suite: nowhere.yaml cannot be read"),
    ],
)
def test_wrong_option_gives_a_one_line_error(
    capsys: pytest.CaptureFixture, tmp_path: Path, flags: list[str], message: str
):
    assert run(storybook.app, [*flags, "--json", str(tmp_path / "table.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_no_two_generations_share_a_seed():
    seeds = [generation.seed for generation in storybook.generations(load_suite(SUITE), seeds=3)]
    assert len(set(seeds)) == len(seeds) == 72


def test_quality_prompts_name_what_they_are_counted_for():
    to_generate = quality.to_generate(vocabulary(), prompts=200)
    prompts = [prompt for generation in to_generate for prompt in generation.entry.story.prompts]
    named = [attributes_in(prompt) for prompt in prompts]
    assert len(prompts) == 400
    assert all({"subject", "scene", "style"} <= set(one) for one in named)
    assert ["color" in one for one in named] == [True] * 200 + [False] * 200
    assert not any({"pattern", "accessory"} & set(one) for one in named)
    assert {one["subject"] for one in named} == set(vocabulary()["subject"])


def test_suite_prompts_name_subject_and_scene_but_no_identity():
    for entry in load_suite(SUITE):
        for prompt in entry.story.prompts:
            named = attributes_in(prompt)
            assert {"subject", "scene"} <= set(named), prompt
            assert not set(figures.IDENTITY) & set(named), prompt


def test_sample_images_have_the_size_and_a_mask():
    some = score_speed.sample_images(2, 96)
    assert [image.size for image in (*some.images, *some.masks)] == [(96, 96)] * 4
    assert all(0.02 < np.asarray(mask).mean() / 255 < 0.6 for mask in some.masks)
    assert some.prompts[0] != some.prompts[1]


def test_memory_growth_keeps_the_peak_after_memory_is_freed():
    with score_speed.memory_growth() as peak:
        held = np.ones(30_000_000)  # 0.24 GB
        deadline = time.monotonic() + 30
        while peak[0] < 0.2 and time.monotonic() < deadline:
            time.sleep(score_speed.SAMPLE_INTERVAL)
        del held
    assert 0.2 < peak[0] < 0.4
