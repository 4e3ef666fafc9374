"""Train the storybook reader on renders, spoilt the way generated pictures are spoilt."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from consistory_svd.metrics.attribute_reader import SIDE, ReaderNetwork, load_reader, save_reader
from training.checkpoint import Average, Schedule, load, save
from training.dataset import load_images, load_truth, shards
from training.parallel import average_gradients, rank
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
    """Random batches of 128 x 128 pictures with labels, half of them decoded from noisy latents where there
    are such.

    `decoded` holds files like the shards' (`images-0000.npy`), pictures that went through the autoencoder.
    """

    def __init__(self, folders: list[Path], seed: int, most: int = 24):
        self.rng = np.random.default_rng(seed)
        self.images, self.labels = [], []
        for folder in folders:
            for index in shards(folder)[:most]:
                small = torch.from_numpy(np.array(load_images(folder, index))).permute(0, 3, 1, 2)
                self.images.append(F.avg_pool2d(small.float(), 2).round().byte())
                rows = [
                    [names.index(t[key]) for key, names in CLASSES.items()] for t in load_truth(folder, index)
                ]
                self.labels.append(torch.tensor(rows))
        self.images, self.labels = torch.cat(self.images), torch.cat(self.labels)

    def batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        picks = torch.from_numpy(self.rng.integers(0, len(self.images), count))
        images = self.images[picks].float() / 127.5 - 1
        return spoil(images, self.rng), self.labels[picks]


def spoil(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
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


def train_reader(
    folders: list[Path],
    out: Path,
    state: Path,
    steps: int,
    batch: int = 48,
    device: str = "cpu",
    seconds: float | None = None,
    start_from: Path | None = None,
) -> ReaderNetwork:
    """Train, going on from `state` if it is there, else from the reader in `start_from` if one is given, and
    write the reader to `out`."""
    torch.manual_seed(0)
    network = ReaderNetwork(CLASSES, WIDTHS)
    if start_from:
        network.load_state_dict(load_reader(start_from).network.state_dict())
    network.train().to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    average = Average(network.parameters(), 0.995)
    step = load(state, network, optimizer, average)
    data = Pictures(folders, seed=100 * step + rank() + 3)
    mark = time.monotonic()
    schedule = Schedule(optimizer, step, steps, seconds, 2e-3, warm_up=100)
    while schedule.goes_on(step):
        images, labels = data.batch(batch)
        images, labels = images.to(device), labels.to(device)
        with torch.autocast(device, torch.bfloat16):
            scores = network(images)
        loss = sum(F.cross_entropy(s.float(), labels[:, k]) for k, s in enumerate(scores.values()))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(network.parameters())
        optimizer.step()
        step += 1
        average.update(step)
        if step % 100 == 0 and rank() == 0:
            right = {
                key: (scores[key].argmax(1) == labels[:, k]).float().mean().item()
                for k, key in enumerate(CLASSES)
            }
            generated = " ".join(f"{key} {value:.2f}" for key, value in right.items())
            seconds_a_step = (time.monotonic() - mark) / 100
            log.info(
                "reader step %d loss %.3f %.2f s a step: %s", step, loss.item(), seconds_a_step, generated
            )
            mark = time.monotonic()
        if step % 500 == 0 and rank() == 0:
            save(state, step, network, optimizer, average)
    if rank() == 0:
        save(state, step, network, optimizer, average)
    average.copy_to_model()
    settle_statistics(network, data, batch, device)
    if rank() == 0:
        save_reader(out, network.cpu(), CLASSES, WIDTHS)
    return network


@torch.no_grad()
def settle_statistics(network: ReaderNetwork, data: Pictures, batch: int, device: str) -> None:
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
