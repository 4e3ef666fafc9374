"""The whole method: query blending, two passes with feature injection, cached anchors, random anchors."""

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from consistory_svd import Model, Settings, Story, generate, load_model
from consistory_svd.attention import AnchorCache, Schedule, SharingState, find_concept_spans, sharing
from consistory_svd.attention.anchor_cache import HEADER, TENSORS
from consistory_svd.events import Cancelled, Event, Finished, FrameDone, Preview, Started
from tests.generated_frames import latents_of, unchanged
from tests.tiny_models import denoise_together

STEPS = 12  # one blended step, features injected at steps 1 to 4
FULL = Settings(steps=STEPS, query_blending=True, injection=True, batch=2)


@pytest.fixture(scope="module")
def story() -> Story:
    return Story("a fox", ("in the forest", "on the beach", "in the snow", "with a hat"), seed=3)


@pytest.fixture(scope="module")
def full(small_model: Model, story: Story) -> torch.Tensor:
    """The final latents of the story with every part of the method."""
    return latents_of(generate(small_model, story, FULL))


def finished(events: Iterable[Event]) -> Finished:
    *_, last = events
    assert isinstance(last, Finished)
    return last


def test_cached_anchors_in_two_passes_equal_one_big_batch(model: Model, story: Story) -> None:
    """Frames with the cache, the second pass begun where the two differ; against all frames in one batch,
    both passes from the start."""
    together = denoise_together(model, story, FULL)
    generated = latents_of(generate(model, story, FULL))
    # A match that is a tie to the last digit may fall either way; single pixels differ then.
    difference = (generated - together).abs()
    assert (difference > 1e-3).float().mean() < 0.02
    assert difference.pow(2).mean().sqrt() < 0.02 * together.std()


@pytest.mark.parametrize(
    "change",
    [
        {"query_blending": False},
        {"injection": False},
        {"masking": False},
        {"mask_dropout": 0.0},
        {"sdsa": False},
        {"anchors": 1},
        {"anchors": 3},
        {"same_latent": True},
        {"freeu": True},
        {"random_anchors": True},
        {"short_first_pass": True},
    ],
)
def test_every_part_makes_a_difference(
    small_model: Model, story: Story, full: torch.Tensor, change: dict
) -> None:
    changed = latents_of(generate(small_model, story, replace(FULL, **change)))
    assert (changed - full).abs().max() > 1e-3


def test_a_story_with_every_part_leaves_nothing_behind(
    small_model: Model, story: Story, full: torch.Tensor
) -> None:
    list(generate(small_model, story, replace(FULL, steps=2, freeu=True, random_anchors=True)))
    with unchanged(small_model):
        assert torch.equal(latents_of(generate(small_model, story, FULL)), full)


def test_a_scene_at_the_end_changes_no_earlier_frame(
    small_model: Model, story: Story, full: torch.Tensor
) -> None:
    longer = replace(story, scenes=(*story.scenes, "in the desert"))
    after = latents_of(generate(small_model, longer, FULL))
    torch.testing.assert_close(after[:4], full, rtol=0, atol=1e-4)


def test_steps_are_counted_over_both_passes(small_model: Model, story: Story) -> None:
    events = list(generate(small_model, story, FULL))
    started, *_ = events
    assert isinstance(started, Started)
    assert started.total_steps == 4 * (2 * STEPS - 1)
    previews = [event for event in events if isinstance(event, Preview)]
    assert [event.done for event in previews] == list(range(1, started.total_steps + 1))
    first = [event.step for event in previews if event.frame == 0 and event.first_pass]
    final = [event.step for event in previews if event.frame == 0 and not event.first_pass]
    assert first == list(range(1, STEPS))
    assert final == list(range(STEPS))


def test_the_second_pass_repeats_nothing(small_model: Model, story: Story) -> None:
    calls: list[int] = []
    handle = small_model.pipe.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        list(generate(small_model, story, FULL))
    finally:
        handle.remove()
    # Two waves; every step once, the first pass' after the fork again, and one call for the blended step of
    # each pass.
    assert len(calls) == 2 * (STEPS + (STEPS - 1) + 2)


