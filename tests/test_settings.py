"""What a person may ask for, and what a wrong value is told."""

import dataclasses
import math

import pytest

from consistory_svd.errors import FieldError
from consistory_svd.fields import field_of
from consistory_svd.presets import PRESETS, preset
from consistory_svd.settings import Settings, check
from consistory_svd.story import Story, find_concept


@pytest.mark.parametrize(
    ("subject", "concept"),
    [
        ("a fluffy red cat with a hat", "cat"),
        ("a cup of tea", "cup"),
        ("the Robot", "Robot"),
        ("fox", "fox"),
        ("an old doctor wearing glasses", "doctor"),
        ("a dog, tired and wet", "dog"),
        ("a girl who sings", "girl"),
        ("a bear that dances in the rain", "bear"),
        ("a running dog", "dog"),
        ("a brown dog running", "dog"),
        ("a small owl in a scarf", "owl"),
        ("my T-rex", "T-rex"),
        ("a cat and a dog", "cat"),
        ("ein Mädchen", "Mädchen"),
    ],
)
def test_the_concept_is_the_head_noun_as_written(subject: str, concept: str) -> None:
    assert find_concept(subject) == concept
    assert Story(subject, ("in the forest",)).concept_words == (concept,)


@pytest.mark.parametrize("subject", ["the", "...", "a,"])
def test_a_subject_without_a_noun_asks_for_a_concept(subject: str) -> None:
    with pytest.raises(ValueError, match=r"^subject must be a phrase with a noun"):
        Story(subject, ("in the forest",))


def test_prompts_are_joined_by_single_spaces() -> None:
    scenes = ("in the  forest ", "on the beach")
    assert Story(" a cat", scenes, style="a photo of ").prompts == (
        "a photo of a cat in the forest",
        "a photo of a cat on the beach",
    )
    assert Story("a cat", scenes, style="").prompts == ("a cat in the forest", "a cat on the beach")


def test_concepts_may_stand_in_the_subject_or_in_any_scene() -> None:
    scenes = ("in the forest", "with a Red hat")
    assert Story("a cat", scenes, concepts=("CAT", "red hat")).concept_words == ("CAT", "red hat")
    assert Story("a cat", list(scenes)).scene_texts == scenes


@pytest.mark.parametrize("concept", ["dog", "ca", "cats", "cat the"])
def test_a_concept_that_is_in_no_prompt_is_an_error_that_says_so(concept: str) -> None:
    with pytest.raises(ValueError, match=rf"^concepts must be words of the subject .*, got '{concept}'$"):
        Story("a cat", ("in the forest",), concepts=(concept,))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("subject", " "),
        ("subject", 3),
        ("subject", "a" * 1001),
        ("scenes", ()),
        ("scenes", "in the forest"),
        ("scenes", ("in the forest", " ")),
        ("scenes", ("in the forest", None)),
        ("scenes", ("x",) * 1001),
        ("style", None),
        ("concepts", "cat"),
        ("concepts", ("",)),
        ("negative", 0),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 1.5),
        ("seed", True),
    ],
)
def test_a_wrong_story_names_the_field(field: str, wrong: object) -> None:
    values = {"subject": "a cat", "scenes": ("in the forest",), field: wrong}
    with pytest.raises(FieldError) as error:
        Story(**values)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("steps", 0),
        ("steps", 201),
        ("steps", 30.0),
        ("steps", True),
        ("steps", None),
        ("guidance", math.nan),
        ("guidance", math.inf),
        ("guidance", -0.1),
        ("guidance", "5"),
        ("height", 63),
        ("height", 65),
        ("width", 1e9),
        ("width", 4104),
        ("sdsa", 1),
        ("masking", None),
        ("mask_dropout", 1.01),
        ("mask_dropout", False),
        ("anchors", 0),
        ("batch", 10**6),
        ("preview_every", -1),
    ],
)
def test_wrong_settings_name_field_value_and_what_is_allowed(field: str, wrong: object) -> None:
    with pytest.raises(FieldError, match=rf"^{field} must be .*, got {wrong!r}$") as error:
        Settings(**{field: wrong})
    assert (error.value.field, repr(error.value.value)) == (field, repr(wrong))


def test_limits_are_allowed_and_come_from_the_same_definition() -> None:
    for name in ("steps", "guidance", "height", "width", "mask_dropout", "anchors", "batch", "preview_every"):
        limits = field_of(Settings, name)
        assert getattr(Settings(**{name: limits.minimum}), name) == limits.minimum
        assert getattr(Settings(**{name: limits.maximum}), name) == limits.maximum
        with pytest.raises(ValueError, match=rf"^{name} must be "):
            Settings(**{name: limits.maximum + 8})


@pytest.mark.parametrize("owner", [Story, Settings])
def test_every_field_is_described(owner: type) -> None:
    for field in dataclasses.fields(owner):
        assert field_of(owner, field.name).label
        assert field_of(owner, field.name).help.endswith(".")


def test_presets() -> None:
    assert not preset("plain").sdsa
    assert preset("sdsa") == Settings(sdsa=True, masking=True, anchors=2, mask_dropout=0.5)
    assert preset("consistory") == Settings(query_blending=True, injection=True)
    with pytest.raises(ValueError, match=r"^preset must be one of plain, sdsa, consistory.*, got 'nice'$"):
        preset("nice")
    assert set(PRESETS) >= {"plain", "consistory"}


def test_more_anchors_than_frames_matter_only_while_sharing(story: Story) -> None:
    check(story, Settings(anchors=4))
    check(story, Settings(anchors=5, sdsa=False))
    with pytest.raises(ValueError, match=r"^anchors must be a whole number from 1 to 4 .*, got 5$"):
        check(story, Settings(anchors=5))
    with pytest.raises(ValueError, match=r"^anchors must be 1 in a story of one scene, got 2$"):
        check(dataclasses.replace(story, scenes=story.scenes[:1]), Settings(anchors=2))
    with pytest.raises(ValueError, match=r"^steps must be at least 2 .*, got 1$"):
        check(story, Settings(steps=1))
    check(story, Settings(steps=1, sdsa=False))


def test_frame_seeds_depend_on_seed_and_position_alone() -> None:
    short = Story("a cat", ("in the forest", "on the beach"), seed=5)
    long = Story("a dog", tuple(f"scene {i}" for i in range(1000)), seed=5)
    assert long.frame_seeds[:2] == short.frame_seeds
    assert len(set(long.frame_seeds)) == 1000
    assert all(0 <= seed < 2**32 for seed in long.frame_seeds)
    assert set(long.frame_seeds).isdisjoint(Story("a dog", long.scenes, seed=6).frame_seeds)
