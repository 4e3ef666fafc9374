"""Train the autoencoder's decoder, on clean latents and on latents that the U-Net has denoised."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.checkpoint import Average, Checkpoint, Schedule
from training.dataset import load_images, load_parts
from training.latents import encoded
from training.parallel import average_gradients, rank
from training.precision import autocast, faster_in_bfloat16
from training.unet import Length
from training.vae import FACTOR, Components, build_vae, closed_form_encoder, start_linear, to_tensor

log = logging.getLogger(__name__)
# How much a pixel of each of `world.brush.PARTS` counts.
PART_WEIGHTS = (1.0, 2.0, 2.0, 2.0, 4.0, 3.0, 3.0, 2.0)
EDGE_WEIGHT = 1.0
COARSE_WEIGHT = 0.5
LATENT_NOISE = 0.1  # most noise on clean latents, in standard deviations
CROP = 6  # side of a crop in latent cells
WHOLE_FROM = 0.75  # share of the training after which it sees whole pictures, see `DecoderTraining`
RATE = 2e-3


def reconstruction_loss(output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute error of pixels and of their differences to the right and below, which keeps edges sharp,
    each weighted by `weights` (n, 1, h, w), and of 4 x 4 and 16 x 16 averages, which brings the colours in
    early."""
    weights = weights / weights.mean()
    pixels = ((output - target).abs() * weights).mean()
    edges = sum(
        ((output.diff(dim=d) - target.diff(dim=d)).abs() * weights.narrow(d, 1, weights.shape[d] - 1)).mean()
        for d in (2, 3)
    )
    coarse = sum(F.l1_loss(F.avg_pool2d(output, k), F.avg_pool2d(target, k)) for k in (4, 16))
    return pixels + EDGE_WEIGHT * edges + COARSE_WEIGHT * coarse


class Samples:
    """Random latents with the pictures and part weights that belong to them.

    denoised: folder of `denoise_shard`; half of the samples come from there where there are any.
    """

    def __init__(self, pictures: Path, latents: Path, denoised: Path, seed: int):
        self.pictures, self.latents, self.denoised = pictures, latents, denoised
        self.rng = np.random.default_rng(seed)
        self.weights = torch.tensor(PART_WEIGHTS)

    def batch(self, count: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (n, c, cells, cells), pictures (n, 3, h, w), weights (n, 1, h, w), all of one crop."""
        folder = self.denoised if encoded(self.denoised) and self.rng.random() < 0.5 else self.latents
        index = int(self.rng.choice(encoded(folder)))
        latents = np.load(folder / f"latents-{index:04d}.npy", mmap_mode="r")
        picks = np.sort(self.rng.integers(0, len(latents), count))
        rows = latents[picks] if folder == self.denoised else latents[picks, 0]
        y, x = self.rng.integers(0, rows.shape[-1] - cells + 1, 2)
        pixels = np.s_[:, y * FACTOR : (y + cells) * FACTOR, x * FACTOR : (x + cells) * FACTOR]
        images = load_images(self.pictures, index)[picks][pixels]
        parts = torch.from_numpy(load_parts(self.pictures, index)[picks]).long()
        parts = parts.repeat_interleave(2, 1).repeat_interleave(2, 2)[pixels]
        crop = torch.from_numpy(rows[:, :, y : y + cells, x : x + cells]).float()
        if folder == self.latents:
            amount = float(self.rng.uniform(0, LATENT_NOISE)) * crop.std()
            crop = crop + amount * torch.from_numpy(self.rng.normal(size=crop.shape).astype(np.float32))
        return crop, to_tensor(images), self.weights[parts][:, None]


class DecoderTraining:
    """The state of the training; the checkpoint is `out/state.pt`, the finished autoencoder lies in `out`.

    Most of it sees crops. The last part sees whole pictures, because the statistics of group normalisation
    differ between crops and pictures (colours looked foggy without it).
    """

    def __init__(self, components: Components, out: Path, device: str):
        torch.manual_seed(0)
        self.out, self.device = out, device
        self.vae = build_vae()
        closed_form_encoder(self.vae, components)
        start_linear(self.vae.decoder)
        self.vae.to(device)
        self.trained = nn.ModuleList([self.vae.decoder, self.vae.post_quant_conv])
        self.optimizer = torch.optim.AdamW(
            self.trained.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-3
        )
        self.average = Average(self.trained.parameters(), 0.998)
        self.checkpoint = Checkpoint(out / "state.pt", self.trained, [self.optimizer], [self.average])
        self.step = self.checkpoint.load()

    def update(self, samples: Samples, count: int, cells: int, reduced: bool) -> float:
        """One step on `count` crops of `cells` x `cells` latent cells on each process; returns the loss."""
        latents, target, weights = (x.to(self.device) for x in samples.batch(count, cells))
        with autocast(self.device, reduced):
            output = self.vae.decode(latents).sample
        loss = reconstruction_loss(output.float(), target, weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.trained.parameters())
        nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.step)
        return loss.item()

    def run(self, pictures: Path, latents: Path, denoised: Path, length: Length) -> None:
        """Train for the given length and write the autoencoder with averaged weights to `out`."""
        samples = Samples(pictures, latents, denoised, seed=100 * self.step + rank() + 1)
        schedule = Schedule([self.optimizer], length.steps, length.seconds, first=self.step)
        goes_on = schedule.goes_on(self.step)
        if goes_on:
            reduced = faster_in_bfloat16(lambda r: self.update(samples, length.batch, CROP, r), self.device)
        total, mark = 0.0, time.monotonic()
        while goes_on:
            whole = schedule.share > WHOLE_FROM
            count = max(1, length.batch // 6) if whole else length.batch
            total += self.update(samples, count, 256 // FACTOR if whole else CROP, reduced)
            if self.step % 100 == 0 and rank() == 0:
                pace = (time.monotonic() - mark) / 100
                log.info("decoder step %d loss %.4f, %.2f s, whole %s", self.step, total / 100, pace, whole)
                total, mark = 0.0, time.monotonic()
            if self.step % 500 == 0:
                self.checkpoint.save(self.step)
            goes_on = schedule.goes_on(self.step)
        self.checkpoint.save(self.step)
        self.average.copy_to_model()
        if rank() == 0:
            self.vae.save_pretrained(self.out)