@pytest.mark.parametrize("first_pass", [True, False])
def test_cancelling_in_either_pass_leaves_the_model_as_it_was(
    model: Model, story: Story, first_pass: bool
) -> None:
    stop = threading.Event()
    with unchanged(model):
        hooks = [len(block._forward_hooks) for block in model.pipe.unet.up_blocks]
        events = []
        for event in generate(model, story, replace(FULL, freeu=True), stop):
            events.append(event)
            if isinstance(event, Preview) and event.step == 3 and event.first_pass == first_pass:
                stop.set()
        assert events[-1] == Cancelled(0)
        assert [len(block._forward_hooks) for block in model.pipe.unet.up_blocks] == hooks
        assert all(getattr(block, "s1", None) is None for block in model.pipe.unet.up_blocks)


def test_frames_are_generated_later_with_a_saved_cache(model: Model, story: Story, tmp_path: Path) -> None:
    whole = [event for event in generate(model, story, FULL) if isinstance(event, FrameDone)]
    anchors = replace(story, scenes=story.scenes[:2])
    anchor_cache = finished(generate(model, anchors, FULL, keep_anchors=True)).anchor_cache
    anchor_cache.to("cpu").save(tmp_path)
    loaded = AnchorCache.load(tmp_path)
    assert loaded.size == anchor_cache.size > 0
    header = json.loads((tmp_path / HEADER).read_text())
    old = {"spectrum_k": {"select": "all", "value": None}, "spectrum_v": {"select": "all", "value": None}}
    for name, former in (("k_filter", "spectrum_k"), ("v_filter", "spectrum_v")):
        header["settings"][former] = {**header["settings"].pop(name), **old[former]}
        for key in ("keep", "amount"):
            del header["settings"][former][key]
    (tmp_path / HEADER).write_text(json.dumps(header))
    assert AnchorCache.load(tmp_path).origin == loaded.origin, "headers of earlier versions are read"
    for held in (anchor_cache, loaded):
        events = list(generate(model, story, FULL, anchor_cache=held, frames=[3]))
        (frame,) = [event for event in events if isinstance(event, FrameDone)]
        assert (frame.frame, frame.prompt, frame.seed) == (3, story.prompts[3], story.frame_seeds[3])
        torch.testing.assert_close(frame.latents, whole[3].latents, rtol=0, atol=1e-4)
        assert finished(events).anchor_cache is held


def test_the_cache_does_not_grow_with_the_story(small_model: Model, story: Story) -> None:
    settings = replace(FULL, steps=4, anchors=1, batch=1)
    sizes = [
        finished(
            generate(small_model, replace(story, scenes=story.scenes[:1] * count), settings)
        ).timings.cache_bytes
        for count in (2, 6)
    ]
    assert sizes[0] == sizes[1] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 64}, r"made at \(64, .*\) pixels"),
        ({"steps": 13}, "made with 13 steps, got 12"),
        ({"injection": False}, "made with injection False, got True"),
        ({"injection": False, "sdsa": False}, "made with sdsa False, got True"),
        ({"guidance": 1.0}, "made with guidance 1.0, got 5.0"),
    ],
)
def test_a_cache_that_does_not_fit_is_refused(
    small_model: Model, story: Story, change: dict, message: str
) -> None:
    anchors = replace(story, scenes=story.scenes[:2])
    anchor_cache = finished(generate(small_model, anchors, FULL, keep_anchors=True)).anchor_cache
    with pytest.raises(ValueError, match=rf"^anchor_cache must be {message}"):
        generate(small_model, story, replace(FULL, **change), anchor_cache=anchor_cache)


def test_a_cache_of_another_model_is_refused(small_model: Model, story: Story, tiny_folders: dict) -> None:
    anchor_cache = finished(
        generate(small_model, story, replace(FULL, anchors=4), keep_anchors=True)
    ).anchor_cache
    other = load_model(str(tiny_folders["small"]), device="cpu")
    with torch.no_grad():
        other.pipe.unet.conv_in.weight.add_(1.0)
    with pytest.raises(ValueError, match=r"^anchor_cache must be made with this model"):
        generate(other, story, FULL, anchor_cache=anchor_cache)
    with pytest.raises(ValueError, match=r"^anchor_cache must be filled by"):
        generate(small_model, story, FULL, anchor_cache=AnchorCache())


