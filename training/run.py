"""Train everything that lies in `assets/storybook/`: `python -m training.run --preset cpu`.

Every stage goes on from files in the build folder, so a run that was stopped can be started again. On a CPU
start it under `torchrun --nproc-per-node 2` (the Makefile does), which puts one single-threaded process on
each core.
"""

from __future__ import annotations

import argparse
import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from training import parallel
from training.assemble import assemble, copy_instruments, scaling_factor
from training.clip import train_clip
from training.dataset import render_shard, shards
from training.decoder import DecoderTraining
from training.denoised import Denoiser, decode_shard, denoise_shard
from training.latents import encode_shard, encoded
from training.model import CHANNELS, TextToNoise
from training.reader import train_reader
from training.second_reader import SEED, PlainNetwork
from training.text import open_tokenizer, train_tokenizer
from training.unet import BEST, Length, UNetTraining, load_average
from training.vae import AutoencoderKL, fit_components

log = logging.getLogger(__name__)
STAGES = ("render", "encode", "unet", "denoise", "decoder", "reader", "second_reader", "clip", "assemble")
TIMED = ("unet", "decoder", "reader", "clip")  # fields of a preset


@dataclass(frozen=True)
class Preset:
    """How long each stage takes (see `Length`); `shards` of `shard` pictures are rendered."""

    device: str
    shards: int
    shard: int
    text_steps: int
    unet: Length
    decoder: Length
    reader: Length
    clip: Length
    denoised: int  # pictures of each shard that the U-Net denoises for the decoder and the reader
    channels: tuple[int, int] = CHANNELS  # widths of the U-Net


UNLIMITED = 10_000_000
PRESETS = {
    # Some minutes: shows that the stages fit together; its pictures are noise.
    "smoke": Preset(
        device="cpu",
        shards=1,
        shard=8,
        text_steps=2,
        unet=Length(2, None, 2),
        decoder=Length(2, None, 2),
        reader=Length(2, None, 4),
        clip=Length(2, None, 4),
        denoised=2,
        channels=(32, 64),
    ),
    # Twelve hours on two cores.
    "cpu": Preset(
        device="cpu",
        shards=40,
        shard=1000,
        text_steps=600,
        unet=Length(UNLIMITED, 10 * 3600, 16),
        decoder=Length(UNLIMITED, 3600, 8),
        reader=Length(UNLIMITED, 1800, 48),
        clip=Length(UNLIMITED, 1200, 64),
        denoised=250,
    ),
    # Meant for 25 minutes on one H100; not run yet.
    "gpu": Preset(
        device="cuda",
        shards=60,
        shard=1000,
        text_steps=600,
        unet=Length(UNLIMITED, 900, 256),
        decoder=Length(UNLIMITED, 240, 64),
        reader=Length(UNLIMITED, 90, 256),
        clip=Length(UNLIMITED, 90, 512),
        denoised=1000,
    ),
}


def _share(items: list) -> list:
    """What of `items` this process does, where several share the work."""
    return items[parallel.rank() :: parallel.size()]


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()


class Training:
    """The stages, which read and write the build folder; the last one writes the finished models."""

    def __init__(self, preset: Preset, build: Path, assets: Path):
        self.preset, self.build, self.assets = preset, build, assets
        self.pictures, self.latents = build / "pictures", build / "latents"
        self.denoised = build / "denoised"

    def render(self) -> None:
        """Pictures, and the tokenizer of their captions."""
        if parallel.rank() == 0:
            with ProcessPoolExecutor() as pool:
                draw = partial(render_shard, self.pictures, count=self.preset.shard)
                list(pool.map(draw, range(self.preset.shards)))
            train_tokenizer(self.build / "tokenizer")

    def encode(self) -> None:
        """Latents of all pictures."""
        if parallel.rank() == 0:
            fit_components(self.pictures, self._components_file)
        _wait()
        for index in _share(shards(self.pictures)):
            encode_shard(self._components(), self.pictures, self.latents, index)

    def unet(self) -> None:
        """Text encoders and U-Net."""
        out, device = self.build / "unet", self.preset.device
        training = UNetTraining(self._tokenizer(), out, device, self.preset.text_steps, self.preset.channels)
        training.run(self.pictures, self.latents, self._scale(), self.preset.unet)

    def denoise(self) -> None:
        """Latents of renders that the U-Net has denoised, for the decoder and the readers."""
        denoiser = Denoiser(self._model(), self._tokenizer(), self._scale())
        for index in _share(encoded(self.latents)):
            denoise_shard(denoiser, self.pictures, self.latents, self.denoised, index, self.preset.denoised)

    def decoder(self) -> None:
        """The decoder; half of the time on denoised latents, where there are any."""
        training = DecoderTraining(self._components(), self.build / "vae", self.preset.device)
        training.run(self.pictures, self.latents, self.denoised, self.preset.decoder)

    def reader(self) -> None:
        """The reader, on renders and on what U-Net and decoder make of them."""
        for index in _share(encoded(self.denoised)):
            decode_shard(self._vae(), self.pictures, self.denoised, index)
        _wait()
        out, state = self.build / "reader", self.build / "reader.pt"
        train_reader([self.pictures, self.denoised], out, state, self.preset.reader, self.preset.device)

    def second_reader(self) -> None:
        """A reader that judges and is not shipped."""
        out, state = self.build / "second_reader", self.build / "second_reader.pt"
        folders, device = [self.pictures, self.denoised], self.preset.device
        train_reader(folders, out, state, self.preset.reader, device, PlainNetwork(), SEED)

    def clip(self) -> None:
        """The storybook CLIP."""
        out, state = self.build / "clip", self.build / "clip.pt"
        train_clip(self.pictures, self._tokenizer(), out, state, self.preset.clip, self.preset.device)

    def assemble(self) -> None:
        """Everything that was trained, as the app loads it."""
        if parallel.rank() == 0:
            assemble(self._vae(), self._model(), self._tokenizer(), self._scale(), self.assets)
            copy_instruments(self.build, self.assets)

    @property
    def _components_file(self) -> Path:
        return self.build / "components.safetensors"

    def _components(self):
        return fit_components(self.pictures, self._components_file)

    def _tokenizer(self):
        return open_tokenizer(self.build / "tokenizer")

    def _scale(self) -> float:
        return scaling_factor(self.latents)

    def _model(self) -> TextToNoise:
        """The best of the newest averages of the U-Net's training."""
        return (
            load_average(TextToNoise(self._tokenizer(), self.preset.channels), self.build / "unet" / BEST)
            .to(self.preset.device)
            .eval()
        )

    def _vae(self) -> AutoencoderKL:
        return AutoencoderKL.from_pretrained(self.build / "vae").to(self.preset.device)


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
        "--stages", nargs="+", choices=STAGES, default=STAGES, help="only these stages, in this order"
    )
    parser.add_argument("--seconds", type=float, help="how long each of the chosen training stages takes")
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parallel.start()
    torch.manual_seed(0)
    preset = PRESETS[flags.preset]
    if flags.seconds:
        lengths = {name: replace(getattr(preset, name), seconds=flags.seconds) for name in TIMED}
        preset = replace(preset, **lengths)
    training = Training(preset, flags.build, flags.assets)
    for stage in flags.stages:
        log.info("stage: %s", stage)
        getattr(training, stage)()
        _wait()


if __name__ == "__main__":
    main()
