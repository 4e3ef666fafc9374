"""Train the storybook U-Net together with its two text encoders, on latents of rendered pictures."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call

from training.checkpoint import Average, Checkpoint, Schedule
from training.latents import Latents
from training.model import CHANNELS, TextToNoise, build_scheduler
from training.muon import Muon
from training.parallel import average_gradients, rank, same_everywhere
from training.precision import autocast, faster_in_bfloat16
from training.pretrain import pretrain_text
from training.text import tokenize

log = logging.getLogger(__name__)
# How much an error on each of `world.brush.PARTS` counts: small parts have most of the meaning.
PART_WEIGHTS = (1.0, 4.0, 4.0, 6.0, 8.0, 8.0, 7.0, 5.0)
PART_LOSS = 0.1  # weight of the part head's loss
EMPTY_SHARE = 0.1  # captions left out, for classifier-free guidance (Ho and Salimans 2022)
SNR_CAP = 5.0  # min-SNR weighting (Hang et al. 2023)
MATRIX_RATE, OTHER_RATE = 2e-3, 8e-4  # peak learning rates of Muon and of AdamW
DECAYS = (0.998, 0.9995)  # of the averages
HELD_OUT_SEED, HELD_OUT_BATCHES = 17, 6
BEST = "best.safetensors"
KEEP_SECONDS = 600  # between two kept averages


@dataclass(frozen=True)
class Length:
    """How long a stage lasts: `steps` at most, or `seconds`, and how many pictures a step and process."""

    steps: int
    seconds: float | None
    batch: int


def noise_levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """Steps to train on, (count,) in 0..999: a third uniform, the rest logit-normal around the middle.

    At the ends little is decided: almost clean latents are almost the answer, and pure noise leaves only the
    mean. Source: Esser et al. 2024, section 3.1.
    """
    even = torch.rand(count, generator=generator)
    middle = torch.sigmoid(torch.randn(count, generator=generator) + 0.3)
    uniform = torch.rand(count, generator=generator) < 1 / 3
    return (torch.where(uniform, even, middle) * 1000).long().clamp(max=999)


@dataclass(frozen=True)
class Losses:
    """The weighted squared error of the velocity, and the cross-entropy of the parts."""

    velocity: torch.Tensor
    parts: torch.Tensor


def losses(
    model: nn.Module, scheduler, latents, parts, ids, generator: torch.Generator, reduced: bool
) -> Losses:
    """Losses of noised latents (n, channels, h, w) whose cells show `parts` (n, parts, h, w) and whose
    captions are `ids`; the velocity is that of Salimans and Ho (2022). `reduced`: compute in bfloat16."""
    count, device = len(latents), latents.device
    steps = noise_levels(count, generator).to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    keep = (torch.rand(count, generator=generator) >= EMPTY_SHARE).float().to(device)
    noisy = scheduler.add_noise(latents, noise, steps)
    target = scheduler.get_velocity(latents, noise, steps)
    with autocast(device, reduced):
        predicted, scores = model(noisy, steps, ids, keep)
    alphas = scheduler.alphas_cumprod.to(device)[steps]
    snr = alphas / (1 - alphas)
    # For velocity the plain loss already weighs by snr + 1; a floor keeps the noisiest steps, which decide
    # the layout.
    weight = (snr.clamp(max=SNR_CAP) / (snr + 1)).clamp(min=0.3)
    where = torch.einsum("nphw,p->nhw", parts, torch.tensor(PART_WEIGHTS, device=device))
    where = (where / where.mean())[:, None]
    velocity = (weight[:, None, None, None] * where * (predicted.float() - target) ** 2).mean()
    entropy = F.cross_entropy(scores.float(), parts / parts.sum(1, keepdim=True), reduction="none")
    # In pure noise the caption alone says where the parts are.
    return Losses(velocity, (entropy * (0.2 + 0.8 * alphas.sqrt())[:, None, None] * where[:, 0]).mean())


def optimizers(model: TextToNoise) -> list[torch.optim.Optimizer]:
    """Muon for the U-Net's inner matrices, AdamW for all else."""
    inner = [
        p
        for name, p in model.unet.named_parameters()
        if p.ndim >= 2 and not name.startswith(("conv_in", "conv_out", "time_embedding", "add_embedding"))
    ]
    chosen = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(inner, lr=MATRIX_RATE),
        torch.optim.AdamW(rest, lr=OTHER_RATE, betas=(0.9, 0.99), weight_decay=0.01),
    ]


