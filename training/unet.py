"""Train the storybook U-Net together with its two text encoders, on latents of rendered pictures."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from consistory_svd.compat import cure_torchvision

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from consistory_svd.metrics.vocabulary import attributes_in
from training.captions import caption, vocabulary
from training.checkpoint import Average, Schedule, learning_rate, load, save
from training.latents import Latents
from training.parallel import average_gradients, rank, same_everywhere
from training.text import build_text_encoder, random_truth, tokenize
from training.vae import LATENT_CHANNELS, LATENT_SIDE
from training.world.vocabulary import ACCESSORIES, ACTIONS, COLORS, PATTERNS, SCENES, STYLES, SUBJECTS

cure_torchvision()

from diffusers import DDIMScheduler, UNet2DConditionModel  # noqa: E402
from diffusers.models.attention_processor import AttnProcessor  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

log = logging.getLogger(__name__)
WIDTHS = (128, 160)  # of the two text encoders
CHANNELS = (32, 96, 160)  # of the U-Net at 32 x 32, 16 x 16 and 8 x 8; attention at the last two, as in SDXL
HEADS = (1, 2, 5)  # attention heads a level; the first level has no attention
SIZE = 256
# Extra weight of latents that the subject covers: a fifth of the picture, most of its meaning and of its
# difficulty.
SUBJECT_WEIGHT = 6.0
EMPTY_SHARE = 0.1  # captions left out, for classifier-free guidance (Ho and Salimans 2022)
SNR_CAP = 5.0  # min-SNR weighting (Hang et al. 2023)
CLASSES = {
    "subject": SUBJECTS,
    "color": tuple(COLORS),
    "pattern": PATTERNS,
    "accessory": ACCESSORIES,
    "accessory_color": tuple(COLORS),
    "scene": SCENES,
    "action": ACTIONS,
    "style": STYLES,
}


def build_unet() -> UNet2DConditionModel:
    """SDXL's U-Net at a three-hundredth of the size: no attention at 32 x 32, self- and cross-attention at
    16 x 16 and 8 x 8, `text_time` conditioning."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
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
    calls them."""

    def __init__(self, tokenizer: CLIPTokenizer):
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer, WIDTHS[0], projected=False)
        self.text_encoder_2 = build_text_encoder(tokenizer, WIDTHS[1], projected=True)
        self.unet = build_unet()

    def use_plain_attention(self) -> None:
        """Attention as two matrix products: on a CPU the backward pass of the fused one is so slow that a
        whole
        training step takes 1.8 times as long (1.35 s against 0.76 s)."""
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
    ) -> torch.Tensor:
        """Predicted velocity; where `keep` (n,) is 0 the caption is empty, which in SDXL means zeros."""
        prompt, pooled = self.encode(ids)
        time_ids = torch.tensor([SIZE, SIZE, 0, 0, SIZE, SIZE], device=noisy.device, dtype=torch.float32)
        added = {"text_embeds": pooled * keep[:, None], "time_ids": time_ids.expand(len(noisy), 6)}
        return self.unet(noisy, steps, prompt * keep[:, None, None], added_cond_kwargs=added).sample


def pretrain_text(
    model: TextToNoise, tokenizer: CLIPTokenizer, steps: int, device: str, seconds: float | None = None
) -> float:
    """Teach both text encoders to say what a caption names, before any picture is drawn; returns the last
    accuracy.

    A hundred times cheaper than learning the words through the U-Net's loss.
    """
    heads = nn.ModuleList(
        nn.ModuleDict({key: nn.Linear(width, len(names)) for key, names in CLASSES.items()})
        for width in WIDTHS
    ).to(device)
    parameters = [*model.text_encoder.parameters(), *model.text_encoder_2.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    words = vocabulary()
    rng, start, accuracy = np.random.default_rng(11 + rank()), time.monotonic(), 0.0
    for step in range(steps):
        truths = [random_truth(rng) for _ in range(48)]
        texts = [caption(t, rng) for t in truths]
        named = [attributes_in(text, words) for text in texts]
        ids = tokenize(tokenizer, texts).to(device)
        pooled = [model.text_encoder(ids).pooler_output, model.text_encoder_2(ids).text_embeds]
        loss, right, asked = 0.0, 0, 0
        for key, names in CLASSES.items():
            # What a caption does not name is not asked for (-100 is left out of the loss).
            labels = torch.tensor([names.index(n[key]) if key in n else -100 for n in named], device=device)
            if (labels < 0).all():
                continue
            for head, features in zip(heads, pooled, strict=True):
                scores = head[key](features)
                loss = loss + F.cross_entropy(scores, labels)
                right += int(((scores.argmax(-1) == labels) & (labels >= 0)).sum())
                asked += int((labels >= 0).sum())
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, 1e-3, 50)
        # Zeros, not None: a head that nothing asked for on this process must still take part in the
        # averaging.
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        average_gradients(parameters)
        optimizer.step()
        accuracy = right / asked
        if step % 50 == 0 and rank() == 0:
            log.info("text step %d accuracy %.3f %.2f s", step, accuracy, time.monotonic() - start)
        if seconds and same_everywhere(time.monotonic() - start) > seconds:
            break
    return accuracy


def noise_levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Steps to train on, (count,) in 0..999: a third uniform, the rest logit-normal around the middle.

    At the ends little is decided: almost clean latents are almost the answer, and pure noise leaves only the
    mean. Source: Esser et al. 2024, section 3.1.
    """
    even = torch.rand(count, generator=generator)
    middle = torch.sigmoid(torch.randn(count, generator=generator) + 0.3)
    uniform = torch.rand(count, generator=generator) < 1 / 3
    return (torch.where(uniform, even, middle) * 1000).long().clamp(max=999)


