"""Load a model from a single .safetensors file, the format in which SDXL fine-tunes are shared."""

from pathlib import Path
from typing import Any

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import EDMDPMSolverMultistepScheduler, StableDiffusionXLPipeline
from safetensors import SafetensorError, safe_open

from consistory_svd.models.diffusers_folder import INDEX, check_pipeline, read_index
from consistory_svd.models.inspect import other_than_sdxl, read_shapes
from consistory_svd.paths import ASSETS
from consistory_svd.text_format import first_line

# Such a file holds only weights. SDXL's configurations and tokenizers come with the package: no download.
SDXL_CONFIG = ASSETS / "sdxl"


def load_single_file(path: Path, dtype: torch.dtype, config: Path | None = None) -> StableDiffusionXLPipeline:
    """Load the pipeline of a file in the original layout, on the CPU.

    Args:
        config: a folder in diffusers' format that gives configurations and tokenizers; by default SDXL's.
            The formulation that the file itself declares takes precedence: Playground v2.5 stores the mean
            and deviation of its latents, v-prediction models a marker tensor.

    Raises:
        ValueError: the file is not a complete SDXL checkpoint, or does not fit the configuration.
    """
    name = str(path)
    other = other_than_sdxl(shapes := read_shapes("model", path))
    if other:
        raise ValueError(f"model: {name!r} holds {other}")
    config = config or SDXL_CONFIG
    if not (config / INDEX).is_file():
        raise ValueError(f"config: {str(config)!r} has no {INDEX}; give a folder saved by diffusers")
    read_index(str(config), config)
    try:
        pipe = StableDiffusionXLPipeline.from_single_file(
            name, config=str(config), dtype=dtype, local_files_only=True, add_watermarker=False
        )
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(
            f"model: {name!r} does not fit the configuration in {str(config)!r}: {first_line(error)}; "
            "if its layout is not SDXL's own, give the folder of its configurations (--config)"
        ) from error
    check_pipeline(name, pipe)
    if {"edm_mean", "edm_std"} <= set(shapes):
        _make_edm(pipe, path)
    elif "v_pred" in shapes:
        _predict_velocity(pipe, zero_snr="ztsnr" in shapes)
    return pipe


def _make_edm(pipe: StableDiffusionXLPipeline, path: Path) -> None:
    """Set the scheduler and latent scale of Playground v2.5, as in the model's published configuration."""
    with safe_open(path, framework="pt") as file:
        mean, deviation = (file.get_tensor(name).flatten().tolist() for name in ("edm_mean", "edm_std"))
    pipe.scheduler = EDMDPMSolverMultistepScheduler(
        sigma_min=0.002,
        sigma_max=80.0,
        sigma_data=0.5,
        num_train_timesteps=1000,
        prediction_type="epsilon",
        rho=7.0,
        solver_order=2,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        lower_order_final=True,
        euler_at_final=False,
        final_sigmas_type="zero",
    )
    pipe.vae.register_to_config(latents_mean=mean, latents_std=deviation, scaling_factor=0.5)


def _predict_velocity(pipe: StableDiffusionXLPipeline, zero_snr: bool) -> None:
    """Set v-prediction; `zero_snr` rescales to zero terminal SNR (Lin et al. 2023)."""
    changes: dict[str, Any] = {"prediction_type": "v_prediction"}
    if zero_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **changes)
