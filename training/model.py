"""The storybook SDXL: two CLIP text encoders, the U-Net and the scheduler."""

from __future__ import annotations

from consistory_svd.compat import cure_torchvision

import torch
from torch import nn

from training.text import build_text_encoder
from training.vae import LATENT_CHANNELS, LATENT_SIDE
from training.world.brush import PARTS

cure_torchvision()

from diffusers import DDIMScheduler, UNet2DConditionModel  # noqa: E402
from diffusers.models.attention_processor import AttnProcessor  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

WIDTHS = (128, 160)  # of the two text encoders
CHANNELS = (128, 256)  # of the U-Net at 16 x 16 and 8 x 8
HEADS = (2, 4)  # attention heads a level
SIZE = 256


def build_unet(channels: tuple[int, int] = CHANNELS) -> UNet2DConditionModel:
    """SDXL's U-Net at a hundred-and-fiftieth of the size: self- and cross-attention at 16 x 16 and 8 x 8,
    `text_time` conditioning. `channels` are the widths of the two levels."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=channels,
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=HEADS,  # the number of heads; diffusers keeps the old name
        cross_attention_dim=sum(WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=WIDTHS[1] + 6 * 32,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """v-prediction on SDXL's betas, rescaled so that the last step is pure noise (Lin et al. 2023): dark
    nights stay dark."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


class TextToNoise(nn.Module):
    """The trained parts in one module: both text encoders and the U-Net, called as StableDiffusionXLPipeline
    calls them.

    `part_head` predicts from the U-Net's middle features which part of the figure each cell of the clean
    picture shows. It is used in training only: features that must know the parts are learnt several times
    faster (the idea of REPA, Yu et al. 2024, with the renderer's truth for the pretrained features).
    """

    def __init__(self, tokenizer: CLIPTokenizer, channels: tuple[int, int] = CHANNELS):
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer, WIDTHS[0], projected=False)
        self.text_encoder_2 = build_text_encoder(tokenizer, WIDTHS[1], projected=True)
        self.unet = build_unet(channels)
        self.part_head = nn.Conv2d(channels[-1], len(PARTS), 1)
        self._features: torch.Tensor | None = None
        self.unet.up_blocks[0].register_forward_hook(self._keep)

    def _keep(self, block: nn.Module, given: tuple, features: torch.Tensor) -> None:
        self._features = features

    def use_plain_attention(self) -> None:
        """Attention as two matrix products: on a CPU the backward pass of the fused one is so slow that a
        whole training step takes 1.8 times as long."""
        self.unet.set_attn_processor(AttnProcessor())
        for encoder in (self.text_encoder, self.text_encoder_2):
            encoder.set_attn_implementation("eager")

    def encode(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (n, tokens) to prompt embeddings (n, tokens, 288) and pooled embeddings (n, 160)."""
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.text_encoder_2(ids, output_hidden_states=True)
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds

    def forward(
        self, noisy: torch.Tensor, steps: torch.Tensor, ids: torch.Tensor, keep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicted velocity, and scores of the parts (n, parts, 16, 16); where `keep` (n,) is 0 the caption
        is empty, which in SDXL means zeros."""
        prompt, pooled = self.encode(ids)
        time_ids = torch.tensor([SIZE, SIZE, 0, 0, SIZE, SIZE], device=noisy.device, dtype=torch.float32)
        added = {"text_embeds": pooled * keep[:, None], "time_ids": time_ids.expand(len(noisy), 6)}
        velocity = self.unet(noisy, steps, prompt * keep[:, None, None], added_cond_kwargs=added).sample
        features, self._features = self._features, None
        return velocity, self.part_head(features)
