"""The factor-8 autoencoder: an encoder in closed form, from principal components, and a trained decoder.

Training both by gradient descent for an hour on two cores gave softer pictures than the principal components
of 8 x 8 patches do (docs/journal.md, 2026-11-21). With the encoder known in seconds, latents cost a matrix
product a picture, the U-Net's training begins at once, and the decoder is trained at any time beside it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from consistory_svd.compat import cure_torchvision

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.checkpoint import Average, Schedule, load, save
from training.dataset import load_images, shards
from training.parallel import average_gradients, rank

cure_torchvision()

from diffusers import AutoencoderKL  # noqa: E402 (needs the cure first)

log = logging.getLogger(__name__)
FACTOR = 8
LATENT_CHANNELS = 6
LATENT_SIDE = 256 // FACTOR
WIDTHS = (16, 16, 32, 64)
EDGE_WEIGHT = 1.0
COARSE_WEIGHT = 0.5
LATENT_NOISE = 0.15  # most noise, in standard deviations, that the decoder learns to put up with
# So large beside the signal that group normalisation divides by it alone, see `closed_form_encoder`.
REFERENCE = 200.0


def build_vae() -> AutoencoderKL:
    """A small `AutoencoderKL`: 256 x 256 x 3 to 32 x 32 x 6. No attention, so that crops and pictures
    agree."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=256,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in -1..1."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def _halve(x: Tensor) -> Tensor:
    """Every 2 x 2 block becomes one pixel: (n, c, h, w) to (n, 4 c, h / 2, w / 2), channels fastest."""
    n, c, h, w = x.shape
    blocks = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, 4 * c, h // 2, w // 2)


@dataclass(frozen=True)
class Components:
    """A linear code of 8 x 8 patches, as the encoder's three halvings can compute it.

    steps: one matrix a halving, (kept, 4 x channels before); last: (latent channels, kept) with `mean`
    (latent channels,) taken away after it.
    """

    steps: tuple[Tensor, ...]
    last: Tensor
    mean: Tensor

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) in -1..1 to latents (n, latent channels, h / 8, w / 8)."""
        x = pictures
        for step in self.steps:
            x = F.conv2d(_halve(x), step[:, :, None, None])
        return F.conv2d(x, self.last[:, :, None, None], -self.mean)

    @classmethod
    def of(cls, pictures: Tensor) -> Components:
        """The components that lose least of `pictures` (n, 3, h, w) in -1..1, each in its natural strength:
        detail is weaker than layout and so comes out of the noise later, which is easier to learn."""
        x, steps = pictures, []
        for width in WIDTHS[:-1]:
            x = _halve(x)
            second = torch.einsum("nchw,ndhw->cd", x.double(), x.double()) / x[:, 0].numel()
            steps.append(_leading(second, width).float())
            x = F.conv2d(x, steps[-1][:, :, None, None])
        mean = x.mean((0, 2, 3))
        centred = (x - mean[:, None, None]).double()
        spread = torch.einsum("nchw,ndhw->cd", centred, centred) / x[:, 0].numel()
        last = _leading(spread, LATENT_CHANNELS).float()
        return cls(tuple(steps), last, last @ mean)


def _leading(symmetric: Tensor, count: int) -> Tensor:
    """Eigenvectors of the `count` largest eigenvalues as rows (fewer where the matrix is smaller)."""
    vectors = torch.linalg.eigh(symmetric).eigenvectors.flip(1).T[:count]
    # Signs are arbitrary; fixed, so that every machine makes the same latents.
    return vectors * torch.where(vectors.sum(1, keepdim=True) < 0, -1.0, 1.0)


@torch.no_grad()
def closed_form_encoder(vae: AutoencoderKL, components: Components) -> None:
    """Set the encoder's weights so that it computes `components` (to about 1e-3).

    Residual branches are silenced. What remains in the way is the last normalisation and activation: a signal
    x is carried as +x and -x, because silu(x) - silu(-x) = x, beside two constant channels of +-REFERENCE,
    which alone set the group's standard deviation. The stated variance is negligible (log variance -10).
    """
    encoder = vae.encoder
    for parameter in [*encoder.parameters(), *vae.quant_conv.parameters()]:
        parameter.zero_()
    for name, module in encoder.named_modules():
        if name.endswith("conv_shortcut"):
            module.weight[:, :, 0, 0] = torch.eye(*module.weight.shape[:2])
    encoder.conv_in.weight[:, :, 1, 1] = torch.eye(WIDTHS[0], 3)
    for block, step in zip(encoder.down_blocks, components.steps, strict=False):
        kept, channels = step.shape[0], step.shape[1] // 4
        taps = step.view(kept, 2, 2, channels).permute(0, 3, 1, 2)
        block.downsamplers[0].conv.weight[:kept, :channels, :2, :2] = taps
    count, group = len(components.last), WIDTHS[-1] // vae.config.norm_num_groups
    signed = torch.cat([components.last, -components.last])
    shortcut = encoder.down_blocks[-1].resnets[0].conv_shortcut
    shortcut.weight.zero_()
    shortcut.weight[: 2 * count, : signed.shape[1], 0, 0] = signed
    shortcut.bias[: 2 * count] = torch.cat([-components.mean, components.mean])
    shortcut.bias[2 * count : 2 * count + 2] = torch.tensor([REFERENCE, -REFERENCE])
    encoder.conv_norm_out.weight[: 2 * count] = REFERENCE * (2 / group) ** 0.5
    encoder.conv_out.weight[:count, :count, 1, 1] = torch.eye(count)
    encoder.conv_out.weight[:count, count : 2 * count, 1, 1] = -torch.eye(count)
    encoder.conv_out.bias[count:] = -10.0
    vae.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * count)


def start_linear(decoder: torch.nn.Module) -> None:
    """Initialise so that signals pass unchanged in strength and every residual branch starts small.

    With the default initialisation the colours of a picture, which group normalisation removes from the
    residual branches, fade on their way through the small convolutions.
    """
    for name, module in decoder.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_in = module.weight[0].numel()
            gain = 0.1 if name.endswith("conv2") else 1.0
            torch.nn.init.normal_(module.weight, std=gain / fan_in**0.5)
            torch.nn.init.zeros_(module.bias)


def fit_components(pictures: Path) -> Components:
    """The components of the first shard."""
    return Components.of(to_tensor(load_images(pictures, shards(pictures)[0])[:300]))


class Crops:
    """Random crops out of the shards that are there; the subjects stand below the middle, so crops favour
    it. They start at whole latent cells."""

    def __init__(self, folder: Path, size: int, seed: int):
        self.folder, self.size = folder, size
        self.rng = np.random.default_rng(seed)
        self.pool: np.ndarray | None = None

    def refill(self) -> None:
        """Take another shard into memory."""
        self.pool = np.array(load_images(self.folder, int(self.rng.choice(shards(self.folder)))))

    def batch(self, count: int) -> Tensor:
        picks = self.rng.integers(0, len(self.pool), count)
        span = (256 - self.size) // FACTOR
        ys = (np.clip(self.rng.normal(0.55, 0.3, count), 0, 1) * span).astype(int) * FACTOR
        xs = (np.clip(self.rng.normal(0.5, 0.3, count), 0, 1) * span).astype(int) * FACTOR
        crops = [
            self.pool[i, y : y + self.size, x : x + self.size] for i, y, x in zip(picks, ys, xs, strict=True)
        ]
        return to_tensor(np.stack(crops))


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of pixels, of their differences to the right and below, which keeps edges sharp,
    and of 4 x 4 and 16 x 16 averages, which brings the colours in early."""
    edges = F.l1_loss(output.diff(dim=2), target.diff(dim=2)) + F.l1_loss(
        output.diff(dim=3), target.diff(dim=3)
    )
    coarse = sum(F.l1_loss(F.avg_pool2d(output, k), F.avg_pool2d(target, k)) for k in (4, 16))
    return F.l1_loss(output, target) + EDGE_WEIGHT * edges + COARSE_WEIGHT * coarse


