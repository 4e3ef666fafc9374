"""The denoising loop is the stock pipeline's, whatever the scheduler, guidance and prompts."""

import copy
import threading

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline

from consistory_svd import Model, Story
from consistory_svd.decoding import Decoder
from consistory_svd.sampling import (
    encode_prompts,
    frame_generators,
    initial_latents,
    locate_concepts,
)
from tests.tiny_models import walk

STEPS = 4


def ours(
    pipe: StableDiffusionXLPipeline, story: Story, noise: torch.Tensor, guidance: float, steps: int = STEPS
) -> torch.Tensor:
    text = encode_prompts(pipe, story.prompts, story.negative, guidance)
    *_, last = walk(pipe, noise, text, steps, guidance, frame_generators(story.frame_seeds))
    return last.latents


def stock_pipeline(pipe: StableDiffusionXLPipeline) -> StableDiffusionXLPipeline:
    """The stock pipeline over the same parts, with a scheduler of its own, since it steps it."""
    parts = {**pipe.components, "scheduler": copy.deepcopy(pipe.scheduler)}
    same = StableDiffusionXLPipeline(
        **parts, force_zeros_for_empty_prompt=pipe.config.force_zeros_for_empty_prompt, add_watermarker=False
    )
    same.set_progress_bar_config(disable=True)
    return same


def stock(
    pipe: StableDiffusionXLPipeline, story: Story, noise: torch.Tensor, guidance: float
) -> torch.Tensor:
    height, width = (side * pipe.vae_scale_factor for side in noise.shape[-2:])
    return stock_pipeline(pipe)(
        list(story.prompts),
        negative_prompt=[story.negative] * len(story.prompts) if story.negative else None,
        height=height,
        width=width,
        guidance_scale=guidance,
        num_inference_steps=STEPS,
        latents=noise.clone(),
        generator=frame_generators(story.frame_seeds),
        output_type="latent",
    ).images


def noise_for(model: Model, story: Story, size: tuple[int, int] | None = None) -> torch.Tensor:
    return initial_latents(model.pipe, frame_generators(story.frame_seeds), size or model.native_size)


@pytest.mark.parametrize("negative", ["", "red hat"])
@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_latents_are_those_of_the_stock_pipeline(model: Model, negative: str, guidance: float) -> None:
    story = Story("a fox", ("in the forest", "on the beach"), negative=negative)
    noise = noise_for(model, story)
    expected = stock(model.pipe, story, noise, guidance)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(model.pipe, story, noise, guidance), expected, rtol=0, atol=1e-4)


def test_freeu_and_sizes_that_are_not_square_are_those_of_the_stock_pipeline(model: Model) -> None:
    story = Story("a fox", ("in the forest", "on the beach"))
    height, width = model.native_size
    noise = noise_for(model, story, (height, width + 8))
    plain = ours(model.pipe, story, noise, 5.0)
    model.pipe.enable_freeu(0.6, 0.4, 1.1, 1.2)
    try:
        result, expected = ours(model.pipe, story, noise, 5.0), stock(model.pipe, story, noise, 5.0)
    finally:
        model.pipe.disable_freeu()
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
    assert (result - plain).abs().max() > 1e-3


@pytest.mark.parametrize(
    "name",
    [
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "HeunDiscreteScheduler",
        "UniPCMultistepScheduler",
        "DDPMScheduler",
    ],
)
def test_any_scheduler_is_that_of_the_stock_pipeline(small_model: Model, name: str) -> None:
    pipe, found = small_model.pipe, small_model.pipe.scheduler
    story = Story("a fox", ("in the forest", "on the beach"))
    pipe.scheduler = getattr(diffusers, name).from_config({**found.config, "rescale_betas_zero_snr": False})
    try:
        noise = noise_for(small_model, story)
        result, expected = ours(pipe, story, noise, 5.0), stock(pipe, story, noise, 5.0)
    finally:
        pipe.scheduler = found
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4 * max(1.0, expected.abs().max().item()))