def test_a_folder_without_a_whole_cache_is_refused(small_model: Model, story: Story, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^anchor_cache must be a folder with bank.json"):
        AnchorCache.load(tmp_path)
    with pytest.raises(ValueError, match=r"^anchor_cache must be filled by"):
        AnchorCache().save(tmp_path)
    anchor_cache = finished(
        generate(small_model, story, replace(FULL, steps=4), keep_anchors=True)
    ).anchor_cache
    anchor_cache.save(tmp_path)
    header = (tmp_path / HEADER).read_text()
    (tmp_path / HEADER).write_text(header.replace('"format": 1', '"format": 9'))
    with pytest.raises(ValueError, match=r"^anchor_cache must be of format 1"):
        AnchorCache.load(tmp_path)
    (tmp_path / HEADER).write_text(header.replace('"fingerprint"', '"print"'))
    with pytest.raises(ValueError, match=r"^anchor_cache must be a whole saved cache"):
        AnchorCache.load(tmp_path)
    (tmp_path / HEADER).write_text(header)
    (tmp_path / TENSORS).write_bytes((tmp_path / TENSORS).read_bytes()[:200])
    with pytest.raises(ValueError, match=r"^anchor_cache must be readable"):
        AnchorCache.load(tmp_path)


def test_random_anchors_are_the_storys_own(small_model: Model, story: Story) -> None:
    settings = replace(FULL, random_anchors=True, batch=1, same_latent=True)
    first, again = (latents_of(generate(small_model, story, settings)) for _ in range(2))
    assert torch.equal(first, again)
    same_words = replace(story, scenes=story.scenes[:1] * 3)
    frames = latents_of(generate(small_model, same_words, replace(settings, mask_dropout=0.0)))
    torch.testing.assert_close(frames[0], frames[1], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"^random_anchors must be off in a story of one scene"):
        generate(small_model, replace(story, scenes=("in the snow",)), settings)
    with pytest.raises(ValueError, match=r"^keep_anchors must be "):
        generate(small_model, story, settings, keep_anchors=True)


def test_the_same_noise_for_every_frame(small_model: Model, story: Story) -> None:
    same = replace(story, scenes=story.scenes[:1] * 3)
    frames = latents_of(generate(small_model, same, Settings(steps=4, sdsa=False, same_latent=True)))
    torch.testing.assert_close(frames[0], frames[2], rtol=0, atol=1e-4)
    apart = latents_of(generate(small_model, same, Settings(steps=4, sdsa=False)))
    assert torch.equal(apart[0], frames[0])
    assert (apart[2] - frames[2]).abs().max() > 1e-2


def test_free_u_is_the_stock_pipelines(model: Model, story: Story) -> None:
    ours = latents_of(generate(model, story, Settings(steps=4, sdsa=False, freeu=True)))
    model.pipe.enable_freeu(s1=0.6, s2=0.4, b1=1.1, b2=1.2)
    try:
        plain = Settings(steps=4, sdsa=False)
        assert not torch.equal(latents_of(generate(model, story, plain)), ours), "off means off"
        assert model.pipe.unet.up_blocks[0].b2 == 1.2, "and then as it was"
        stock = denoise_together(model, story, replace(plain, freeu=True))
    finally:
        model.pipe.disable_freeu()
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-4)


def test_settings_without_effect_are_noted(small_model: Model, story: Story) -> None:
    settings = Settings(steps=4, sdsa=False, query_blending=True, short_first_pass=True, random_anchors=True)
    started = next(iter(generate(small_model, story, settings)))
    named = ("query blending has", "short first pass has", "random anchors have")
    assert [note.split(" no effect")[0] for note in started.notes] == list(named)
    started = next(iter(generate(small_model, story, replace(FULL, steps=4))))
    assert started.notes == ()


