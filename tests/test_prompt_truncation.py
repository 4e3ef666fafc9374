"""What a model does not read of its prompts is said, in words, once."""

import logging
from dataclasses import replace
from pathlib import Path

from consistory_svd.compat import TRUNCATION_WARNINGS, quiet_libraries

import pytest

from consistory_svd import Model, Settings, Started, Story, generate
from consistory_svd.models.model import load_model
from consistory_svd.prompt_truncation import left_out, most_tokens, unread
from consistory_svd.sampling import encode_prompts

# Words that the tiny tokenizer knows as one token each: with the style, 68 of the 75 that are read.
LONG = f"a {' '.join(['red'] * 63)} fox"
QUICK = Settings(steps=2, guidance=1.0)


def started(model: Model, story: Story, settings: Settings = QUICK) -> Started:
    events = generate(model, story, settings)
    first = next(events)
    events.close()
    return first


def test_a_scene_that_is_cut_away_is_said_with_its_picture(small_model: Model) -> None:
    scenes = (
        "on the beach",
        "in the forest with a red hat in the snow",
        "in the forest in the red snow on snow",
    )
    said = started(small_model, Story(LONG, scenes)).notes
    assert said == (
        "the model reads 77 tokens of a prompt; not read: 'in the snow' (picture 2), 'on snow' (picture 3)",
    ), said


def test_prompts_that_are_read_whole_are_not_talked_of(small_model: Model, story: Story) -> None:
    assert started(small_model, story).notes == ()
    words = " ".join(["red"] * 75)
    assert left_out(small_model.pipe, [words, f"{words} hat"]) == ("", "hat")


def test_a_word_that_is_read_in_part_counts_as_left_out(small_model: Model) -> None:
    (rest,) = left_out(small_model.pipe, [f"{' '.join(['red'] * 73)} zebra in the snow"])
    assert rest == "zebra in the snow"


def test_the_tokenizer_that_reads_less_decides(tiny_folder: Path) -> None:
    pipe = load_model(str(tiny_folder), device="cpu").pipe
    pipe.tokenizer_2 = type(pipe.tokenizer_2).from_pretrained(tiny_folder / "tokenizer_2", model_max_length=6)
    assert most_tokens(pipe) == 6
    assert left_out(pipe, ["a photo of a fox"]) == ("fox",)


def test_pictures_with_the_same_end_are_named_together_and_many_are_counted(small_model: Model) -> None:
    story = Story(f"{LONG} {' '.join(['red'] * 7)}", ("in the snow", "on the beach", "in the snow"), seed=4)
    (said,) = unread(small_model.pipe, story, QUICK, range(3))
    assert said.endswith("not read: 'in the snow' (pictures 1, 3), 'on the beach' (picture 2)"), said
    many = replace(story, scenes=tuple(f"in the {letter}" for letter in "abcdefghij"))
    (said,) = unread(small_model.pipe, many, QUICK, range(10))
    assert said.endswith("'in the f' (picture 6), and the ends of 4 more"), said


def test_of_a_part_of_the_story_its_own_pictures_are_named_alone(small_model: Model) -> None:
    story = Story(f"{LONG} {' '.join(['red'] * 7)}", ("in the snow", "on the beach"))
    (said,) = unread(small_model.pipe, story, QUICK, [1])
    assert "'on the beach' (picture 2)" in said
    assert "snow" not in said


def test_a_picture_whose_subject_is_not_read_is_named(small_model: Model) -> None:
    far = f"in the {' '.join(['red'] * 70)} forest with a hat"
    story = Story("a fox", ("with a hat", far), concepts=("hat",))
    assert (
        "picture 2: 'hat' is not read, so the subject is not found there" in started(small_model, story).notes
    )


def test_a_subject_that_no_picture_reads_is_refused_where_it_is_looked_for(small_model: Model) -> None:
    story = Story(f"a {' '.join(['red'] * 80)} fox", ("in the snow", "on the beach"))
    with pytest.raises(
        ValueError, match=r"^subject: 'fox' comes too late in the prompts, .* reads 77 tokens"
    ):
        generate(small_model, story, QUICK)
    assert "not read" in started(small_model, story, replace(QUICK, sdsa=False)).notes[0]


def test_a_negative_prompt_that_is_cut_is_said_where_it_counts(small_model: Model, story: Story) -> None:
    long = replace(story, negative=f"{' '.join(['red'] * 75)} hat")
    assert started(small_model, long, replace(QUICK, guidance=5.0)).notes == (
        "negative: the model reads 77 tokens of it; not read: 'hat'",
    )
    assert started(small_model, long).notes == ()


def test_the_storybook_says_where_it_stops_reading() -> None:
    model = load_model("storybook", device="cpu")
    subject = f"a small old {' '.join(['red'] * 38)} cat with a hat"
    (said,) = unread(model.pipe, Story(subject, ("on the beach",), concepts=("red",)), QUICK, [0])
    assert said.startswith("the model reads 48 tokens of a prompt; not read: ")
    assert "on the beach' (picture 1)" in said


def test_the_libraries_own_words_about_it_are_silent_and_no_others(tiny_folder: Path) -> None:
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in TRUNCATION_WARNINGS]
    quiet_libraries()
    for logger in loggers:
        logger.addHandler(handler)
    try:
        pipe = load_model(str(tiny_folder), device="cpu").pipe  # which has not warned yet
        encode_prompts(pipe, [f"{LONG} in the forest with a red hat in the snow"], "", 1.0)
        assert heard == []
        for logger in loggers:
            logger.warning("something else")
        assert heard == ["something else"] * 2
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
