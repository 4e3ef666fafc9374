"""The denoising loop over stock diffusers parts: a generator that yields once a step."""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from consistory_svd.sharing import Occurrences, SharingState, find_occurrences

FREEU = {"s1": 0.6, "s2": 0.4, "b1": 1.1, "b2": 1.2}


@dataclass(frozen=True)
class TextEmbeddings:
    """What the text encoders say about a batch of prompts; unconditional rows first where there is guidance.

    tokens: [halves * B, prompt tokens, channels]; pooled: [halves * B, channels].
    """

    tokens: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Step:
    """A denoising step that is done. `index` counts from 0; all tensors are [B, channels, h, w]."""

    index: int
    steps: int
    timestep: Tensor
    latents: Tensor
    model_input: Tensor
    prediction: Tensor


@torch.no_grad()
def encode_prompts(
    pipe: StableDiffusionXLPipeline, prompts: Sequence[str], negative: str, guidance: float
) -> TextEmbeddings:
    """Encode a batch's prompts as the stock pipeline does: guidance <= 1 means none, and an empty negative
    prompt is all zeros where the model's `force_zeros_for_empty_prompt` says so.
    """
    guided = guidance > 1
    positive, unconditional, pooled, unconditional_pooled = pipe.encode_prompt(
        prompt=list(prompts),
        device=pipe.unet.device,
        do_classifier_free_guidance=guided,
        negative_prompt=[negative] * len(prompts) if negative.strip() else None,
    )
    if not guided:
        return TextEmbeddings(positive, pooled)
    return TextEmbeddings(torch.cat([unconditional, positive]), torch.cat([unconditional_pooled, pooled]))


def locate_concepts(
    pipe: StableDiffusionXLPipeline, prompts: Sequence[str], concepts: Sequence[str]
) -> Occurrences:
    """Where the concepts stand among the prompts' tokens, as the first tokenizer cuts them (spec 4.4)."""
    tokenizer = pipe.tokenizer
    cut = tokenizer(list(prompts), truncation=True, max_length=tokenizer.model_max_length).input_ids
    return find_occurrences(cut, tokenizer(list(concepts), add_special_tokens=False).input_ids)


