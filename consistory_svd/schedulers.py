"""Schedulers by name, made from the scheduler that a model came with."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from consistory_svd.errors import FieldError, one_of

# Class, and changes to the configuration of the model's own scheduler.
KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": (EulerDiscreteScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {"clip_sample": False}),
    "tcd": (TCDScheduler, {"clip_sample": False}),
}
# A model of the EDM formulation (Karras et al. 2022), such as Playground v2.5, needs EDM schedulers.
EDM_KINDS: dict[str, type] = {"euler": EDMEulerScheduler, "dpm++": EDMDPMSolverMultistepScheduler}
EDM = tuple(EDM_KINDS.values())
# These ignore the step spacing.
OWN_SPACING = (LCMScheduler, TCDScheduler, *EDM)


def make_scheduler(own: Any, kind: str = "own", spacing: str = "own") -> Any:
    """A scheduler of a kind, with the noise levels and the prediction type of the model's own.

    Args:
        own: the model's scheduler; it is copied, never changed.
        kind: "own", or a name of `KINDS`.
        spacing: "own", or the spacing of the steps: leading, trailing, linspace.

    Raises:
        ValueError: the model's formulation does not support the kind.
    """
    changes = {} if spacing == "own" else {"timestep_spacing": spacing}
    if kind == "own":
        if not changes or isinstance(own, OWN_SPACING):
            return copy.deepcopy(own)
        return type(own).from_config(own.config, **changes)
    if isinstance(own, EDM):
        if kind not in EDM_KINDS:
            allowed = one_of(("own", *EDM_KINDS))
            raise FieldError("scheduler", kind, f"{allowed} with this model of the EDM formulation")
        return EDM_KINDS[kind].from_config(own.config)
    wanted, fixed = KINDS[kind]
    return wanted.from_config(own.config, **{**fixed, **changes})


def set_steps(scheduler: Any, steps: int, device: torch.device) -> Any:
    """Set a scheduler to a number of steps and return it. ValueError for more steps than it supports."""
    try:
        scheduler.set_timesteps(steps, device=device)
    except ValueError as error:  # LCM and TCD have as many steps as they were distilled with
        most = scheduler.config.original_inference_steps
        raise FieldError("steps", steps, f"at most {most} with {type(scheduler).__name__}") from error
    return scheduler


def step_extras(scheduler: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """Further arguments of `scheduler.step`, where it has them: eta 0, and the frames' generators."""
    accepted = inspect.signature(scheduler.step).parameters
    extras = {"eta": 0.0, "generator": list(generators)}
    return {name: value for name, value in extras.items() if name in accepted}


def noise_levels(scheduler: Any) -> tuple[float, ...]:
    """The steps' timesteps on the scale 0 to 1000 that SDXL was trained on, noisiest first.

    The method's parts are scheduled on that scale. EDM's timesteps are log(sigma) / 4; they are mapped to
    the timesteps at which SDXL's own noise is as strong.
    """
    timesteps = scheduler.timesteps.tolist()
    if not isinstance(scheduler, EDM):
        return tuple(timesteps)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, dim=0)
    known = (((1 - signal) / signal) ** 0.5).log().numpy()
    return tuple(np.interp([4 * t for t in timesteps], known, np.arange(1000)).tolist())


def predict_x0(scheduler: Any, timestep: Tensor, model_input: Tensor, prediction: Tensor) -> Tensor:
    """The denoised latents, x0, that a step predicts: float32, any shape.

    Args:
        scheduler: the scheduler that the step was taken with.
        timestep: the step's timestep.
        model_input: the U-Net's input: sqrt(a) x0 + sqrt(1 - a) noise, a the cumulative product of alphas
            at the timestep; with EDM (x0 + sigma noise) / sqrt(sigma^2 + sigma_data^2).
        prediction: the U-Net's output, guidance included.

    Raises:
        ValueError: a prediction type that SDXL models do not have.
    """
    noisy, prediction = model_input.float(), prediction.float()
    kind = scheduler.config.prediction_type
    if isinstance(scheduler, EDM):
        sigma = torch.exp(4 * timestep.float())
        latents = noisy * (sigma**2 + scheduler.config.sigma_data**2) ** 0.5
        return scheduler.precondition_outputs(latents, prediction, sigma)
    cumulative = scheduler.alphas_cumprod[int(timestep.round())].item()
    signal, noise = cumulative**0.5, (1 - cumulative) ** 0.5
    if kind == "epsilon":
        return (noisy - noise * prediction) / signal
    if kind == "v_prediction":
        return signal * noisy - noise * prediction
    raise FieldError("prediction_type", kind, "epsilon or v_prediction")
