"""From latents to a picture, safely: never a black one, and in tiles where memory does not suffice."""

from collections.abc import Callable

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

from consistory_svd.memory import free_cache, is_out_of_memory
from consistory_svd.memory.estimate import tile
from consistory_svd.sampling import decoded_pixels


class Overflow(ArithmeticError):
    """Numbers left the range of their format; the message says what to do."""


class Decoder:
    """Decodes frames; `say` is told in words what had to be done otherwise than asked for."""

    def __init__(self, pipe: StableDiffusionXLPipeline, say: Callable[[str], None]) -> None:
        self._pipe, self._say = pipe, say

    def decode(self, latents: Tensor) -> Image.Image:
        """Decode one frame's latents, [channels, h, w], to a picture.

        Where the autoencoder's numbers overflow in half precision it computes in float32 from then on.

        Raises:
            Overflow: the latents are not finite already, or float32 does not suffice either.
        """
        if not torch.isfinite(latents).all():
            kind = str(latents.dtype).removeprefix("torch.")
            raise Overflow(
                f"the U-Net's numbers left the range of {kind}; "
                "load the model with another number format: bfloat16 or float32"
            )
        pixels = self._pixels(latents)
        vae = self._pipe.vae
        if not torch.isfinite(pixels).all() and vae.dtype != torch.float32:
            kind = str(vae.dtype).removeprefix("torch.")
            self._say(
                f"the autoencoder's numbers left the range of {kind}, which would have made a black picture; "
                "it computes in float32 from now on"
            )
            vae.to(dtype=torch.float32)
            pixels = self._pixels(latents)
        if not torch.isfinite(pixels).all():
            raise Overflow("the autoencoder's numbers are not finite even in float32; its weights are spoilt")
        return self._pipe.image_processor.postprocess(pixels, output_type="pil")[0]

    def _pixels(self, latents: Tensor) -> Tensor:
        """[1, 3, height, width]; in tiles where memory ran out."""
        try:
            return decoded_pixels(self._pipe, latents)
        except RuntimeError as error:
            if not is_out_of_memory(error) or self._pipe.vae.use_tiling:
                raise
        # Outside of the handler, whose error holds on to what was allocated.
        free_cache(latents.device)
        self._say("memory ran out while a picture was decoded; it is decoded in tiles from now on")
        tile(self._pipe.vae)
        return decoded_pixels(self._pipe, latents)
