"""Train everything that lies in `assets/storybook/`: `python -m training.run --preset cpu`.

Every stage goes on from files in the build folder, so a run that was stopped can be started again. On a CPU
start it
under `torchrun --nproc-per-node 2` (the Makefile does), which puts one single-threaded process on each core.
"""

from __future__ import annotations

import argparse
import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from training import parallel
from training.assemble import assemble, scaling_factor
from training.clip import train_clip
from training.dataset import render_shard, shards
from training.decoded import decode_shard
from training.latents import encode_shard
from training.reader import train_reader
from training.text import open_tokenizer, train_tokenizer
from training.unet import train_unet
from training.vae import fit_components, train_decoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """How long each stage takes: steps at most, seconds at most (None: no limit), pictures a step and
    process."""

    device: str
    shards: int
    shard: int
    text_steps: int
    unet: tuple[int, float | None, int]
    crops: tuple[int, float | None, int]
    whole: tuple[int, float | None, int]
    reader: tuple[int, float | None, int]
    clip: tuple[int, float | None, int]


PRESETS = {
    # At most 2.5 hours on two cores.
    "cpu": Preset(
        device="cpu",
        shards=26,
        shard=1000,
        text_steps=600,
        unet=(1_000_000, 4800, 16),
        crops=(1_000_000, 900, 16),
        whole=(1_000_000, 400, 1),
        reader=(1_000_000, 900, 48),
        clip=(1_000_000, 360, 64),
    ),
    # At most 25 minutes on one H200; not yet run, see docs/journal.md.
    "gpu": Preset(
        device="cuda",
        shards=60,
        shard=1000,
        text_steps=600,
        unet=(200_000, 720, 256),
        crops=(12_000, 180, 64),
        whole=(6_000, 90, 16),
        reader=(20_000, 90, 256),
        clip=(6_000, 90, 512),
    ),
}


def _share(count: int) -> range:
    """Which of `count` things this process does, where several share the work."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    return range(parallel.rank(), count, world)


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()


def train(preset: Preset, build: Path, assets: Path, text_from: Path | None = None) -> None:
    """Every stage in order; with `text_from` the text encoders go on from those of an assembled model."""
    pictures, latents = build / "pictures", build / "latents"
    if parallel.rank() == 0:
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(render_shard, pictures, count=preset.shard), range(preset.shards)))
        train_tokenizer(build / "tokenizer")
    _wait()
    tokenizer = open_tokenizer(build / "tokenizer")
    components = fit_components(pictures)
    found = shards(pictures)
    for k in _share(len(found)):
        encode_shard(components, pictures, latents, found[k])
    _wait()
    scale = scaling_factor(latents)
    steps, seconds, batch = preset.unet
    model = train_unet(
        pictures,
        latents,
        tokenizer,
        build / "unet",
        steps,
        batch,
        scale,
        preset.device,
        seconds=seconds,
        text_steps=preset.text_steps,
        text_from=text_from,
    )
    vae, before = None, 0
    for (steps, seconds, batch), side, peak in ((preset.crops, 64, 2e-3), (preset.whole, 256, 6e-4)):
        before += steps
        vae = train_decoder(
            pictures, components, build / "vae", before, batch, preset.device, seconds, side, peak
        )
    _wait()
    if parallel.rank() == 0:
        assemble(vae.cpu(), model.cpu(), tokenizer, scale, assets)
    vae = vae.to(preset.device).float()
    for k in list(_share(len(found)))[:1]:
        decode_shard(vae, pictures, latents, build / "decoded", found[k], count=500)
    _wait()
    folders = [pictures, build / "decoded"]
    steps, seconds, batch = preset.reader
    state = build / "reader.safetensors"
    train_reader(folders, assets / "reader", state, steps, batch, preset.device, seconds)
    steps, seconds, batch = preset.clip
    state = build / "clip.safetensors"
    train_clip(pictures, tokenizer, assets / "clip", state, steps, batch, preset.device, seconds)
    _wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="cpu", help="how long, and on what")
    parser.add_argument(
        "--build", type=Path, default=Path("build/training"), help="where everything in between is kept"
    )
    parser.add_argument(
        "--assets", type=Path, default=Path("assets/storybook"), help="where the finished models go"
    )
    parser.add_argument(
        "--text-from", type=Path, help="assembled model whose text encoders are trained further"
    )
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parallel.start()
    torch.manual_seed(0)
    train(PRESETS[flags.preset], flags.build, flags.assets, flags.text_from)


if __name__ == "__main__":
    main()
