"""Put the trained parts together as the pipeline that the app loads: `assets/storybook/`."""

from __future__ import annotations

import shutil
from pathlib import Path

from consistory_svd.compat import cure_torchvision

import numpy as np

from training.captions import write_vocabulary
from training.model import TextToNoise, build_scheduler, build_unet
from training.vae import build_vae

cure_torchvision()

from diffusers import AutoencoderKL, StableDiffusionXLPipeline  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402


def scaling_factor(latents: Path) -> float:
    """One over the standard deviation of the latents, which makes them as large as the noise."""
    sample = np.load(sorted(latents.glob("latents-????.npy"))[0]).astype(np.float32)
    return round(1 / float(sample.std()), 5)


def assemble(
    vae: AutoencoderKL, model: TextToNoise, tokenizer: CLIPTokenizer, scale: float, out: Path
) -> StableDiffusionXLPipeline:
    """Write a `StableDiffusionXLPipeline` as safetensors to `out`, and the words that it knows."""
    # Fresh ones, whose configurations do not remember the folder they were trained in.
    clean = build_vae()
    clean.load_state_dict(vae.state_dict())
    clean.register_to_config(scaling_factor=scale)
    unet = build_unet(tuple(model.unet.config.block_out_channels))
    unet.load_state_dict(model.unet.state_dict())
    pipe = StableDiffusionXLPipeline(
        vae=clean,
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    # Half precision for the large parts only: asked for no dtype, diffusers loads them in float32, but
    # transformers would keep half-precision text encoders as they are, and the two would not fit together.
    pipe.unet.half()
    pipe.vae.half()
    pipe.save_pretrained(out, safe_serialization=True)
    write_vocabulary(out)
    return pipe


def copy_instruments(build: Path, out: Path) -> None:
    """Copy the trained reader and the trained CLIP of a build folder beside the pipeline."""
    for name in ("reader", "clip"):
        shutil.copytree(build / name, out / name, dirs_exist_ok=True)
