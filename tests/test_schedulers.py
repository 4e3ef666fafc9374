"""Schedulers by name, few steps, and the parts of the method with them."""

from dataclasses import replace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    StableDiffusionXLPipeline,
)

from consistory_svd import FrameDone, Model, Settings, Story, generate, load_model, preset
from consistory_svd.attention import Schedule
from consistory_svd.fields import field_of
from consistory_svd.models.few_step import few_step_model_for
from consistory_svd.sampling import (
    Trajectory,
    denoise,
    encode_prompts,
    frame_generators,
    initial_latents,
    prepare_scheduler,
)
from consistory_svd.schedulers import EDM_KINDS, KINDS, make_scheduler, noise_levels
from tests.tiny_models import make_pipeline

STORY = Story("a fox", ("in the forest", "on the beach", "in the snow"))
SHARED = Settings(steps=4, guidance=2.0)


def latents(model: Model, settings: Settings) -> torch.Tensor:
    return torch.stack([e.latents for e in generate(model, STORY, settings) if isinstance(e, FrameDone)])


def edm_model() -> Model:
    """A tiny model of Playground's formulation."""
    pipe = make_pipeline("sdxl")
    pipe.scheduler = EDMDPMSolverMultistepScheduler(
        sigma_data=0.5, solver_order=2, algorithm_type="dpmsolver++"
    )
    return Model(pipe, "edm", torch.device("cpu"), torch.float32)


def test_the_choices_are_those_that_can_be_made() -> None:
    assert field_of(Settings, "scheduler").choices == ("own", *KINDS)
    with pytest.raises(ValueError, match=r"^scheduler must be one of own, ddim, euler.*, got 'heun'$"):
        Settings(scheduler="heun")
    with pytest.raises(ValueError, match=r"^spacing must be one of own, leading.*, got 3$"):
        Settings(spacing=3)


@pytest.mark.parametrize("kind", KINDS)
def test_each_scheduler_is_that_of_the_stock_pipeline(kind: str, small_model: Model) -> None:
    pipe, settings = small_model.pipe, Settings(sdsa=False, steps=6, guidance=3.0, scheduler=kind)
    noise = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(5))
    story = Story("a fox", ("in the forest",))
    (ours,) = [e for e in generate(small_model, story, settings, latents=noise) if isinstance(e, FrameDone)]
    stock = StableDiffusionXLPipeline(
        **{**pipe.components, "scheduler": make_scheduler(pipe.scheduler, kind)},
        force_zeros_for_empty_prompt=pipe.config.force_zeros_for_empty_prompt,
        add_watermarker=False,
    )
    stock.set_progress_bar_config(disable=True)
    generator = frame_generators(story.frame_seeds)
    initial_latents(pipe, generator, small_model.native_size)  # our generators have drawn the noise before
    expected = stock(
        list(story.prompts),
        num_inference_steps=6,
        guidance_scale=3.0,
        latents=noise.clone(),
        generator=generator,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours.latents[None], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["own", *KINDS])
def test_the_last_step_predicts_its_result(kind: str, small_model: Model) -> None:
    """At the last step, the predicted x0 is close to the result of the scheduler."""
    pipe = small_model.pipe
    text = encode_prompts(pipe, STORY.prompts[:1], "", 1.0)
    generators = frame_generators((1,))
    noise = initial_latents(pipe, generators, small_model.native_size)
    trajectory = Trajectory.begin(pipe, noise, 8, generators, kind)
    *_, last = denoise(pipe, trajectory, text, 1.0)
    seen = last.predict_x0()
    assert (seen - last.latents).abs().mean() < 0.2 * last.latents.abs().mean()


@pytest.mark.parametrize("kind", ["own", *EDM_KINDS])
def test_playgrounds_formulation_is_predicted_and_scheduled(kind: str) -> None:
    model = edm_model()
    scheduler = prepare_scheduler(model.pipe, 8, kind)
    levels = noise_levels(scheduler)
    assert list(levels) == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(999)
    text = encode_prompts(model.pipe, STORY.prompts[:1], "", 1.0)
    generators = frame_generators((1,))
    noise = initial_latents(model.pipe, generators, model.native_size)
    trajectory = Trajectory.begin(model.pipe, noise, 8, generators, kind)
    *_, last = denoise(model.pipe, trajectory, text, 1.0)
    # With sigma 0 at the end, the last step goes all the way to the predicted x0.
    torch.testing.assert_close(last.predict_x0(), last.latents, rtol=1e-3, atol=1e-3)
    assert torch.isfinite(latents(model, replace(SHARED, scheduler=kind, preview_every=1))).all()


def test_an_edm_model_takes_no_other_formulation() -> None:
    model = edm_model()
    assert isinstance(make_scheduler(model.pipe.scheduler, "euler"), EDMEulerScheduler)
    with pytest.raises(
        ValueError, match=r"^scheduler must be one of own, euler, dpm\+\+ with this model.*, got 'ddim'"
    ):
        generate(model, STORY, replace(SHARED, scheduler="ddim"))