def test_runs_share_no_state(model: Model) -> None:
    story = Story("a fox", ("in the forest", "on the beach"))
    config, noise = dict(model.pipe.scheduler.config), noise_for(model, story)
    text = encode_prompts(model.pipe, story.prompts, "", 5.0)
    runs = [walk(model.pipe, noise, text, STEPS, 5.0, frame_generators((0, 0))) for _ in range(2)]
    first, second = zip(*(list(pair) for pair in zip(*runs, strict=True)), strict=True)
    assert torch.equal(first[-1].latents, second[-1].latents)
    assert torch.equal(first[-1].latents, ours(model.pipe, story, noise, 5.0))
    assert dict(model.pipe.scheduler.config) == config
    assert [step.index for step in first] == list(range(STEPS))


def test_a_frame_does_not_depend_on_its_batch(model: Model, story: Story) -> None:
    together = ours(model.pipe, story, noise_for(model, story), 5.0)
    noise = initial_latents(model.pipe, frame_generators(story.frame_seeds[2:3]), model.native_size)
    text = encode_prompts(model.pipe, story.prompts[2:3], "", 5.0)
    *_, alone = walk(model.pipe, noise, text, STEPS, 5.0, frame_generators((0,)))
    torch.testing.assert_close(alone.latents[0], together[2], rtol=0, atol=1e-4)


def test_the_loop_ends_before_the_next_call_of_the_unet(small_model: Model, story: Story) -> None:
    stop, calls = threading.Event(), []
    handle = small_model.pipe.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    text = encode_prompts(small_model.pipe, story.prompts, "", 5.0)
    generators = frame_generators(story.frame_seeds)
    noise = initial_latents(small_model.pipe, generators, small_model.native_size)
    try:
        for step in walk(small_model.pipe, noise, text, STEPS, 5.0, generators, stop=stop):
            if step.index == 1:
                stop.set()
    finally:
        handle.remove()
    assert len(calls) == 2


def test_gradients_are_off_inside_and_untouched_outside(small_model: Model, story: Story) -> None:
    text = encode_prompts(small_model.pipe, story.prompts, "", 5.0)
    generators = frame_generators(story.frame_seeds)
    noise = initial_latents(small_model.pipe, generators, small_model.native_size)
    for step in walk(small_model.pipe, noise, text, 2, 5.0, generators):
        assert not step.latents.requires_grad
        assert torch.is_grad_enabled()


def test_the_predicted_x0_is_the_schedulers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story("a fox", ("in the forest", "on the beach"))
    x0_by_scheduler = []
    original = DDIMScheduler.step

    def spy(
        self: DDIMScheduler, prediction: torch.Tensor, timestep: int, latents: torch.Tensor, **rest: object
    ):
        x0_by_scheduler.append(original(self, prediction, timestep, latents).pred_original_sample)
        return original(self, prediction, timestep, latents, **rest)

    monkeypatch.setattr(DDIMScheduler, "step", spy)
    text = encode_prompts(model.pipe, story.prompts, "", 5.0)
    steps = walk(model.pipe, noise_for(model, story), text, STEPS, 5.0, frame_generators((0, 0)))
    for step, expected in zip(steps, x0_by_scheduler, strict=False):
        torch.testing.assert_close(step.predict_x0(), expected, rtol=1e-4, atol=1e-4)
    assert len(x0_by_scheduler) == STEPS


def test_decoding_is_the_stock_pipelines(model: Model) -> None:
    story = Story("a fox", ("in the forest",))
    noise = noise_for(model, story)
    expected = stock_pipeline(model.pipe)(
        list(story.prompts), num_inference_steps=STEPS, guidance_scale=5.0, latents=noise.clone()
    ).images[0]
    image = Decoder(model.pipe, print).decode(ours(model.pipe, story, noise, 5.0)[0])
    assert image.tobytes() == expected.tobytes()


def test_concepts_are_located_in_tokens(small_model: Model) -> None:
    found = locate_concepts(small_model.pipe, ("a photo of a fox with a hat", "a zebra"), ("fox", "zebra"))
    assert found.tokens[0, 0].item() == 5
    assert found.present.tolist() == [[True], [True]]
    assert found.tokens[1].tolist() == [2, 3, 4, 5, 6]  # an unknown word is as many tokens as letters
    assert found.pool[1, :, 0].tolist() == pytest.approx([0.2] * 5)
