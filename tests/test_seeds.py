"""Pictures with seeds of their own, and what is kept of them; anchors that later frames still look at."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from consistory_svd import Model, Settings, Story
from consistory_svd.events import Cancelled, Event, Finished, FrameDone, Preview
from consistory_svd.metadata import read_frame, read_story_json, save_frame, write_story_json
from consistory_svd.pipeline import generate
from tests.stories import with_seeds

QUICK = Settings(steps=3, anchors=2)


def generated(events) -> dict[int, torch.Tensor]:
    return {event.frame: event.latents for event in events if isinstance(event, FrameDone)}


# -- seeds -----------------------------------------------------------------------------------------------


def test_a_seed_of_its_own_changes_no_other(story: Story):
    own = with_seeds(story, None, 99)
    assert own.frame_seeds == (story.frame_seeds[0], 99, *story.frame_seeds[2:])
    assert [scene.seed for scene in own.scenes] == [None, 99, None, None]
    assert Story("a fox", story.scene_texts, seed=3).frame_seeds == story.frame_seeds


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ((1, 1), "seeds must be different for images 1 and 2, got 1"),
        ((-1,), "seeds must be a whole number from 0 to 4294967295, got -1"),
        ((1.5,), "got 1.5"),
        ((True,), "got True"),
        (("1",), "got '1'"),
    ],
    ids=str,
)
def test_wrong_seeds_are_refused_in_words(story: Story, seeds, words: str):
    with pytest.raises(ValueError, match=r"^seeds must be") as refusal:
        with_seeds(story, *seeds)
    assert words in str(refusal.value)


def test_a_seed_that_another_picture_has_is_refused(story: Story):
    with pytest.raises(ValueError, match="different for images 1 and 3"):
        with_seeds(story, None, None, story.frame_seeds[0])


def test_records_keep_the_seeds_and_who_lent(story: Story, tmp_path: Path):
    own = replace(story, scenes=("on the red beach", ("in the snow", 99), *story.scenes[2:]))
    picture = tmp_path / "frame-02.png"
    save_frame(picture, Image.new("RGB", (8, 8)), own.prompts[1], 99, own, QUICK, "m", anchor_story=story)
    write_story_json(tmp_path, own, QUICK, "m", [picture], frames=[1], anchor_story=story)
    frame, whole = read_frame(picture), read_story_json(tmp_path)
    assert (frame.story, frame.anchor_story) == (whole.story, whole.anchor_story) == (own, story)


def test_records_without_seeds_are_still_read(story: Story, tmp_path: Path):
    path = write_story_json(tmp_path, story, QUICK, "m", [])
    content = json.loads(path.read_text())
    del content["story"]["seeds"]
    path.write_text(json.dumps(content))
    record = read_story_json(path)
    assert (record.story, record.anchor_story) == (story, None)


# -- telling ---------------------------------------------------------------------------------------------


def test_a_frame_told_anew_is_the_one_of_the_whole_story(small_model: Model, story: Story):
    own = with_seeds(story, None, None, None, 99)
    *_, finished = generate(small_model, story, QUICK, keep_anchors=True)
    full_run = generated(generate(small_model, own, QUICK, anchor_cache=finished.anchor_cache, frames=(3,)))
    whole, before = (
        generated(generate(small_model, own, QUICK)),
        generated(generate(small_model, story, QUICK)),
    )
    assert list(full_run) == [3]
    # The same numbers in batches of another size: alike but for rounding.
    torch.testing.assert_close(full_run[3], whole[3], rtol=1e-3, atol=1e-3)
    assert (whole[3] - before[3]).abs().max() > 0.1
    assert torch.equal(whole[2], before[2]) or torch.allclose(whole[2], before[2], atol=1e-3)


def test_the_same_noise_leaves_a_frame_its_own_seed(small_model: Model, story: Story):
    alike = replace(QUICK, same_latent=True, sdsa=False)
    before = generated(generate(small_model, story, alike))
    after = generated(generate(small_model, with_seeds(story, 99), alike))
    assert not torch.equal(before[0], after[0])
    assert all(torch.equal(before[k], after[k]) for k in (1, 2, 3))


def test_the_anchors_alone_can_be_told_and_kept(small_model: Model, story: Story):
    *events, finished = generate(small_model, story, QUICK, frames=(0, 1), keep_anchors=True)
    assert list(generated(events)) == [0, 1]
    *_, whole = generate(small_model, story, QUICK, keep_anchors=True)
    late = [
        generated(generate(small_model, story, QUICK, anchor_cache=anchor_cache, frames=(2,)))
        for anchor_cache in (finished.anchor_cache, whole.anchor_cache)
    ]
    assert torch.equal(late[0][2], late[1][2])
    with pytest.raises(ValueError, match="frames: 2 of 4 scenes need the anchors"):
        generate(small_model, story, QUICK, frames=(1, 2), keep_anchors=True)


def stopped_at(model: Model, story: Story, frame: int) -> Event:
    stop = threading.Event()
    for event in generate(model, story, replace(QUICK, batch=1), stop, keep_anchors=True):
        if isinstance(event, FrameDone) and event.frame == frame:
            stop.set()
    return event


def test_a_stopped_story_keeps_its_anchors_once_they_are_finished(small_model: Model, story: Story):
    early, late = stopped_at(small_model, story, 0), stopped_at(small_model, story, 2)
    assert early == Cancelled(1)
    assert isinstance(late, Cancelled)
    rest = generated(generate(small_model, story, QUICK, anchor_cache=late.anchor_cache, frames=(3,)))
    torch.testing.assert_close(
        rest[3], generated(generate(small_model, story, QUICK))[3], rtol=1e-3, atol=1e-3
    )


# -- previews --------------------------------------------------------------------------------------------


def test_previews_take_no_more_than_their_share(small_model: Model, story: Story):
    every = replace(QUICK, steps=8, preview_every=1)

    def seen(share: float | None) -> int:
        events = generate(small_model, story, every, preview_share=share)
        return sum(isinstance(event, Preview) and event.image is not None for event in events)

    assert seen(None) == 8 * 4
    assert seen(0.0) == 2  # the anchors' first ones, before anything is known of what they take


def test_previews_of_large_pictures_are_decoded_small(
    small_model: Model, story: Story, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("consistory_svd.pipeline.PREVIEW_SIDE", 32)
    wide = Settings(steps=1, sdsa=False, width=128, height=64, preview_every=1)
    sizes = []
    decode = small_model.pipe.vae.decode

    def watch(latents: torch.Tensor, **options):
        sizes.append(tuple(latents.shape[-2:]))
        return decode(latents, **options)

    small_model.pipe.vae.decode = watch
    try:
        events = list(generate(small_model, replace(story, scenes=story.scenes[:1]), wide))
    finally:
        del small_model.pipe.vae.decode
    (preview,) = [event for event in events if isinstance(event, Preview)]
    assert preview.image.size == (32, 16)
    assert sizes == [(8, 16), (32, 64)]
    assert isinstance(events[-1], Finished)