class UNetTraining:
    """The state of the training: model, optimizers, averages and the checkpoint `out/state.pt`.

    The text encoders of a fresh model learn the words first, for `text_steps` steps.
    """

    def __init__(
        self, tokenizer, out: Path, device: str, text_steps: int, channels: tuple[int, int] = CHANNELS
    ):
        torch.manual_seed(0)
        self.tokenizer, self.out, self.device = tokenizer, out, device
        self.model = TextToNoise(tokenizer, channels).to(device)
        if device == "cpu":
            self.model.use_plain_attention()
        self.optimizers = optimizers(self.model)
        self.averages = [Average(self.model.parameters(), decay, every=4) for decay in DECAYS]
        self.checkpoint = Checkpoint(out / "state.pt", self.model, self.optimizers, self.averages)
        self.step = self.checkpoint.load()
        if not self.step:
            pretrain_text(self.model, tokenizer, text_steps, device, seconds=180)
            self.averages[:] = [Average(self.model.parameters(), decay, every=4) for decay in DECAYS]
        self.scheduler = build_scheduler()

    def update(self, data: Latents, batch: int, generator: torch.Generator, reduced: bool) -> Losses:
        """One step on `batch` pictures of each process."""
        z, parts, texts = data.batch(batch)
        ids = tokenize(self.tokenizer, texts).to(self.device)
        z, parts = z.to(self.device), parts.to(self.device)
        found = losses(self.model, self.scheduler, z, parts, ids, generator, reduced)
        for one in self.optimizers:
            one.zero_grad(set_to_none=True)
        (found.velocity + PART_LOSS * found.parts).backward()
        average_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for one in self.optimizers:
            one.step()
        self.step += 1
        for average in self.averages:
            average.update(self.step)
        return found

    @torch.no_grad()
    def held_out_loss(self, weights: dict[str, torch.Tensor], data: Latents, reduced: bool) -> float:
        """The velocity's loss of other weights on pictures that are not trained on, with the same noise at
        every call."""
        data.rng = np.random.default_rng(HELD_OUT_SEED)
        generator = torch.Generator().manual_seed(HELD_OUT_SEED)
        found = []
        for _ in range(HELD_OUT_BATCHES):
            z, parts, texts = data.batch(16)
            ids = tokenize(self.tokenizer, texts).to(self.device)
            z, parts = z.to(self.device), parts.to(self.device)
            found.append(
                losses(
                    lambda *given: functional_call(self.model, weights, given),
                    self.scheduler,
                    z,
                    parts,
                    ids,
                    generator,
                    reduced,
                ).velocity
            )
        return torch.stack(found).mean().item()

    def keep(self, held_out: Latents, reduced: bool) -> None:
        """Write the averages beside the checkpoint, named by decay and step, and the one with the smallest
        loss on held-out pictures as `best.safetensors`."""
        if rank() != 0:
            return
        names = [name for name, _ in self.model.named_parameters()]
        self.out.mkdir(parents=True, exist_ok=True)
        smallest = float("inf")
        for average in self.averages:
            weights = dict(zip(names, average.values, strict=True))
            loss = self.held_out_loss(weights, held_out, reduced)
            log.info("average of %s at step %d: held-out loss %.4f", average.decay, self.step, loss)
            halves = {name: value.half().contiguous() for name, value in weights.items()}
            save_file(halves, self.out / f"average-{average.decay}-{self.step:06d}.safetensors")
            if loss < smallest:
                smallest = loss
                save_file(halves, self.out / BEST)

    def run(self, pictures: Path, latents: Path, scale: float, length: Length) -> None:
        """Train for the given length; the learning rate falls to zero at its end."""
        seed = 100 * self.step + rank()
        data = Latents(pictures, latents, scale, seed=seed + 5)
        held_out = Latents(pictures, latents, scale, seed=0, held_out=True)
        generator = torch.Generator().manual_seed(seed + 7)
        schedule = Schedule(self.optimizers, length.steps, length.seconds, first=self.step)
        if not schedule.goes_on(self.step):
            return
        reduced = faster_in_bfloat16(lambda r: self.update(data, length.batch, generator, r), self.device)
        log.info("bfloat16: %s, %d pictures", reduced, len(data.latents))
        mark = kept = time.monotonic()
        total = torch.zeros(2)
        while schedule.goes_on(self.step):
            found = self.update(data, length.batch, generator, reduced)
            total += torch.stack([found.velocity.detach(), found.parts.detach()]).cpu()
            if self.step % 50 == 0:
                self._report(total / 50, (time.monotonic() - mark) / 50)
                total, mark = torch.zeros(2), time.monotonic()
                data.look()
            if self.step % 250 == 0:
                self.checkpoint.save(self.step)
            if same_everywhere(time.monotonic() - kept) > KEEP_SECONDS:
                self.checkpoint.save(self.step)
                self.keep(held_out, reduced)
                kept = time.monotonic()
        self.checkpoint.save(self.step)
        self.keep(held_out, reduced)

    def _report(self, mean: torch.Tensor, seconds: float) -> None:
        if rank() == 0:
            rate = self.optimizers[0].param_groups[0]["lr"]
            log.info(
                "unet step %d velocity %.4f parts %.4f, %.2f s, rate %.5f", self.step, *mean, seconds, rate
            )


def load_average(model: TextToNoise, file: Path) -> TextToNoise:
    """Put a kept average into the model."""
    model.load_state_dict({name: value.float() for name, value in load_file(file).items()}, strict=False)
    return model