def test_a_part_of_a_story_needs_its_anchors(small_model: Model, story: Story) -> None:
    with pytest.raises(ValueError, match=r"^frames must be all frames, or include the anchors.*got \[3\]"):
        generate(small_model, story, FULL, frames=[3])
    with pytest.raises(ValueError, match=r"^frames must be positions from 0 to 3, got \[4\]"):
        generate(small_model, story, FULL, frames=[4])
    plain = Settings(steps=2, sdsa=False)
    alone = latents_of(generate(small_model, story, plain, frames=[2]))
    torch.testing.assert_close(
        alone[0], latents_of(generate(small_model, story, plain))[2], rtol=0, atol=1e-4
    )


def test_masks_are_available_where_nothing_is_shared(model: Model, story: Story) -> None:
    plain = Settings(steps=3, sdsa=False)
    with_masks = [e for e in generate(model, story, plain, with_masks=True) if isinstance(e, FrameDone)]
    assert all(frame.mask.getextrema() == (0, 255) for frame in with_masks)
    latents = torch.stack([frame.latents for frame in with_masks])
    torch.testing.assert_close(latents, latents_of(generate(model, story, plain)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, (64, 72)), (torch.float16, (72, 64))])
def test_any_shape_and_format(
    tiny_folders: dict, story: Story, dtype: torch.dtype, size: tuple[int, int]
) -> None:
    """Half precision is slow on a CPU: the smallest images, one anchor and one later frame."""
    model = load_model(str(tiny_folders["small"]), device="cpu", dtype=dtype)
    settings = replace(FULL, steps=3, anchors=1, height=size[0], width=size[1])
    shorter = replace(story, scenes=story.scenes[:2])
    latents, precise = (
        latents_of(generate(one, shorter, settings))
        for one in (model, load_model(str(tiny_folders["small"]), device="cpu"))
    )
    assert latents.isfinite().all()
    assert (latents - precise).pow(2).mean().sqrt() < 0.5 * precise.std()


def test_a_frame_without_the_word_takes_and_gives_nothing(small_model: Model) -> None:
    story = Story("a fox", ("with a hat", "in the snow", "on the beach"), concepts=("hat",), seed=1)
    frames = [event for event in generate(small_model, story, FULL) if isinstance(event, FrameDone)]
    assert frames[0].mask.getextrema() == (0, 255)
    assert frames[2].mask.getextrema() == (0, 0)
    assert torch.stack([frame.latents for frame in frames]).isfinite().all()


def test_a_hundred_frames(small_model: Model, story: Story) -> None:
    long = replace(story, scenes=tuple(f"{scene} {k}" for k in range(25) for scene in story.scene_texts))
    events = generate(small_model, long, Settings(steps=2, batch=14))
    assert len(finished(events).images) == 100


def test_a_unet_of_sd_15_layout() -> None:
    """Four levels, attention at the first three, masks at a quarter, features from the second up block."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=8,
        norm_num_groups=4,
    ).eval()
    settings = replace(FULL, guidance=1.0)
    schedule = Schedule.of(range(937, 0, -78), settings)
    found = find_concept_spans([[0, 5, 9], [0, 6, 9], [0, 5, 5]], [[5]])
    state = SharingState(unet, (32, 64), found, settings, (1, 2, 3), anchors=2, schedule=schedule)
    generator = torch.Generator().manual_seed(0)
    latents, text = (torch.randn(shape, generator=generator) for shape in ((3, 4, 32, 64), (3, 3, 8)))

    def step(index: int) -> torch.Tensor:
        if state.begin_step(index):
            with state.queries.record():
                unet(latents, 500, text)
        output = unet(latents, 500, text).sample
        state.end_step()
        return output

    with sharing(unet, state), torch.no_grad():
        for index in range(schedule.feature_step + 1):
            first = step(index)
        assert state.masks.maps.shape[-2:] == (8, 16)
        assert state.layout.finest_grid == (32, 64)
        snapshot = state.save_snapshot()
        state.find_matches()
        state.restore_snapshot(snapshot)
        injected = step(schedule.injected[0])
    assert injected.isfinite().all()
    assert (injected - first).abs().max() > 1e-4
    assert not state.masks.at((32, 64))[1].any(), "a frame without the word has no mask"
