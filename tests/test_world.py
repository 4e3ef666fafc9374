"""The storybook world: its pictures are what they are said to be."""

import numpy as np
import pytest

from consistory_svd.metrics.vocabulary import attributes_in
from training.captions import caption, full_caption, vocabulary
from training.text import random_truth
from training.world import draw_identity, render, render_random
from training.world.brush import PARTS
from training.world.styles import STYLE_FILTERS
from training.world.vocabulary import ACCESSORIES, ACTIONS, COLORS, PATTERNS, SCENES, STYLES, SUBJECTS


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_can_be_drawn_doing_everything(subject):
    generator = rng(1)
    for action in ACTIONS:
        picture = render(subject, "meadow", action, "photo", generator)
        assert picture.image.shape == (256, 256, 3)
        assert picture.image.dtype == np.uint8
        assert picture.mask.shape == (256, 256)
        # Large enough to be recognised, small enough to leave a scene.
        assert 0.05 < picture.mask.mean() < 0.42


@pytest.mark.parametrize("scene", SCENES)
def test_scenes_differ_every_time(scene):
    generator = rng(2)
    first, second = (render("cat", scene, "standing", "photo", generator).image for _ in range(2))
    assert np.abs(first.astype(int) - second).mean() > 1


def test_the_same_generator_draws_the_same_picture():
    first, second = (render_random(rng(3)) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert first.attributes == second.attributes


def test_the_mask_is_where_the_subject_is():
    # The same picture in another colour differs inside the mask and nowhere else.
    identity = [draw_identity("bear", rng(4), color=color, pattern="plain") for color in ("red", "blue")]
    red, blue = (render("bear", "snow", "standing", "photo", rng(5), who) for who in identity)
    changed = np.abs(red.image.astype(int) - blue.image).max(2) > 24
    assert changed.any()
    assert (changed & ~red.mask).sum() < 0.02 * red.mask.sum()
    assert (changed & red.mask).sum() > 0.25 * red.mask.sum()


@pytest.mark.parametrize("color", COLORS)
def test_the_main_colour_is_what_most_of_the_subject_has(color):
    identity = draw_identity("bear", rng(6), color=color, pattern="plain", accessory="none")
    picture = render("bear", "meadow", "standing", "photo", rng(7), identity)
    inside = picture.image[picture.mask].astype(int)
    distance = {name: np.abs(inside - np.array(value)).sum(1) for name, value in COLORS.items()}
    nearest = np.array(list(COLORS))[np.stack(list(distance.values())).argmin(0)]
    names, counts = np.unique(nearest, return_counts=True)
    assert color in names[np.argsort(counts)[-2:]]


def test_styles_look_different_and_keep_the_subject_in_place():
    pictures = {style: render("fox", "beach", "standing", style, rng(8)) for style in STYLES}
    assert np.array_equal(pictures["photo"].mask, pictures["pencil"].mask)
    for one, other in (("photo", "watercolor"), ("photo", "pencil"), ("watercolor", "pencil")):
        assert np.abs(pictures[one].image.astype(int) - pictures[other].image).mean() > 6


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("subject", ("unicorn", "beach", "standing", "photo")),
        ("scene", ("cat", "moon", "standing", "photo")),
        ("action", ("cat", "beach", "flying", "photo")),
        ("style", ("cat", "beach", "standing", "oil")),
    ],
)
def test_unknown_names_are_refused(field, arguments):
    with pytest.raises(ValueError, match=rf"^{field}: .* one of "):
        render(*arguments, rng())


def test_the_part_map_says_where_eyes_and_accessory_are():
    who = draw_identity(
        "bear", rng(4), color="brown", accessory="hat", accessory_color="blue", pattern="plain"
    )
    picture = render("bear", "snow", "standing", "photo", rng(5), who)
    assert picture.parts.shape == (256, 256)
    assert set(np.unique(picture.parts)) == {PARTS.index(name) for name in PARTS} - {PARTS.index("mark")}
    assert ((picture.parts > 0) == picture.mask).mean() > 0.99
    hat = picture.image[picture.parts == PARTS.index("accessory")].astype(int)
    assert hat[:, 2].mean() > 1.4 * hat[:, 0].mean()
    assert (picture.image[picture.parts == PARTS.index("eye")] > 230).all(1).mean() > 0.1


@pytest.mark.parametrize("action", ["sleeping", "running"])
def test_marks_tell_the_action(action):
    parts = render("cat", "desert", action, "photo", rng(6)).parts
    assert (parts == PARTS.index("mark")).sum() > 200


def test_two_figures_stand_side_by_side_and_are_both_named():
    generator = rng(11)
    picture = render_random(generator, pairs=1.0)
    partner = picture.attributes["partner"]
    assert partner["subject"] != picture.attributes["subject"]
    assert partner["color"] != picture.attributes["color"]
    left, right = picture.mask[:, :120].mean(), picture.mask[:, 136:].mean()
    assert min(left, right) > 0.08
    for _ in range(20):
        text = caption(picture.attributes, generator)
        assert " and " in text
        for one in (picture.attributes, partner):
            assert any(way in text for way in vocabulary()["subject"][one["subject"]])


@pytest.mark.parametrize("style", STYLES)
def test_the_same_drawing_looks_the_same_in_a_style_every_time(style):
    drawing = render("fox", "beach", "standing", "photo", rng(8)).image / 255
    assert np.array_equal(STYLE_FILTERS[style](drawing), STYLE_FILTERS[style](drawing))


def test_full_captions_name_everything():
    truth = random_truth(rng(12)) | {"accessory": "hat", "accessory_color": "blue", "pattern": "striped"}
    expected = {key: value for key, value in truth.items() if key != "second_color"}
    assert attributes_in(full_caption(truth), vocabulary()) == expected


def test_captions_name_and_leave_out_every_attribute():
    generator, words = rng(9), vocabulary()
    truths = [random_truth(generator) for _ in range(400)]
    texts = [caption(truth, generator) for truth in truths]
    for key in ("color", "pattern", "scene", "action", "style"):
        named = [
            any(way in text for way in words[key][truth[key]])
            for text, truth in zip(texts, truths, strict=True)
        ]
        assert 0.15 < np.mean(named) < 0.97, key
    # The subject is always named: a caption without one would be about nothing.
    assert all(
        any(way in text for way in words["subject"][truth["subject"]])
        for text, truth in zip(texts, truths, strict=True)
    )


def test_captions_are_true():
    generator = rng(10)
    for _ in range(300):
        truth = random_truth(generator)
        words = set(caption(truth, generator).replace(",", "").split())
        true = {truth["color"], truth["accessory_color"]}
        assert not words & (set(COLORS) - true)
        assert not words & (set(ACCESSORIES) - {truth["accessory"]})
        assert not words & (set(PATTERNS) - {truth["pattern"]})
        assert not words & (set(ACTIONS) - {truth["action"]})
