"""Schedulers by the names that people know, made from the scheduler that a model came with."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
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

# What differs from the model's own configuration, which each is made from.
KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": (EulerDiscreteScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {"clip_sample": False}),
    "tcd": (TCDScheduler, {"clip_sample": False}),
}
# A model of the EDM formulation (Karras et al. 2022), such as Playground v2.5, has schedulers of its own.
EDM_KINDS: dict[str, type] = {"euler": EDMEulerScheduler, "dpm++": EDMDPMSolverMultistepScheduler}
EDM = tuple(EDM_KINDS.values())
# These place their steps themselves.
OWN_SPACING = (LCMScheduler, TCDScheduler, *EDM)


@dataclass(frozen=True)
class Recipe:
    """What a distilled model or LoRA, which needs few steps, is made to be run with."""

    name: str
    steps: int
    guidance: float
    scheduler: str
    spacing: str = "own"


# By the word in the name of the file or model; the first that fits. Sources: the models' own cards.
RECIPES: dict[str, Recipe] = {
    "lightning": Recipe("Lightning", 4, 0.0, "euler", "trailing"),
    "hyper": Recipe("Hyper-SD", 8, 0.0, "ddim", "trailing"),
    "turbo": Recipe("Turbo", 4, 0.0, "own"),
    "lcm": Recipe("LCM", 4, 1.0, "lcm"),
    "tcd": Recipe("TCD", 4, 0.0, "tcd"),
}


def recipe_for(*names: str) -> Recipe | None:
    """The recipe of a few-step model or LoRA, recognised by its name; None for all others.

    A number of steps in the name, as in `sdxl_lightning_8step_lora`, is taken over. It is 2 at least, for
    with one step nothing could be shared.
    """
    for name in names:
        lower = name.lower()
        recipe = next((recipe for word, recipe in RECIPES.items() if word in lower), None)
        if recipe is None:
            continue
        said = [number for number in (1, 2, 4, 6, 8, 12, 16) if f"{number}step" in lower.replace("-", "")]
        steps = max(2, said[-1]) if said else recipe.steps
        return Recipe(recipe.name, steps, recipe.guidance, recipe.scheduler, recipe.spacing)
    return None


def make_scheduler(own: Any, kind: str = "own", spacing: str = "own") -> Any:
    """A scheduler of a kind, with the noise levels and the prediction type of the model's own.

    Args:
        own: the model's scheduler; it is copied, never changed.
        kind: "own", or a name of `KINDS`.
        spacing: "own", or where the steps lie: leading, trailing, linspace.

    Raises:
        ValueError: the model's formulation does not go with the kind.
    """
    changes = {} if spacing == "own" else {"timestep_spacing": spacing}
    if kind == "own":
        if not changes or isinstance(own, OWN_SPACING):
            return copy.deepcopy(own)
        return type(own).from_config(own.config, **changes)
    if isinstance(own, EDM):
        if kind not in EDM_KINDS:
            allowed = ", ".join(("own", *EDM_KINDS))
            raise ValueError(
                f"scheduler: {kind!r} is not allowed with this model, which is of the EDM formulation; "
                f"give one of {allowed}"
            )
        return EDM_KINDS[kind].from_config(own.config)
    wanted, fixed = KINDS[kind]
    return wanted.from_config(own.config, **{**fixed, **changes})


def set_steps(scheduler: Any, steps: int, device: torch.device) -> Any:
    """The scheduler, set to a number of steps. ValueError, naming `steps`, for more than it can take."""
    try:
        scheduler.set_timesteps(steps, device=device)
    except ValueError as error:  # LCM and TCD know as many steps as they were distilled with
        name = type(scheduler).__name__
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"steps: {steps} is not allowed with {name}; give fewer ({first})") from error
    return scheduler


def step_extras(scheduler: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """What `scheduler.step` takes beside the prediction: no noise of its own (eta), frames' generators."""
    takes = inspect.signature(scheduler.step).parameters
    extras = {"eta": 0.0, "generator": list(generators)}
    return {name: value for name, value in extras.items() if name in takes}


def noise_levels(scheduler: Any) -> tuple[float, ...]:
    """The steps' timesteps on the scale 0 to 1000 that SDXL was trained on, noisiest first.

    The method's parts are placed on that scale. EDM's timesteps are log(sigma) / 4; theirs are where SDXL's
    own noise is as strong.
    """
    timesteps = scheduler.timesteps.tolist()
    if not isinstance(scheduler, EDM):
        return tuple(timesteps)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, dim=0)
    known = (((1 - signal) / signal) ** 0.5).log().numpy()
    return tuple(np.interp([4 * t for t in timesteps], known, np.arange(1000)).tolist())


def predict_x0(scheduler: Any, timestep: Tensor, given: Tensor, prediction: Tensor) -> Tensor:
    """The denoised latents that a step foresees, float32, of any shape.

    Args:
        given: what the U-Net was given: sqrt(a) x0 + sqrt(1 - a) noise, a the cumulative product of alphas
            at the timestep; with EDM (x0 + sigma noise) / sqrt(sigma^2 + sigma_data^2).
        prediction: what it said, guidance included.

    Raises:
        ValueError: a prediction type that SDXL models do not have.
    """
    given, prediction = given.float(), prediction.float()
    kind = scheduler.config.prediction_type
    if isinstance(scheduler, EDM):
        sigma = torch.exp(4 * timestep.float())
        latents = given * (sigma**2 + scheduler.config.sigma_data**2) ** 0.5
        return scheduler.precondition_outputs(latents, prediction, sigma)
    cumulative = scheduler.alphas_cumprod[int(timestep.round())].item()
    signal, noise = cumulative**0.5, (1 - cumulative) ** 0.5
    if kind == "epsilon":
        return (given - noise * prediction) / signal
    if kind == "v_prediction":
        return signal * given - noise * prediction
    raise ValueError(f"prediction_type: {kind!r} of the scheduler is not known; epsilon and v_prediction are")
