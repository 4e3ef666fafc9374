"""Latents to images, with fallbacks: float32 if half precision overflows, tiles if memory runs out."""

from collections.abc import Callable

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

from consistory_svd.memory.offload import enable_tiling, free_cache, is_out_of_memory


class NumericalOverflow(ArithmeticError):
    """Values exceeded the range of their dtype; the message says what to do."""


class Decoder:
    """Decodes frames.

    Args:
        pipe: the pipeline whose autoencoder decodes.
        notify: called with a message when a fallback is used.
    """

    def __init__(self, pipe: StableDiffusionXLPipeline, notify: Callable[[str], None]) -> None:
        self._pipe, self._notify = pipe, notify

    def decode(self, latents: Tensor) -> Image.Image:
        """Decode one frame's latents, [channels, h, w], to an image.

        If the autoencoder overflows in half precision, it computes in float32 from then on.

        Raises:
            NumericalOverflow: the latents are not finite, or float32 overflows as well.
        """
        if not torch.isfinite(latents).all():
            raise NumericalOverflow(
                f"the U-Net overflowed in {_name(latents.dtype)}; load the model in bfloat16 or float32"
            )
        pixels = self._pixels(latents)
        vae = self._pipe.vae
        if not torch.isfinite(pixels).all() and vae.dtype != torch.float32:
            self._notify(
                f"the autoencoder overflowed in {_name(vae.dtype)}, which would have given a black image; "
                "it now computes in float32"
            )
            vae.to(dtype=torch.float32)
            pixels = self._pixels(latents)
        if not torch.isfinite(pixels).all():
            raise NumericalOverflow("the autoencoder overflowed in float32; its weights are corrupted")
        return self._pipe.image_processor.postprocess(pixels, output_type="pil")[0]

    def _pixels(self, latents: Tensor) -> Tensor:
        """Decoded pixels, [1, 3, height, width]; in tiles if memory runs out."""
        try:
            return decoded_pixels(self._pipe, latents)
        except RuntimeError as error:
            if not is_out_of_memory(error) or self._pipe.vae.use_tiling:
                raise
        # Outside of the handler, whose error refers to what was allocated.
        free_cache(latents.device)
        self._notify("memory ran out while decoding an image; images are now decoded in tiles")
        enable_tiling(self._pipe.vae)
        return decoded_pixels(self._pipe, latents)


@torch.no_grad()
def decoded_pixels(pipe: StableDiffusionXLPipeline, latents: Tensor) -> Tensor:
    """Decode one frame's latents, [channels, h, w], to pixels from -1 to 1: [1, 3, height, width]."""
    vae = pipe.vae
    scaled = latents[None].to(vae.dtype)
    mean, deviation = vae.config.latents_mean, vae.config.latents_std
    if mean is not None and deviation is not None:
        mean, deviation = (scaled.new_tensor(values).view(1, -1, 1, 1) for values in (mean, deviation))
        scaled = scaled * deviation / vae.config.scaling_factor + mean
    else:
        scaled = scaled / vae.config.scaling_factor
    return vae.decode(scaled, return_dict=False)[0]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
