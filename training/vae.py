"""Train the factor-16 autoencoder on crops of rendered pictures."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from consistory_svd.compat import cure_torchvision
from training.checkpoint import Schedule, load, save
from training.dataset import load_images, shards
from training.parallel import average_gradients, rank

cure_torchvision()

from diffusers import AutoencoderKL  # noqa: E402 (needs the cure first)

log = logging.getLogger(__name__)
KL_WEIGHT = 3e-4
EDGE_WEIGHT = 1.0
COARSE_WEIGHT = 0.5


def build_vae() -> AutoencoderKL:
    """A small `AutoencoderKL`: 256 x 256 x 3 to 16 x 16 x 12. No attention, so that crops and pictures
    agree."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=(16, 16, 32, 64, 160),
        layers_per_block=1,
        latent_channels=12,
        norm_num_groups=4,
        sample_size=256,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def start_linear(vae: AutoencoderKL) -> None:
    """Initialise so that signals pass unchanged in strength and every residual branch starts small.

    With the default initialisation the colours of a picture, which group normalisation removes from the
    residual
    branches, fade on their way through ten small convolutions: after 1,300 steps reconstructions were still
    grey.
    """
    for name, module in vae.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_in = module.weight[0].numel()
            gain = 0.1 if name.endswith("conv2") else 1.0
            torch.nn.init.normal_(module.weight, std=gain / fan_in**0.5)
            torch.nn.init.zeros_(module.bias)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in -1..1."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


class Crops:
    """Random crops out of the shards that are there; the subjects stand below the middle, so crops favour
    it."""

    def __init__(self, folder: Path, size: int, seed: int):
        self.folder, self.size = folder, size
        self.rng = np.random.default_rng(seed)
        self.pool: np.ndarray | None = None

    def refill(self) -> None:
        """Take another shard into memory."""
        self.pool = np.array(load_images(self.folder, int(self.rng.choice(shards(self.folder)))))

    def batch(self, count: int) -> torch.Tensor:
        picks = self.rng.integers(0, len(self.pool), count)
        span = 256 - self.size
        ys = np.clip(self.rng.normal(0.55, 0.3, count), 0, 1) * span
        xs = np.clip(self.rng.normal(0.5, 0.3, count), 0, 1) * span
        crops = [
            self.pool[i, y : y + self.size, x : x + self.size]
            for i, y, x in zip(picks, ys.astype(int), xs.astype(int), strict=True)
        ]
        return to_tensor(np.stack(crops))


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of pixels, of their differences to the right and below, which keeps edges sharp,
    and of
    4 x 4 and 16 x 16 averages, which brings the colours in early."""
    edges = F.l1_loss(output.diff(dim=2), target.diff(dim=2)) + F.l1_loss(
        output.diff(dim=3), target.diff(dim=3)
    )
    coarse = sum(F.l1_loss(F.avg_pool2d(output, k), F.avg_pool2d(target, k)) for k in (4, 16))
    return F.l1_loss(output, target) + EDGE_WEIGHT * edges + COARSE_WEIGHT * coarse


def train_vae(
    folder: Path,
    out: Path,
    steps: int,
    batch: int,
    device: str = "cpu",
    seconds: float | None = None,
    decoder_only: bool = False,
    side: int = 64,
    peak: float = 1e-3,
) -> AutoencoderKL:
    """Train for `steps` steps (or `seconds`), going on from `out/state.safetensors` if it is there.

    `side` is that of the crops in pixels; the last part of the training should see whole pictures (256),
    because the
    statistics of group normalisation differ between crops and pictures (colours looked foggy without it).
    With `decoder_only` the encoder stays as it is, so that latents made earlier remain valid.
    """
    torch.manual_seed(0)
    vae = build_vae()
    start_linear(vae)
    vae.to(device)
    if decoder_only:
        for part in (vae.encoder, vae.quant_conv):
            part.requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [p for p in vae.parameters() if p.requires_grad], lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3
    )
    state = out / ("decoder.safetensors" if decoder_only else "state.safetensors")
    step = load(state, vae, optimizer, None)
    if decoder_only and not step:
        vae.load_state_dict(AutoencoderKL.from_pretrained(out).state_dict())
    crops = Crops(folder, side, seed=100 * step + rank() + 1)
    total, mark = 0.0, time.monotonic()
    schedule = Schedule(optimizer, step, steps, seconds, peak, warm_up=100)
    while schedule.goes_on(step):
        if crops.pool is None or step % 150 == 0:
            crops.refill()
        target = crops.batch(batch).to(device)
        with torch.autocast(device, torch.bfloat16):
            posterior = vae.encode(target).latent_dist
            latents = posterior.mode() if decoder_only else posterior.sample()
            output = vae.decode(latents).sample.float()
        kl = posterior.kl().mean() / latents[0].numel()
        loss = reconstruction_loss(output, target) + KL_WEIGHT * kl.float()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(vae.parameters())
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step, total = step + 1, total + loss.item()
        if step % 200 == 0 and rank() == 0:
            now = time.monotonic()
            log.info(
                "vae step %d loss %.4f kl %.2f %.2f s a step",
                step,
                total / 200,
                kl.item(),
                (now - mark) / 200,
            )
            total, mark = 0.0, now
        if step % 500 == 0 and rank() == 0:
            save(state, step, vae, optimizer, None)
    if rank() == 0:
        save(state, step, vae, optimizer, None)
        vae.save_pretrained(out)
    return vae
