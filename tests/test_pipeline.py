"""A story's events, and the identities that hold however it is told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from PIL import ImageChops

from consistory_svd import (
    Cancelled,
    Finished,
    FrameDone,
    Model,
    Preview,
    Settings,
    Started,
    Story,
    generate,
    load_model,
)
from consistory_svd.pipeline import Event
from consistory_svd.sampling import encode_prompts, frame_generators, initial_latents
from tests.tiny_models import denoise_together, walk

SHARED = Settings(steps=4, anchors=2, batch=4)
PLAIN = replace(SHARED, sdsa=False)


def latents_of(events: Iterator[Event]) -> torch.Tensor:
    done = {event.frame: event.latents for event in events if isinstance(event, FrameDone)}
    return torch.stack([done[frame] for frame in sorted(done)])


@contextmanager
def unchanged(model: Model) -> Iterator[None]:
    """Processors, scheduler, weights, hooks and lock are afterwards what they were."""
    unet, scheduler = model.pipe.unet, model.pipe.scheduler
    processors, config = dict(unet.attn_processors), dict(scheduler.config)
    weights = [(weight, weight._version) for weight in unet.parameters()]
    yield
    assert all(unet.attn_processors[name] is processor for name, processor in processors.items())
    assert model.pipe.scheduler is scheduler
    assert dict(scheduler.config) == config
    assert scheduler.num_inference_steps is None, "the model's own scheduler was stepped"
    assert all(weight._version == version for weight, version in weights)
    assert not unet._forward_hooks
    assert not unet._forward_pre_hooks
    assert not model.lock.locked()


def test_events_come_in_order(model: Model, story: Story) -> None:
    with unchanged(model):
        events = list(generate(model, story, SHARED))
    started, *between, finished = events
    assert started == Started(
        story.prompts, story.frame_seeds, ("fox",), *model.native_size, steps=4, total_steps=16
    )
    assert [event.done for event in between if isinstance(event, Preview)] == list(range(1, 17))
    frames = [event for event in between if isinstance(event, FrameDone)]
    assert [(frame.frame, frame.prompt, frame.seed) for frame in frames] == [
        (i, story.prompts[i], story.frame_seeds[i]) for i in range(4)
    ]
    first_done = between.index(frames[0])
    assert {event.frame for event in between[:first_done]} == {0, 1}, "anchors are told before all others"
    assert isinstance(finished, Finished)
    assert finished.images == tuple(frame.image for frame in frames)
    assert finished.masks == tuple(frame.mask for frame in frames)
    size = model.native_size[::-1]
    assert all(frame.image.size == frame.mask.size == size for frame in frames)
    assert all(frame.mask.getextrema() == (0, 255) for frame in frames)
    assert finished.timings.cache_bytes > 0
    assert finished.timings.denoising > 0
    assert finished.timings.decoding > 0
    assert finished.timings.seconds_per_frame * 4 == finished.timings.seconds


def test_a_plain_story_is_stock_and_has_no_masks(model: Model, story: Story) -> None:
    events = list(generate(model, story, PLAIN))
    text = encode_prompts(model.pipe, story.prompts, "", PLAIN.guidance)
    generators = frame_generators(story.frame_seeds)
    noise = initial_latents(model.pipe, generators, model.native_size)
    *_, stock = walk(model.pipe, noise, text, 4, PLAIN.guidance, generators)
    assert torch.equal(latents_of(iter(events)), stock.latents)
    assert events[-1].masks == (None,) * 4


def test_the_same_seed_tells_the_same_story_and_another_does_not(model: Model, story: Story) -> None:
    first, other, again = (
        latents_of(generate(model, generated, SHARED)) for generated in (story, replace(story, seed=4), story)
    )
    assert torch.equal(first, again), "a story told in between must leave nothing behind"
    assert (first - other).abs().max() > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_story_does_not_depend_on_its_batches(model: Model, story: Story, dropout: float) -> None:
    """Kept anchors against one big batch (all frames, the anchors first)."""
    settings = replace(SHARED, mask_dropout=dropout)
    generated = [latents_of(generate(model, story, replace(settings, batch=batch))) for batch in (1, 2)]
    together = denoise_together(model, story, settings)
    for one in generated:
        torch.testing.assert_close(one, together, rtol=0, atol=1e-4)
    plain = latents_of(generate(model, story, replace(PLAIN, batch=3)))
    torch.testing.assert_close(plain, latents_of(generate(model, story, PLAIN)), rtol=0, atol=1e-4)
    assert (plain - together).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_a_scene_at_the_end_changes_no_earlier_frame(model: Model, story: Story) -> None:
    longer = replace(story, scenes=(*story.scenes, "with a red hat"))
    before, after = (latents_of(generate(model, generated, SHARED)) for generated in (story, longer))
    torch.testing.assert_close(after[:4], before, rtol=0, atol=1e-4)


def test_a_word_that_some_frames_do_not_have(model: Model) -> None:
    story = Story("a fox", ("with a hat", "in the snow", "on the beach"), concepts=("hat",))
    frames = [event for event in generate(model, story, SHARED) if isinstance(event, FrameDone)]
    assert frames[0].mask.getextrema() == (0, 255)
    assert frames[1].mask.getextrema() == frames[2].mask.getextrema() == (0, 0)


def test_pictures_need_not_be_square(model: Model, story: Story) -> None:
    settings = replace(SHARED, height=64, width=96, steps=2)
    for event in generate(model, story, settings):
        if isinstance(event, FrameDone):
            assert event.image.size == event.mask.size == (96, 64)
            assert event.maps.shape[-2] * 3 == event.maps.shape[-1] * 2


def test_previews_show_what_the_steps_foresee(small_model: Model, story: Story) -> None:
    with_previews = list(generate(small_model, story, replace(SHARED, preview_every=2)))
    previews = [event for event in with_previews if isinstance(event, Preview)]
    assert all((event.image is not None) == (event.step in (1, 3)) for event in previews)
    frames = {event.frame: event for event in with_previews if isinstance(event, FrameDone)}
    for event in previews:
        if event.step == 3:
            # The last step foresees the picture itself, but for the noise that the schedule leaves.
            difference = ImageChops.difference(event.image, frames[event.frame].image)
            assert max(high for _, high in difference.getextrema()) < 30
    unseen = latents_of(generate(small_model, story, SHARED))
    assert torch.equal(latents_of(iter(with_previews)), unseen), "looking must not change the story"


def cancel_at(model: Model, story: Story, when: Callable[[Event], bool]) -> tuple[list[Event], int]:
    """Tell with a stop at the first event for which `when` holds; the events, and U-Net calls after
    the stop.
    """
    stop, calls_after = threading.Event(), []
    handle = model.pipe.unet.register_forward_pre_hook(
        lambda *_: calls_after.append(1) if stop.is_set() else None
    )
    events = []
    try:
        for event in generate(model, story, SHARED, stop):
            events.append(event)
            if when(event):
                stop.set()
    finally:
        handle.remove()
    return events, len(calls_after)


def test_cancelling_ends_the_work_at_once_and_keeps_finished_frames(model: Model, story: Story) -> None:
    with unchanged(model):
        events, calls = cancel_at(model, story, lambda event: isinstance(event, Preview) and event.step == 1)
    assert calls == 0
    assert events[-1] == Cancelled(0)
    events, calls = cancel_at(model, story, lambda event: isinstance(event, Preview) and event.frame == 2)
    assert calls == 0
    assert events[-1] == Cancelled(2)
    assert [event.frame for event in events if isinstance(event, FrameDone)] == [0, 1]
    events, calls = cancel_at(model, story, lambda event: isinstance(event, FrameDone))
    assert calls == 0
    assert events[-1] == Cancelled(1)


def test_stopping_after_the_last_frame_finishes(small_model: Model, story: Story) -> None:
    events, _ = cancel_at(small_model, story, lambda event: isinstance(event, FrameDone) and event.frame == 3)
    assert isinstance(events[-1], Finished)


def test_a_story_waiting_for_the_model_can_be_cancelled(small_model: Model, story: Story) -> None:
    stop = threading.Event()
    with small_model.lock:
        waiting = generate(small_model, story, SHARED, stop)
        stop.set()
        assert list(waiting) == [Cancelled(0)]


def test_the_model_is_locked_while_a_story_is_told(small_model: Model, story: Story) -> None:
    events = generate(small_model, story, SHARED)
    assert not small_model.lock.locked()
    next(events)
    assert small_model.lock.locked()
    events.close()
    assert not small_model.lock.locked()


def test_a_failed_or_abandoned_story_leaves_the_model_as_it_was(
    model: Model, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = latents_of(generate(model, story, SHARED))
    with unchanged(model):
        events = generate(model, story, SHARED)
        while not (isinstance(event := next(events), Preview) and event.step == 2):
            pass
        assert any(
            type(processor).__module__.startswith("consistory_svd")
            for processor in model.pipe.unet.attn_processors.values()
        )
        events.close()
    with unchanged(model), monkeypatch.context() as patch:
        forward, calls = model.pipe.unet.forward, []

        def failing(*args: object, **kwargs: object) -> object:
            calls.append(1)
            if len(calls) == 3:
                raise MemoryError("no memory left")
            return forward(*args, **kwargs)

        patch.setattr(model.pipe.unet, "forward", failing)
        with pytest.raises(MemoryError):
            list(generate(model, story, SHARED))
    assert torch.equal(latents_of(generate(model, story, SHARED)), expected)


def test_given_latents_replace_the_seeds_own(small_model: Model, story: Story) -> None:
    noise = initial_latents(small_model.pipe, frame_generators(story.frame_seeds), small_model.native_size)
    own = latents_of(generate(small_model, story, SHARED))
    assert torch.equal(latents_of(generate(small_model, story, SHARED, latents=noise)), own)
    assert (latents_of(generate(small_model, story, SHARED, latents=noise.flip(0))) - own).abs().max() > 1e-3


def test_what_does_not_fit_together_is_said_at_once(small_model: Model, story: Story) -> None:
    with pytest.raises(ValueError, match=r"^anchors must be .*, got 5$"):
        generate(small_model, story, replace(SHARED, anchors=5))
    with pytest.raises(ValueError, match=r"^latents must be of shape .*, got \(4, 8, 8, 8\)"):
        generate(small_model, story, SHARED, latents=torch.zeros(4, 8, 8, 8))


def test_a_size_that_the_model_cannot_have_names_the_field(tiny_folders: dict, story: Story) -> None:
    model = load_model(str(tiny_folders["sdxl"]), device="cpu")
    model.pipe.vae_scale_factor = 8
    with pytest.raises(ValueError, match=r"^width must be a multiple of 32 with this model, got 72"):
        generate(model, story, replace(SHARED, width=72, height=64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tiny_folder: object, story: Story, dtype: torch.dtype) -> None:
    model = load_model(str(tiny_folder), device="cpu", dtype=dtype)
    latents = latents_of(generate(model, story, SHARED))
    assert latents.isfinite().all()
    full = latents_of(generate(load_model(str(tiny_folder), device="cpu"), story, SHARED))
    assert (latents - full).pow(2).mean().sqrt() < 0.5 * full.std()