def velocity_loss(
    model: nn.Module, scheduler: DDIMScheduler, latents, cover, ids, generator: torch.Generator
) -> torch.Tensor:
    """Weighted mean squared error of the predicted velocity (Salimans and Ho 2022)."""
    count, device = len(latents), latents.device
    steps = noise_levels(count, generator).to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    keep = (torch.rand(count, generator=generator) >= EMPTY_SHARE).float().to(device)
    noisy = scheduler.add_noise(latents, noise, steps)
    target = scheduler.get_velocity(latents, noise, steps)
    with torch.autocast(device.type, torch.bfloat16):
        predicted = model(noisy, steps, ids, keep)
    alphas = scheduler.alphas_cumprod.to(device)[steps]
    snr = alphas / (1 - alphas)
    # For velocity the plain loss already weighs by snr + 1; a floor keeps the noisiest steps, which decide
    # the layout.
    weight = (snr.clamp(max=SNR_CAP) / (snr + 1)).clamp(min=0.3)
    where = 1 + SUBJECT_WEIGHT * F.interpolate(cover, size=latents.shape[-2:])
    where = where / where.mean()
    return (weight[:, None, None, None] * where * (predicted.float() - target) ** 2).mean()


def train_unet(
    pictures: Path,
    latents: Path,
    tokenizer: CLIPTokenizer,
    out: Path,
    steps: int,
    batch: int,
    scale: float,
    device: str = "cpu",
    peak: float = 8e-4,
    seconds: float | None = None,
    text_steps: int = 600,
    text_from: Path | None = None,
) -> TextToNoise:
    """Train for `steps` steps, going on from `out/state.safetensors` if it is there; returns the averaged
    model.

    With `seconds` the schedule ends when that time is over instead. The text encoders start from those of
    the assembled model in `text_from`, else `text_steps` (at most 90 seconds of them) go to them first.
    """
    torch.manual_seed(0)
    model = TextToNoise(tokenizer).to(device)
    if device == "cpu":
        model.use_plain_attention()
    scheduler = build_scheduler()
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=0.01)
    average = Average(model.parameters(), 0.999)
    state = out / "state.safetensors"
    step = load(state, model, optimizer, average)
    if not step and text_from:
        for name in ("text_encoder", "text_encoder_2"):
            getattr(model, name).load_state_dict(load_file(text_from / name / "model.safetensors"))
    elif not step:
        pretrain_text(model, tokenizer, text_steps, device, seconds=90)
    if not step:
        average = Average(model.parameters(), 0.999)
    data = Latents(pictures, latents, scale, seed=100 * step + rank() + 5)
    generator = torch.Generator().manual_seed(100 * step + rank() + 7)
    total, mark = 0.0, time.monotonic()
    schedule = Schedule(optimizer, step, steps, seconds, peak, warm_up=200)
    while schedule.goes_on(step):
        z, cover, texts = data.batch(batch)
        ids = tokenize(tokenizer, texts).to(device)
        loss = velocity_loss(model, scheduler, z.to(device), cover.to(device), ids, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, total = step + 1, total + loss.item()
        average.update(step)
        if step % 100 == 0 and rank() == 0:
            now = time.monotonic()
            log.info(
                "unet step %d loss %.4f %.2f s a step %d pictures",
                step,
                total / 100,
                (now - mark) / 100,
                len(data.latents),
            )
            total, mark = 0.0, now
        if step % 100 == 0:
            data.look()
        if step % 250 == 0 and rank() == 0:
            save(state, step, model, optimizer, average)
    if rank() == 0:
        save(state, step, model, optimizer, average)
    average.copy_to_model()
    return model
