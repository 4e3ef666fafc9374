"""The denoising loop over stock diffusers parts: a generator that yields once a step."""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from consistory_svd.attention import ConceptSpans, SharingState, find_concept_spans
from consistory_svd.schedulers import make_scheduler, predict_x0, set_steps, step_extras

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


def guides(pipe: StableDiffusionXLPipeline, guidance: float) -> bool:
    """Whether guidance takes a second half of the batch: above 1, unless the U-Net has it distilled in."""
    return guidance > 1 and pipe.unet.config.time_cond_proj_dim is None


@torch.no_grad()
def encode_prompts(
    pipe: StableDiffusionXLPipeline, prompts: Sequence[str], negative: str, guidance: float
) -> TextEmbeddings:
    """Encode a batch's prompts as the stock pipeline does: guidance <= 1 means none, and an empty negative
    prompt is all zeros where the model's `force_zeros_for_empty_prompt` says so.
    """
    guided = guides(pipe, guidance)
    positive, unconditional, pooled, unconditional_pooled = pipe.encode_prompt(
        prompt=list(prompts),
        device=pipe._execution_device,  # with offloading the weights may lie elsewhere
        do_classifier_free_guidance=guided,
        negative_prompt=[negative] * len(prompts) if negative.strip() else None,
    )
    if not guided:
        return TextEmbeddings(positive, pooled)
    return TextEmbeddings(torch.cat([unconditional, positive]), torch.cat([unconditional_pooled, pooled]))


def locate_concepts(
    pipe: StableDiffusionXLPipeline, prompts: Sequence[str], concepts: Sequence[str]
) -> ConceptSpans:
    """Where the concepts stand among the prompts' tokens, as the first tokenizer cuts them (spec 4.4)."""
    tokenizer = pipe.tokenizer
    cut = tokenizer(list(prompts), truncation=True, max_length=tokenizer.model_max_length).input_ids
    return find_concept_spans(cut, tokenizer(list(concepts), add_special_tokens=False).input_ids)


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
    return torch.cat(draws).to(pipe._execution_device, pipe.unet.dtype)


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


def prepare_scheduler(
    pipe: StableDiffusionXLPipeline, steps: int, kind: str = "own", spacing: str = "own"
) -> Any:
    """A scheduler set to the number of steps, so that no two runs share its state: a copy of the model's own,
    or made from it as `make_scheduler` does.
    """
    return set_steps(make_scheduler(pipe.scheduler, kind, spacing), steps, pipe._execution_device)


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
        kind: str = "own",
        spacing: str = "own",
    ) -> "Trajectory":
        """Before the first step, from noise of unit variance, with a scheduler as of `prepare_scheduler`."""
        scheduler = prepare_scheduler(pipe, steps, kind, spacing)
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
    extras = step_extras(scheduler, trajectory.generators)
    conditions = {"text_embeds": text.pooled, "time_ids": _time_ids(pipe, trajectory.latents, text)}
    guided = guides(pipe, guidance)
    strength = _distilled_guidance(pipe, guidance, len(text.tokens))

    def call(model_input: Tensor, timestep: Tensor) -> Tensor:
        return pipe.unet(
            model_input,
            timestep,
            encoder_hidden_states=text.tokens,
            timestep_cond=strength,
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
        latents = scheduler.step(prediction, timestep, latents, **extras, return_dict=False)[0]
        if state is not None:
            state.end_step()
        trajectory.latents, trajectory.index = latents, index + 1
        yield Step(index, count, timestep, latents, model_input[: len(latents)], prediction)


def predicted_image(pipe: StableDiffusionXLPipeline, step: Step, scheduler: Any = None) -> Tensor:
    """The denoised latents that a step foresees, [B, channels, h, w], float32.

    `scheduler` is the one that the step was taken with, the model's own by default. ValueError for a
    prediction type that SDXL models do not have.
    """
    scheduler = pipe.scheduler if scheduler is None else scheduler
    return predict_x0(scheduler, step.timestep, step.model_input, step.prediction)


def decode(pipe: StableDiffusionXLPipeline, latents: Tensor) -> Image.Image:
    """Decode one frame's latents, [channels, h, w], to a picture."""
    return pipe.image_processor.postprocess(decoded_pixels(pipe, latents), output_type="pil")[0]


@torch.no_grad()
def decoded_pixels(pipe: StableDiffusionXLPipeline, latents: Tensor) -> Tensor:
    """What the autoencoder makes of one frame's latents, [channels, h, w]: [1, 3, height, width], -1 to 1."""
    vae = pipe.vae
    scaled = latents[None].to(vae.dtype)
    mean, deviation = vae.config.latents_mean, vae.config.latents_std
    if mean is not None and deviation is not None:
        mean, deviation = (scaled.new_tensor(values).view(1, -1, 1, 1) for values in (mean, deviation))
        scaled = scaled * deviation / vae.config.scaling_factor + mean
    else:
        scaled = scaled / vae.config.scaling_factor
    return vae.decode(scaled, return_dict=False)[0]


def _distilled_guidance(pipe: StableDiffusionXLPipeline, guidance: float, items: int) -> Tensor | None:
    """The guidance as a U-Net takes it that has it distilled in (LCM): [items, channels]; None for others."""
    channels = pipe.unet.config.time_cond_proj_dim
    if channels is None:
        return None
    scale = torch.full((items,), guidance - 1.0)
    return pipe.get_guidance_scale_embedding(scale, channels).to(pipe._execution_device, pipe.unet.dtype)


def _time_ids(pipe: StableDiffusionXLPipeline, latents: Tensor, text: TextEmbeddings) -> Tensor:
    """SDXL's micro-conditioning, a row an item: original size, crop, target size (Podell et al. 2023,
    2.2).
    """
    height, width = (side * pipe.vae_scale_factor for side in latents.shape[-2:])
    row = text.tokens.new_tensor([[height, width, 0, 0, height, width]])
    return row.repeat(len(text.tokens), 1)
