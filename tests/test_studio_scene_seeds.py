"""Seeds of single pictures stay with their scenes, and with nothing else."""

import os
from dataclasses import replace
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio.form import read_form
from consistory_svd.studio.layout import FORM, form_values
from consistory_svd.studio.own_seeds import SEED_HELP, follow, owner_of

FOX = Story("a fox", (("in the snow", 149952804), "on the beach", ("in a library", 9)), seed=7)
SETTINGS = Settings(steps=2, anchors=1)


def seeds_of(form) -> tuple:
    """The scenes' own seeds that a form says, up to the last one."""
    seeds = [scene.seed for scene in read_form(form)[0].scenes]
    while seeds and seeds[-1] is None:
        seeds.pop()
    return tuple(seeds)


LINES = list(FOX.scene_texts)


def boxes(story: Story = FOX, **changes: Any) -> dict[str, Any]:
    """The form that a story fills, with what the visitor changed since."""
    return {**dict(zip(FORM, form_values(story, SETTINGS), strict=True)), **changes}


def page(form: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], str]:
    """The form as the page has it after a change, and what the seed's box says."""
    form = {**form, **changes}
    names = ("subject", "scenes", "seeds", "seeds_of")
    *new, seed = follow(*(form[name] for name in names))
    fresh = {name: value for name, value in zip(names[2:], new, strict=True) if value != gr.skip()}
    return {**form, **fresh}, seed["info"].removeprefix(SEED_HELP).strip()


@pytest.mark.parametrize(
    ("changes", "seeds"),
    [
        ({}, (149952804, None, 9)),
        ({"subject": "an owl", "concept": "owl", "scenes": "at sea\nat home\nin bed"}, ()),
        ({"subject": "an owl", "concept": "owl"}, ()),
        ({"scenes": "\n".join(LINES[::-1])}, (9, None, 149952804)),
        ({"scenes": "\n".join(LINES[1:])}, (None, 9)),
        ({"scenes": "\n".join(["at sea", *LINES])}, (None, 149952804, None, 9)),
        ({"scenes": "\n".join(["at sea", *LINES[1:]])}, (None, None, 9)),
        ({"seeds": "2=5"}, (None, 5)),
        ({"seeds": ""}, ()),
    ],
    ids=str,
)
def test_seeds_stay_with_their_scenes(changes: dict[str, Any], seeds: tuple[int | None, ...]):
    assert seeds_of(boxes(**changes)) == seeds
    shown, _ = page(boxes(), **changes)
    assert seeds_of(shown) == seeds, "the page shows what is told"
    alone = {**shown, "seeds_of": owner_of("", "", "")}
    assert seeds_of(alone) == seeds, "and the box alone says it"


def test_scenes_that_say_the_same_keep_their_order():
    alike = replace(FOX, scenes=("in the snow",) * 3)
    assert read_form(boxes(alike, scenes="in the snow\n" * 3))[0].scenes == alike.scenes


def test_what_is_undone_brings_the_seeds_back_and_the_page_says_what_became_of_them():
    form, said = page(boxes())
    assert said == "Pictures 1 and 3 have seeds of their own, under Advanced."
    form, said = page(form, subject="an owl")
    assert form["seeds"] == ""
    assert said == "Seeds of 2 single pictures are not used: the subject or the scene is another one now."
    form, said = page(form, subject="a fox", scenes="\n".join(["at sea", *LINES[1:]]))
    assert form["seeds"] == "3=9"
    assert "Picture 3 has a seed of its own, under Advanced. A single picture's seed is not used" in said
    form, said = page(form, scenes="\n".join(LINES))
    assert form["seeds"] == "1=149952804, 3=9"
    assert "not used" not in said


def test_seeds_that_are_typed_belong_to_the_scenes_they_were_typed_for():
    form, _ = page(boxes(replace(FOX, scenes=FOX.scene_texts)))
    form, _ = page(form, seeds="2=5")
    form, _ = page(form, scenes="\n".join(LINES[::-1][1:]))
    assert form["seeds"] == "1=5"


def test_a_seed_that_is_rolled_takes_the_others_away():
    form, said = page(boxes(), seeds="")
    assert (seeds_of(form), said) == ((), "")


def test_a_wrong_seed_is_still_refused_by_name():
    form, _ = page(boxes(), seeds="1=x")
    with pytest.raises(ValueError, match=r"^seeds must be .*, got '1=x'$"):
        read_form(form)
