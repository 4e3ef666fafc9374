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
from torch import Tensor

from consistory_svd.attention import ConceptSpans, SharingState, find_concept_spans
from consistory_svd.schedulers import make_scheduler, predict_x0, set_steps, step_extras

FREEU = {"s1": 0.6, "s2": 0.4, "b1": 1.1, "b2": 1.2}


@dataclass(frozen=True)
class TextEmbeddings:
    """Text embeddings of a batch of prompts; unconditional rows first if guidance is on.

    tokens: [halves * B, prompt tokens, channels]; pooled: [halves * B, channels].
    """

    tokens: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Step:
    """A finished denoising step. `index` counts from 0; latents, the conditional half of the U-Net's input
    and the guided prediction are [B, channels, h, w]."""

    index: int
    steps: int
    timestep: Tensor
    latents: Tensor
    model_input: Tensor
    prediction: Tensor
    scheduler: Any

    def predict_x0(self) -> Tensor:
        """The denoised latents that the step predicts, [B, channels, h, w], float32."""
        return predict_x0(self.scheduler, self.timestep, self.model_input, self.prediction)


def guides(pipe: StableDiffusionXLPipeline, guidance: float) -> bool:
    """Whether guidance needs an unconditional half of the batch: above 1, unless it is distilled in."""
    return guidance > 1 and pipe.unet.config.time_cond_proj_dim is None


@torch.no_grad()
def encode_prompts(
    pipe: StableDiffusionXLPipeline, prompts: Sequence[str], negative: str, guidance: float
) -> TextEmbeddings:
    """Encode a batch's prompts as the stock pipeline does: guidance <= 1 means none, and an empty negative
    prompt is all zeros if the model has `force_zeros_for_empty_prompt`.
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
    """Positions of the concepts among the prompts' tokens, by the first tokenizer."""
    tokenizer = pipe.tokenizer
    tokens = tokenizer(list(prompts), truncation=True, max_length=tokenizer.model_max_length).input_ids
    return find_concept_spans(tokens, tokenizer(list(concepts), add_special_tokens=False).input_ids)


def frame_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator per frame, on the CPU, so that every device and every batch draws the same."""
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
    """Switch FreeU (Si et al. 2023) on or off while entered, then restore it (docs/method.md, section 8)."""
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
    """A new scheduler, as of `make_scheduler`, set to the number of steps; runs never share one."""
    return set_steps(make_scheduler(pipe.scheduler, kind, spacing), steps, pipe._execution_device)


@dataclass
class Trajectory:
    """A batch that is being denoised: latents [B, channels, h, w] before step `index`.

    `generators`, one per frame, feed schedulers that add noise.
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
        """An independent copy, which continues with the same random draws."""
        generators = [generator.clone_state() for generator in self.generators]
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
    """Denoise a trajectory to its end, or to just before step `until`, and yield after every step.

    Without `state` the last step's latents are those of the stock pipeline with `output_type="latent"`.
    With it, its processors must be installed. After `stop` is set, the loop ends before the next U-Net call.
    """
    scheduler, count = trajectory.scheduler, len(trajectory.scheduler.timesteps)
    extras = step_extras(scheduler, trajectory.generators)
    conditions = {"text_embeds": text.pooled, "time_ids": _time_ids(pipe, trajectory.latents, text)}
    guided = guides(pipe, guidance)
    timestep_cond = _distilled_guidance(pipe, guidance, len(text.tokens))

    def call(model_input: Tensor, timestep: Tensor) -> Tensor:
        return pipe.unet(
            model_input,
            timestep,
            encoder_hidden_states=text.tokens,
            timestep_cond=timestep_cond,
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
            with state.queries.record():
                call(model_input, timestep)
        prediction = call(model_input, timestep)
        if guided:
            unconditional, conditional = prediction.chunk(2)
            prediction = unconditional + guidance * (conditional - unconditional)
        latents = scheduler.step(prediction, timestep, latents, **extras, return_dict=False)[0]
        if state is not None:
            state.end_step()
        trajectory.latents, trajectory.index = latents, index + 1
        yield Step(index, count, timestep, latents, model_input[: len(latents)], prediction, scheduler)


def _distilled_guidance(pipe: StableDiffusionXLPipeline, guidance: float, items: int) -> Tensor | None:
    """The guidance embedding of a U-Net with distilled guidance (LCM): [items, channels]; None for others."""
    channels = pipe.unet.config.time_cond_proj_dim
    if channels is None:
        return None
    scale = torch.full((items,), guidance - 1.0)
    return pipe.get_guidance_scale_embedding(scale, channels).to(pipe._execution_device, pipe.unet.dtype)


def _time_ids(pipe: StableDiffusionXLPipeline, latents: Tensor, text: TextEmbeddings) -> Tensor:
    """SDXL's micro-conditioning, one row per item: original size, crop, target size (Podell et al. 2023,
    section 2.2)."""
    height, width = (side * pipe.vae_scale_factor for side in latents.shape[-2:])
    row = text.tokens.new_tensor([[height, width, 0, 0, height, width]])
    return row.repeat(len(text.tokens), 1)
