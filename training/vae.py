"""The factor-16 autoencoder: an encoder in closed form, from principal components, and a decoder to train.

Training both by gradient descent for an hour on two cores gave softer pictures than principal components do
(docs/journal.md, 2026-11-21). With the encoder known in seconds, latents cost a matrix product a picture and
the U-Net's training begins at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consistory_svd.compat import cure_torchvision

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.dataset import load_images, shards

cure_torchvision()

from diffusers import AutoencoderKL  # noqa: E402 (needs the cure first)

WIDTHS = (16, 24, 48, 96, 128)
FACTOR = 2 ** (len(WIDTHS) - 1)
LATENT_CHANNELS = 48
LATENT_SIDE = 256 // FACTOR
NORM_GROUPS = 4
DETAIL = 0.75
# So large beside the signal that group normalisation divides by it alone, see `closed_form_encoder`.
REFERENCE = 1000.0


def build_vae() -> AutoencoderKL:
    """A small `AutoencoderKL`: 256 x 256 x 3 to 16 x 16 x 48. No attention, so that crops and pictures
    agree."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(WIDTHS),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=NORM_GROUPS,
        sample_size=256,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in -1..1."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_images(pictures: Tensor) -> np.ndarray:
    """Float (n, 3, h, w) in -1..1 to uint8 (n, h, w, 3)."""
    whole = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return whole.permute(0, 2, 3, 1).cpu().numpy()


def _halve(x: Tensor) -> Tensor:
    """Every 2 x 2 block becomes one pixel: (n, c, h, w) to (n, 4 c, h / 2, w / 2), channels fastest."""
    n, c, h, w = x.shape
    blocks = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, 4 * c, h // 2, w // 2)


@dataclass(frozen=True)
class Components:
    """A linear code of 16 x 16 patches, as the encoder's halvings can compute it.

    steps: one matrix a halving, (kept, 4 x channels before); last: (latent channels, kept) with `mean`
    (latent channels,) taken away after it.
    """

    steps: tuple[Tensor, ...]
    last: Tensor
    mean: Tensor

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) in -1..1 to latents (n, latent channels, h / 16, w / 16)."""
        return F.conv2d(pictures, self.matrix(), -self.mean, stride=FACTOR)

    def matrix(self) -> Tensor:
        """The whole code as one kernel, (latent channels, 3, 16, 16)."""
        pixels = 3 * FACTOR**2
        x = torch.eye(pixels).view(pixels, 3, FACTOR, FACTOR)
        for step in (*self.steps, self.last):
            x = _halve(x) if x.shape[-1] > 1 else x
            x = F.conv2d(x, step[:, :, None, None])
        return x[:, :, 0, 0].T.reshape(-1, 3, FACTOR, FACTOR)

    @classmethod
    def of(cls, pictures: Tensor) -> Components:
        """The components that lose least of `pictures` (n, 3, h, w) in -1..1.

        Their strengths are the natural ones to the power DETAIL: detail stays weaker than layout and so comes
        out of the noise later, which is easier to learn, but is not lost in the noise of the last steps.
        """
        x, steps = pictures, []
        for width in WIDTHS[:-1]:
            x = _halve(x)
            steps.append(_leading(_second_moments(x), width).float())
            x = F.conv2d(x, steps[-1][:, :, None, None])
        mean = x.mean((0, 2, 3))
        spread = _second_moments(x - mean[:, None, None])
        last = _leading(spread, LATENT_CHANNELS)
        deviation = (last @ spread @ last.T).diagonal().sqrt()
        last = (last * deviation[:, None] ** (DETAIL - 1)).float()
        return cls(tuple(steps), last, last @ mean)

    def save(self, path: Path) -> None:
        """Write as a safetensors file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {f"step{k}": step.contiguous() for k, step in enumerate(self.steps)}
        save_file(parts | {"last": self.last.contiguous(), "mean": self.mean.contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> Components:
        """Read what `save` wrote."""
        parts = load_file(path)
        return cls(tuple(parts[f"step{k}"] for k in range(len(parts) - 2)), parts["last"], parts["mean"])


def _second_moments(x: Tensor) -> Tensor:
    flat = x.transpose(0, 1).flatten(1)
    return (flat @ flat.T).double() / flat.shape[1]


def _leading(symmetric: Tensor, count: int) -> Tensor:
    """Eigenvectors of the `count` largest eigenvalues as rows (fewer where the matrix is smaller)."""
    vectors = torch.linalg.eigh(symmetric).eigenvectors.flip(1).T[:count]
    # Signs are arbitrary; fixed, so that every machine makes the same latents.
    return vectors * torch.where(vectors.sum(1, keepdim=True) < 0, -1.0, 1.0)


def fit_components(pictures: Path, file: Path) -> Components:
    """The components in `file`, or those of the first shard, which are then written to `file`."""
    if not file.exists():
        Components.of(to_tensor(load_images(pictures, shards(pictures)[0])[:500])).save(file)
    return Components.load(file)


def _signal_channels(vae: AutoencoderKL) -> tuple[list[int], list[int], list[int]]:
    """Which channels of the encoder's last level carry +x, which -x, and which the two references.

    x and -x of a component lie in the same group, so that the group's mean is zero.
    """
    group = WIDTHS[-1] // NORM_GROUPS
    share = -(-LATENT_CHANNELS // NORM_GROUPS)  # components a group
    if 2 * share + 2 > group:
        raise ValueError(f"WIDTHS[-1] is too small for {LATENT_CHANNELS} latent channels")
    plus = [(k // share) * group + k % share for k in range(LATENT_CHANNELS)]
    minus = [channel + share for channel in plus]
    references = [g * group + group - 2 for g in range(NORM_GROUPS)]
    return plus, minus, references


@torch.no_grad()
def closed_form_encoder(vae: AutoencoderKL, components: Components) -> None:
    """Set the encoder's weights so that it computes `components` (to about 1e-3).

    Residual branches are silenced. What remains in the way is the last normalisation and activation: a signal
    x is carried as +x and -x, because silu(x) - silu(-x) = x, and every group has two constant channels of
    +-REFERENCE, which alone set its standard deviation. The stated variance is negligible (log variance -10).
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
    plus, minus, references = _signal_channels(vae)
    shortcut = encoder.down_blocks[-1].resnets[0].conv_shortcut
    kept = components.last.shape[1]
    shortcut.weight.zero_()
    shortcut.weight[plus, :kept, 0, 0] = components.last
    shortcut.weight[minus, :kept, 0, 0] = -components.last
    shortcut.bias[plus], shortcut.bias[minus] = -components.mean, components.mean
    for channel in references:
        shortcut.bias[channel : channel + 2] = torch.tensor([REFERENCE, -REFERENCE])
    group = WIDTHS[-1] // NORM_GROUPS
    encoder.conv_norm_out.weight[plus + minus] = REFERENCE * (2 / group) ** 0.5
    outputs = list(range(LATENT_CHANNELS))
    encoder.conv_out.weight[outputs, plus, 1, 1] = 1.0
    encoder.conv_out.weight[outputs, minus, 1, 1] = -1.0
    encoder.conv_out.bias[LATENT_CHANNELS:] = -10.0
    vae.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * LATENT_CHANNELS)


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
