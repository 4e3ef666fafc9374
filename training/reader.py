"""Train the storybook reader on renders, corrupted the way generated pictures are corrupted."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from consistory_svd.metrics.attribute_reader import SIDE, ReaderNetwork, save_reader
from training.checkpoint import Average, Checkpoint, Schedule
from training.dataset import load_images, load_truth, shards
from training.parallel import average_gradients, rank
from training.precision import autocast, faster_in_bfloat16
from training.unet import Length
from training.world.vocabulary import ACCESSORIES, ACTIONS, COLORS, PATTERNS, SCENES, STYLES, SUBJECTS

log = logging.getLogger(__name__)
WIDTHS = (24, 48, 96, 160, 224)
CLASSES = {
    "subject": list(SUBJECTS),
    "color": list(COLORS),
    "second_color": list(COLORS),
    "pattern": list(PATTERNS),
    "accessory": list(ACCESSORIES),
    "accessory_color": ["none", *COLORS],
    "scene": list(SCENES),
    "action": list(ACTIONS),
    "style": list(STYLES),
}


class Pictures:
    """Random batches of 128 x 128 pictures of one figure, with labels, from all `folders` of shards."""

    def __init__(self, folders: list[Path], seed: int, most: int = 20):
        self.rng = np.random.default_rng(seed)
        self.images, self.labels = [], []
        for folder in folders:
            for index in shards(folder)[:most]:
                truth = load_truth(folder, index)
                # Of two figures none is the one to read.
                single = [k for k, one in enumerate(truth) if "partner" not in one]
                small = torch.from_numpy(load_images(folder, index)[single]).permute(0, 3, 1, 2)
                self.images.append(F.avg_pool2d(small.float(), 2).round().byte())
                rows = [[names.index(truth[k][key]) for key, names in CLASSES.items()] for k in single]
                self.labels.append(torch.tensor(rows))
        self.images, self.labels = torch.cat(self.images), torch.cat(self.labels)

    def batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        picks = torch.from_numpy(self.rng.integers(0, len(self.images), count))
        images = self.images[picks].float() / 127.5 - 1
        return corrupt(images, self.rng), self.labels[picks]


def corrupt(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Blur, noise, shifts, mirrored halves and changes of light, each on a part of the batch; (n, 3, h, w)
    in -1..1."""
    count = len(images)
    if rng.random() < 0.5:
        images = images.flip(3)
    if rng.random() < 0.6:
        low = int(SIDE * rng.uniform(0.35, 0.95))
        small = F.interpolate(images[: count // 2], size=(low, low), mode="bilinear", antialias=True)
        images = torch.cat(
            [F.interpolate(small, size=images.shape[-2:], mode="bicubic"), images[count // 2 :]]
        )
    dy, dx = (int(v) for v in rng.integers(-8, 9, 2))
    images = torch.roll(F.pad(images, (8, 8, 8, 8), mode="replicate"), (dy, dx), (2, 3))[:, :, 8:-8, 8:-8]
    draw = lambda low, high: torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))  # noqa: E731
    noise = torch.from_numpy(rng.normal(size=images.shape).astype(np.float32)) * draw(-0.1, 0.1).clamp(min=0)
    return (images * draw(0.88, 1.12) + draw(-0.1, 0.1) + noise).clamp(-1, 1)


def reading_loss(
    network: nn.Module, data: Pictures, batch: int, device: str, reduced: bool
) -> tuple[torch.Tensor, dict[str, float]]:
    """Summed cross-entropy of all attributes on a random batch, and the share that is right of each."""
    images, labels = (x.to(device) for x in data.batch(batch))
    with autocast(device, reduced):
        scores = network(images)
    loss = sum(F.cross_entropy(s.float(), labels[:, k]) for k, s in enumerate(scores.values()))
    right = {
        key: (scores[key].argmax(1) == labels[:, k]).float().mean().item() for k, key in enumerate(CLASSES)
    }
    return loss, right


def train_reader(
    folders: list[Path],
    out: Path,
    state: Path,
    length: Length,
    device: str = "cpu",
    network: nn.Module | None = None,
    seed: int = 3,
) -> nn.Module:
    """Train, going on from `state` if it is there, and write the reader to `out`.

    Args:
        folders: shards of pictures, see `dataset`.
        network: another one than the reader that is shipped; its weights alone are written.
        seed: of the order of the pictures.
    """
    torch.manual_seed(seed)
    shipped = network is None
    network = (network or ReaderNetwork(CLASSES, WIDTHS)).train().to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    average = Average(network.parameters(), 0.995)
    checkpoint = Checkpoint(state, network, [optimizer], [average])
    step = checkpoint.load()
    schedule = Schedule([optimizer], length.steps, length.seconds, warm_up=100, first=step)
    data = Pictures(folders, seed=100 * step + rank() + seed)
    reduced = faster_in_bfloat16(
        lambda r: reading_loss(network, data, length.batch, device, r)[0].backward(), device
    )
    mark = time.monotonic()
    while schedule.goes_on(step):
        loss, right = reading_loss(network, data, length.batch, device, reduced)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(network.parameters())
        optimizer.step()
        step += 1
        average.update(step)
        if step % 100 == 0 and rank() == 0:
            shares = " ".join(f"{key} {value:.2f}" for key, value in right.items())
            log.info("reader step %d, %.2f s: %s", step, (time.monotonic() - mark) / 100, shares)
            mark = time.monotonic()
        if step % 500 == 0:
            checkpoint.save(step)
    checkpoint.save(step)
    average.copy_to_model()
    settle_statistics(network, data, length.batch, device)
    if rank() == 0 and shipped:
        save_reader(out, network.cpu(), CLASSES, WIDTHS)
    elif rank() == 0:
        save_weights(out, network.cpu())
    return network


def save_weights(folder: Path, network: nn.Module) -> None:
    """Write `model.safetensors` in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")


@torch.no_grad()
def settle_statistics(network: nn.Module, data: Pictures, batch: int, device: str) -> None:
    """Batch normalisation's statistics belong to the weights of each step; take them anew for the averaged
    weights."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    for _ in range(30):
        network(data.batch(batch)[0].to(device))
    network.eval()