def train_decoder(
    pictures: Path,
    components: Components,
    out: Path,
    steps: int,
    batch: int,
    device: str = "cpu",
    seconds: float | None = None,
    side: int = 64,
    peak: float = 2e-3,
) -> AutoencoderKL:
    """Train the decoder for `steps` steps (or `seconds`), going on from `out/state.safetensors` if it is
    there; returns the autoencoder with averaged weights, and writes it to `out`.

    `side` is that of the crops in pixels; the last part of the training should see whole pictures (256),
    because the statistics of group normalisation differ between crops and pictures (colours looked foggy
    without it). Latents get a little noise, as those that a U-Net makes have.
    """
    torch.manual_seed(0)
    vae = build_vae()
    closed_form_encoder(vae, components)
    start_linear(vae.decoder)
    vae.to(device)
    trained = torch.nn.ModuleList([vae.decoder, vae.post_quant_conv])
    optimizer = torch.optim.AdamW(trained.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-3)
    average = Average(trained.parameters(), 0.998)
    state = out / "state.safetensors"
    step = load(state, trained, optimizer, average)
    crops = Crops(pictures, side, seed=100 * step + rank() + 1)
    generator = torch.Generator().manual_seed(100 * step + rank() + 2)
    spread = float(components(to_tensor(load_images(pictures, shards(pictures)[0])[:50])).std())
    total, mark = 0.0, time.monotonic()
    schedule = Schedule(optimizer, step, steps, seconds, peak, warm_up=100)
    while schedule.goes_on(step):
        if crops.pool is None or step % 150 == 0:
            crops.refill()
        target = crops.batch(batch)
        latents = components(target)
        amount = torch.rand((batch, 1, 1, 1), generator=generator) * LATENT_NOISE * spread
        latents = latents + amount * torch.randn(latents.shape, generator=generator)
        with torch.autocast(device, torch.bfloat16):
            output = vae.decode(latents.to(device)).sample.float()
        loss = reconstruction_loss(output, target.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(trained.parameters())
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        step, total = step + 1, total + loss.item()
        average.update(step)
        if step % 200 == 0 and rank() == 0:
            now = time.monotonic()
            log.info("decoder step %d loss %.4f %.2f s a step", step, total / 200, (now - mark) / 200)
            total, mark = 0.0, now
        if step % 500 == 0 and rank() == 0:
            save(state, step, trained, optimizer, average)
    if rank() == 0:
        save(state, step, trained, optimizer, average)
    average.copy_to_model()
    if rank() == 0:
        vae.save_pretrained(out)
    return vae