def frame_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator a frame, on the CPU, so that every device and every batch draws the same."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def initial_latents(
    pipe: StableDiffusionXLPipeline, generators: Sequence[torch.Generator], size: tuple[int, int]
) -> Tensor:
    """Noise of unit variance for a batch, [B, channels, h, w], each frame from its own generator in float32.

    `size` is (height, width) in pixels.
    """
    factor = pipe.vae_scale_factor
    shape = (1, pipe.unet.config.in_channels, size[0] // factor, size[1] // factor)
    draws = [torch.randn(shape, generator=generator) for generator in generators]
    return torch.cat(draws).to(pipe.unet.device, pipe.unet.dtype)


@contextmanager
def free_u(unet: UNet2DConditionModel, on: bool) -> Iterator[None]:
    """FreeU (Si et al. 2023) on or off while entered, with the paper's factors (spec 1); then as it was."""
    before = [{name: getattr(block, name, None) for name in FREEU} for block in unet.up_blocks]
    unet.enable_freeu(**FREEU) if on else unet.disable_freeu()
    try:
        yield
    finally:
        for block, held in zip(unet.up_blocks, before, strict=True):
            for name, value in held.items():
                setattr(block, name, value)


def prepare_scheduler(pipe: StableDiffusionXLPipeline, steps: int) -> Any:
    """A copy of the model's scheduler, set to the number of steps, so that no two runs share its state."""
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(steps, device=pipe.unet.device)
    return scheduler


@dataclass
class Trajectory:
    """A batch on its way from noise to pictures: latents [B, channels, h, w] before step `index`.

    `generators`, one a frame, feed schedulers that add noise.
    """

    latents: Tensor
    scheduler: Any
    generators: list[torch.Generator]
    index: int = 0

    @classmethod
    def begin(
        cls,
        pipe: StableDiffusionXLPipeline,
        noise: Tensor,
        steps: int,
        generators: Sequence[torch.Generator],
    ) -> "Trajectory":
        """Before the first step, from noise of unit variance."""
        scheduler = prepare_scheduler(pipe, steps)
        return cls(noise * scheduler.init_noise_sigma, scheduler, list(generators))

    def fork(self) -> "Trajectory":
        """A copy that goes its own way from here, with the same random draws."""
        generators = [torch.Generator() for _ in self.generators]
        for twin, generator in zip(generators, self.generators, strict=True):
            twin.set_state(generator.get_state())
        return Trajectory(self.latents.clone(), copy.deepcopy(self.scheduler), generators, self.index)


@torch.no_grad()
def denoise(
    pipe: StableDiffusionXLPipeline,
    trajectory: Trajectory,
    text: TextEmbeddings,
    guidance: float,
    state: SharingState | None = None,
    stop: threading.Event | None = None,
    until: int | None = None,
) -> Iterator[Step]:
    """Take a trajectory to its end, or to just before step `until`, and yield after every step.

    Without `state` the last step's latents are those of the stock pipeline with `output_type="latent"`.
    With it, its processors must be installed. When `stop` is set, the loop ends before the next call of the
    U-Net.
    """
    scheduler, count = trajectory.scheduler, len(trajectory.scheduler.timesteps)
    noise = pipe.prepare_extra_step_kwargs(trajectory.generators, eta=0.0)
    conditions = {"text_embeds": text.pooled, "time_ids": _time_ids(pipe, trajectory.latents, text)}
    guided = guidance > 1

    def call(model_input: Tensor, timestep: Tensor) -> Tensor:
        return pipe.unet(
            model_input,
            timestep,
            encoder_hidden_states=text.tokens,
            added_cond_kwargs=conditions,
            return_dict=False,
        )[0]

    while trajectory.index < (count if until is None else until):
        if stop is not None and stop.is_set():
            return
        index, latents = trajectory.index, trajectory.latents
        timestep = scheduler.timesteps[index]
        doubled = torch.cat([latents] * 2) if guided else latents
        model_input = scheduler.scale_model_input(doubled, timestep)
        if state is not None and state.begin_step(index):
            with state.keeping_queries():
                call(model_input, timestep)
        prediction = call(model_input, timestep)
        if guided:
            unconditional, conditional = prediction.chunk(2)
            prediction = unconditional + guidance * (conditional - unconditional)
        latents = scheduler.step(prediction, timestep, latents, **noise, return_dict=False)[0]
        if state is not None:
            state.end_step()
        trajectory.latents, trajectory.index = latents, index + 1
        yield Step(index, count, timestep, latents, model_input[: len(latents)], prediction)


def predicted_picture(pipe: StableDiffusionXLPipeline, step: Step) -> Tensor:
    """The denoised latents that a step foresees, [B, channels, h, w], float32.

    What the U-Net is given is, for every scheduler, sqrt(a) x0 + sqrt(1 - a) noise with a the cumulative
    product of alphas at the timestep. ValueError for a prediction type that SDXL models do not have.
    """
    cumulative = pipe.scheduler.alphas_cumprod[int(step.timestep.round())].item()
    signal, noise = cumulative**0.5, (1 - cumulative) ** 0.5
    given, prediction = step.model_input.float(), step.prediction.float()
    kind = pipe.scheduler.config.prediction_type
    if kind == "epsilon":
        return (given - noise * prediction) / signal
    if kind == "v_prediction":
        return signal * given - noise * prediction
    raise ValueError(f"prediction_type: {kind!r} of the scheduler is not known; epsilon and v_prediction are")


@torch.no_grad()
def decode(pipe: StableDiffusionXLPipeline, latents: Tensor) -> Image.Image:
    """Decode one frame's latents, [channels, h, w], to a picture."""
    vae = pipe.vae
    scaled = latents[None].to(vae.dtype)
    mean, deviation = vae.config.latents_mean, vae.config.latents_std
    if mean is not None and deviation is not None:
        mean, deviation = (scaled.new_tensor(values).view(1, -1, 1, 1) for values in (mean, deviation))
        scaled = scaled * deviation / vae.config.scaling_factor + mean
    else:
        scaled = scaled / vae.config.scaling_factor
    decoded = vae.decode(scaled, return_dict=False)[0]
    return pipe.image_processor.postprocess(decoded, output_type="pil")[0]


def _time_ids(pipe: StableDiffusionXLPipeline, latents: Tensor, text: TextEmbeddings) -> Tensor:
    """SDXL's micro-conditioning, a row an item: original size, crop, target size (Podell et al. 2023,
    2.2).
    """
    height, width = (side * pipe.vae_scale_factor for side in latents.shape[-2:])
    row = text.tokens.new_tensor([[height, width, 0, 0, height, width]])
    return row.repeat(len(text.tokens), 1)
