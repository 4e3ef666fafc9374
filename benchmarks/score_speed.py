"""How long scores take and how much memory they need beside a loaded generator.

python benchmarks/score_speed.py [--pictures 8] [--side 1024] [--threads 2]

DreamSim's clip_vitb32 backbone, and then with it a CLIP ViT-B/32 and a DINO ViT-S/16, each score on whole
pictures and on subjects alone. All weights are random, in the real files and shapes: the numbers that the
scores give mean nothing here, their cost does. Seconds hold everything from the call to the last number,
loading included; beside them stand the seconds that processors worked for it, in all threads. Memory is the
largest resident size of the process while it scores over that before, with the embedded storybook model
loaded, seen every few milliseconds.
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

import numpy as np
import psutil
import torch
import typer
from PIL import Image

# Run as a script, Python looks for modules beside the script and not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import random_weights
from consistory_svd import load_model
from consistory_svd.cli.options import run
from consistory_svd.compat import quiet_libraries
from consistory_svd.metrics import Frames, Result, ScoreSettings, Suite
from consistory_svd.metrics.dreamsim_weights import dreamsim_folder
from training.world import render
from training.world.vocabulary import SCENES

# Source: issue 5.
MOST_SECONDS, MOST_GIGABYTES = 15.0, 2.0
LOOK_EVERY = 0.005

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def pictures(count: int, side: int) -> Frames:
    """Storybook renders of one cat in `count` scenes, enlarged to side x side pixels, with their masks."""
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
def peak_above_before() -> Iterator[list[float]]:
    """Gigabytes (10^9 bytes) by which the process grows at most while this is entered: a list of one."""
    process, stop, peak = psutil.Process(), threading.Event(), [0.0]
    before = process.memory_info().rss

    def look() -> None:
        while not stop.wait(LOOK_EVERY):
            peak[0] = max(peak[0], (process.memory_info().rss - before) / 1e9)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def measured(name: str, settings: ScoreSettings, frames: Frames) -> bool:
    """Print seconds and memory of scoring once with everything to be loaded; whether both are in bounds."""
    suite = Suite(settings)
    start, worked = time.perf_counter(), time.process_time()
    with peak_above_before() as peak:
        entries = list(suite.measure(frames))
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
    suite.free()
    numbers = [entry.name for entry in entries if isinstance(entry, Result)]
    typer.echo(f"{name:28} {seconds:8.1f} {worked:10.1f} {peak[0]:9.2f}   {', '.join(numbers)}")
    return seconds <= MOST_SECONDS and peak[0] <= MOST_GIGABYTES


@app.command()
def main(
    count: Annotated[int, typer.Option("--pictures", min=2, help="How many are scored.")] = 8,
    side: Annotated[int, typer.Option(min=64, help="Their width and height in pixels.")] = 1024,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    device: Annotated[str, typer.Option(help="Where to compute, such as cpu or cuda.")] = "cpu",
) -> None:
    """Score pictures and print what it cost; exit code 1 when that is over its bounds."""
    torch.set_num_threads(threads)
    quiet_libraries()
    model = load_model(device=device)
    frames = pictures(count, side)
    with tempfile.TemporaryDirectory() as scratch:
        # In a process of its own: what it leaves in memory would be taken for the generator's.
        subprocess.run([sys.executable, __file__, "write", scratch], check=True)
        cache = Path(scratch)
        alone = ScoreSettings(random_weights.BACKBONE, device=device, cache=cache)
        everything = replace(alone, clip=str(cache / "clip"), dino=str(cache / "dino"))
        typer.echo(f"{model.describe()}; {count} pictures of {side} x {side}, {threads} threads")
        typer.echo("random weights in the real layout: the cost is real, the scores are not")
        typer.echo(f"{'':28} {'seconds':>8} {'processor':>10} {'GB above':>9}")
        good = measured("DreamSim clip_vitb32", alone, frames)
        good &= measured("with CLIP and DINO", everything, frames)
    typer.echo(f"{'aim at most':28} {MOST_SECONDS:8.1f} {'':10} {MOST_GIGABYTES:9.2f}")
    raise typer.Exit(not good)


@app.command()
def write(folder: Path) -> None:
    """Write the random weights that are measured into a folder."""
    random_weights.write_networks(folder / "clip", folder / "dino")
    random = random_weights.full_weights(torch.Generator().manual_seed(0))
    kept = dreamsim_folder(random_weights.BACKBONE, folder)
    random_weights.write_dreamsim(kept, random)
    random_weights.write_manifest(kept)


if __name__ == "__main__":
    sys.exit(run(app, [*sys.argv[1:]] if "write" in sys.argv[1:2] else ["main", *sys.argv[1:]]))