def test_more_steps_than_a_distilled_scheduler_knows_are_refused(small_model: Model) -> None:
    with pytest.raises(ValueError, match=r"^steps must be at most 50 with LCMScheduler, got 80"):
        generate(small_model, STORY, Settings(steps=80, scheduler="lcm"))


def test_spacing_is_where_the_steps_lie(small_model: Model) -> None:
    own = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    trailing = make_scheduler(own, "euler", "trailing")
    trailing.set_timesteps(4)
    assert trailing.timesteps.tolist() == [999, 749, 499, 249]  # as SDXL-Lightning's card asks for
    assert make_scheduler(own, "own", "trailing").config.timestep_spacing == "trailing"
    assert own.config.timestep_spacing == "leading"
    started = next(iter(generate(small_model, STORY, replace(SHARED, scheduler="lcm", spacing="trailing"))))
    assert any(note.startswith("timestep spacing has no effect with lcm") for note in started.notes)


@pytest.mark.parametrize("steps", [2, 3, 4, 6, 8, 9])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_every_part_has_its_steps_when_there_are_few(steps: int, spacing: str) -> None:
    scheduler = make_scheduler(DDIMScheduler(steps_offset=1), "euler", spacing)
    scheduler.set_timesteps(steps)
    schedule = Schedule.of(noise_levels(scheduler), replace(preset("consistory"), steps=steps))
    assert len(schedule.blend_weights) == 2  # that of step 0 is never applied
    assert schedule.blend_weights[1] == pytest.approx(0.81836735)
    assert len(schedule.injected) >= 1
    assert schedule.injected[-1] < steps
    assert schedule.injected[-1] <= max(1, steps // 3)
    assert schedule.feature_step < schedule.first_pass_end <= steps


@pytest.mark.parametrize("steps", [4, 8])
@pytest.mark.parametrize("kind", ["euler", "lcm", "tcd"])
def test_every_part_acts_at_few_steps_without_guidance(steps: int, kind: str, small_model: Model) -> None:
    base = Settings(
        steps=steps, guidance=0.0, scheduler=kind, spacing="own" if kind != "euler" else "trailing"
    )
    plain = latents(small_model, replace(base, sdsa=False))
    shared = latents(small_model, base)
    assert torch.isfinite(shared).all()
    assert (shared - plain).abs().max() > 0.01
    for part in ({"query_blending": True}, {"injection": True}, {"masking": False}, {"mask_dropout": 0.0}):
        assert (latents(small_model, replace(base, **part)) - shared).abs().max() > 1e-3, part


def test_distilled_guidance_takes_no_second_half() -> None:
    """A U-Net with distilled guidance (LCM) gets the guidance as an input; the batch is not doubled."""
    pipe = make_pipeline("small")
    config = {**dict(pipe.unet.config), "time_cond_proj_dim": 16}
    config.pop("_use_default_values")
    torch.manual_seed(2)
    pipe.unet = type(pipe.unet).from_config(config).eval()
    torch.nn.init.normal_(pipe.unet.time_embedding.cond_proj.weight)
    model = Model(pipe, "distilled", torch.device("cpu"), torch.float32)
    sizes = []
    handle = pipe.unet.register_forward_pre_hook(lambda unet, given: sizes.append(len(given[0])))
    low, high = (latents(model, replace(SHARED, guidance=g, scheduler="lcm")) for g in (2.0, 8.0))
    handle.remove()
    assert set(sizes) == {1, 2}  # frames, not halves
    assert (low - high).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sdxl_lightning_4step_lora", ("Lightning", 4, "euler", "trailing")),
        ("Hyper-SDXL-8steps-lora", ("Hyper-SD", 8, "ddim", "trailing")),
        ("Hyper-SDXL-1step-lora", ("Hyper-SD", 2, "ddim", "trailing")),
        ("stabilityai/sdxl-turbo", ("Turbo", 4, "own", "own")),
        ("latent-consistency/lcm-lora-sdxl", ("LCM", 4, "lcm", "own")),
        ("sdxl_lightning_16step", ("Lightning", 16, "euler", "trailing")),
    ],
)
def test_few_step_models_are_known_by_name(name: str, expected: tuple) -> None:
    found = few_step_model_for(name)
    assert (found.name, found.steps, found.scheduler, found.spacing) == expected
    assert found.guidance <= 1
    assert few_step_model_for("RealVisXL_V5.0") is None


def test_the_default_is_the_models_own(tiny_folder) -> None:
    model = load_model(str(tiny_folder), "cpu")
    before = dict(model.pipe.scheduler.config)
    assert torch.equal(latents(model, SHARED), latents(model, replace(SHARED, scheduler="ddim")))
    assert dict(model.pipe.scheduler.config) == before
