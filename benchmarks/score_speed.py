"""Measure the time and memory of the metrics, beside a loaded generator.

    python -m benchmarks.score_speed [--images 8] [--side 1024] [--threads 2]

Measures DreamSim's clip_vitb32 backbone, then the same with a CLIP ViT-B/32 and a DINO ViT-S/16, each on
whole images and on subjects alone. All weights are random, in the real files and shapes: the scores mean
nothing, their cost is real. Seconds run from the call to the last score, loading included; CPU seconds are
those of all threads. Memory is the growth of the process's resident size while it scores, with the embedded
storybook model loaded, sampled every few milliseconds.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from consistory_svd.compat import quiet_libraries

import numpy as np
import psutil
import torch
import typer
from PIL import Image

from benchmarks import random_weights
from consistory_svd import load_model
from consistory_svd.cli.options import run
from consistory_svd.metrics.dreamsim_weights import dreamsim_folder
from consistory_svd.metrics.result import Frames, Result
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.suite import Suite
from training.world import render
from training.world.vocabulary import SCENES

# The largest acceptable cost.
MOST_SECONDS, MOST_GIGABYTES = 15.0, 2.0
SAMPLE_INTERVAL = 0.005  # seconds

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def sample_images(count: int, side: int) -> Frames:
    """Return renders of one cat in `count` scenes, enlarged to side x side pixels, with masks."""
    drawn = [
        render("cat", SCENES[k % len(SCENES)], "standing", "photo", np.random.default_rng(k))
        for k in range(count)
    ]
    size = (side, side)
    return Frames(
        images=[Image.fromarray(p.image).resize(size, Image.BICUBIC) for p in drawn],
        prompts=[f"a photo of a cat in the {p.attributes['scene']}" for p in drawn],
        masks=[Image.fromarray(p.mask.astype(np.uint8) * 255).resize(size, Image.NEAREST) for p in drawn],
    )


@contextmanager
def memory_growth() -> Iterator[list[float]]:
    """Measure the largest growth of the process's memory while entered: a list of one, in GB (10^9 bytes)."""
    process, stop, peak = psutil.Process(), threading.Event(), [0.0]
    before = process.memory_info().rss

    def sample() -> None:
        while not stop.wait(SAMPLE_INTERVAL):
            peak[0] = max(peak[0], (process.memory_info().rss - before) / 1e9)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def measured(name: str, settings: ScoreSettings, frames: Frames) -> bool:
    """Print the time and memory of scoring once, loading included. Return whether both are within bounds."""
    suite = Suite(settings)
    start, worked = time.perf_counter(), time.process_time()
    with memory_growth() as peak:
        entries = list(suite.measure(frames))
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
    suite.free()
    numbers = [entry.name for entry in entries if isinstance(entry, Result)]
    typer.echo(f"{name:28} {seconds:8.1f} {worked:10.1f} {peak[0]:9.2f}   {', '.join(numbers)}")
    return seconds <= MOST_SECONDS and peak[0] <= MOST_GIGABYTES


@app.command()
def main(
    count: Annotated[int, typer.Option("--images", min=2, help="Number of images.")] = 8,
    side: Annotated[int, typer.Option(min=64, help="Width and height in pixels.")] = 1024,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 2,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
) -> None:
    """Score images and print the cost; exit code 1 if it exceeds the bounds."""
    torch.set_num_threads(threads)
    quiet_libraries()
    model = load_model(device=device)
    frames = sample_images(count, side)
    with tempfile.TemporaryDirectory() as scratch:
        # In another process, because memory it leaves allocated would be counted as the generator's.
        subprocess.run([sys.executable, "-m", "benchmarks.score_speed", "write", scratch], check=True)
        cache = Path(scratch)
        alone = ScoreSettings(random_weights.BACKBONE, device=device, cache=cache)
        everything = replace(alone, clip=str(cache / "clip"), dino=str(cache / "dino"))
        typer.echo(f"{model.describe()}; {count} images of {side} x {side}, {threads} threads")
        typer.echo("random weights: the cost is real, the scores are not")
        typer.echo(f"{'':28} {'seconds':>8} {'CPU s':>10} {'GB':>9}")
        good = measured("DreamSim clip_vitb32", alone, frames)
        good &= measured("with CLIP and DINO", everything, frames)
    typer.echo(f"{'bound':28} {MOST_SECONDS:8.1f} {'':10} {MOST_GIGABYTES:9.2f}")
    raise typer.Exit(not good)


@app.command()
def write(folder: Path) -> None:
    """Write the random weights to a folder."""
    random_weights.write_networks(folder / "clip", folder / "dino")
    random = random_weights.full_weights(torch.Generator().manual_seed(0))
    dreamsim = dreamsim_folder(random_weights.BACKBONE, folder)
    random_weights.write_dreamsim(dreamsim, random)
    random_weights.write_manifest(dreamsim)


if __name__ == "__main__":
    sys.exit(run(app, [*sys.argv[1:]] if "write" in sys.argv[1:2] else ["main", *sys.argv[1:]]))
