"""Measure the peak memory of SDXL's activations on a GPU, for `consistory_svd/memory/table.json`.

python -m benchmarks.memory_table [--side 1024]

Weights are random, in SDXL's shapes. The row "sdxl" of the table is replaced.
"""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import torch
import typer

from benchmarks.gpu import random_sdxl
from consistory_svd import Model, Settings, Story, generate
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.decoding import decoded_pixels
from consistory_svd.memory.estimate import TABLE, Activations
from consistory_svd.memory.offload import enable_tiling

FEW, MANY = 6, 10  # anchors; with these, shared attention needs more than the convolutions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def call_bytes(model: Model, side: int, anchors: int) -> int:
    """Peak bytes of a U-Net call for one frame that attends to cached anchors; 0 anchors: to itself."""
    peaks: list[int] = []
    before = [0]

    def begin(*_: object) -> None:
        torch.cuda.reset_peak_memory_stats(model.device)
        before[0] = torch.cuda.memory_allocated(model.device)

    def end(*_: object) -> None:
        peaks.append(torch.cuda.max_memory_allocated(model.device) - before[0])

    unet = model.pipe.unet
    hooks = unet.register_forward_pre_hook(begin), unet.register_forward_hook(end)
    settings = Settings(
        steps=2, height=side, width=side, batch=1, sdsa=anchors > 0, anchors=max(1, anchors), masking=False
    )
    story = Story("a cat", tuple(f"in room {number}" for number in range(anchors + 1)))
    try:
        list(generate(model, story, settings))
    finally:
        for hook in hooks:
            hook.remove()
    return peaks[-1]


def decode_bytes(model: Model, side: int) -> int:
    """Peak bytes of decoding a frame."""
    pipe = model.pipe
    shape = (pipe.unet.config.in_channels, *[side // pipe.vae_scale_factor] * 2)
    latents = torch.zeros(shape, device=model.device)
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    decoded_pixels(pipe, latents)
    return torch.cuda.max_memory_allocated(model.device) - before


def measure(model: Model, side: int) -> Activations:
    """The row of a model on a GPU, at side x side pixels."""
    vae = model.pipe.vae
    pixels = (side // model.pipe.vae_scale_factor) ** 2
    plain, few, many = (
        call_bytes(model, side, anchors) / (pixels * 2 * model.dtype.itemsize) for anchors in (0, FEW, MANY)
    )
    anchor = (many - few) / (MANY - FEW)
    whole = decode_bytes(model, side) / vae.dtype.itemsize
    enable_tiling(vae)
    tiled = decode_bytes(model, side) / vae.dtype.itemsize
    card = torch.cuda.get_device_name(model.device)
    width = model.pipe.unet.config.block_out_channels[0]
    source = f"measured on {card}, torch {torch.__version__}, {side} x {side} pixels"
    return Activations(plain, few - FEW * anchor, anchor, whole / pixels, round(tiled), width, source)


@app.command()
def memory_table(side: Annotated[int, typer.Option(help="Height and width in pixels.")] = 1024) -> None:
    """Measure SDXL and write its row of the table."""
    with wrong_values():
        if not torch.cuda.is_available():
            raise ValueError("device: there is no CUDA device")
    device = torch.device("cuda")
    pipe = random_sdxl(torch.float16, device, tiny=False)
    row = asdict(measure(Model(pipe, "random SDXL", device, torch.float16, memory="full"), side))
    table = json.loads(TABLE.read_text(encoding="utf-8")) | {"sdxl": row}
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(row, indent=1))


if __name__ == "__main__":
    sys.exit(run(app))
