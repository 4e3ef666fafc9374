"""Measure time and memory on a GPU with a randomly initialised SDXL, for docs/gpu.md.

    python -m benchmarks.gpu [--plans full,offload,fp8] [--steps 10] [--out table.md]

The model has SDXL's shapes and random weights, so that nothing has to be downloaded. Its images mean nothing;
time and memory are those of the real model, except that masks may be larger than a real subject's. Each case
runs once with two steps to warm up and is then measured. `--tiny` runs the same code with tiny shapes, to
test it; its numbers mean nothing.
"""

import datetime
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

from consistory_svd import Finished, FrameDone, Model, Settings, Started, Story, generate, preset
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.events import Note
from consistory_svd.memory.plan import MEMORY_MODES, check_mode
from consistory_svd.models.single_file import SDXL_CONFIG

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

SCENES = ("in the forest", "on the beach", "in the snow", "in a kitchen", "on a boat", "in the desert")
CASES: dict[str, Settings] = {
    "nothing shared": preset("plain"),
    "SDSA": preset("sdsa"),
    "ConsiStory": preset("consistory"),
    "SDSA without masks": replace(preset("sdsa"), masking=False, mask_dropout=0.0),
    "the same, filtered (svd-quantile)": replace(preset("svd-quantile"), query_blending=False),
}
HEAD = "| case | plan | seconds | s/frame | relative | peak GB | estimated GB | notes |"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def random_sdxl(dtype: torch.dtype, device: torch.device, tiny: bool) -> "StableDiffusionXLPipeline":
    """Return an SDXL pipeline with random weights; `tiny` has few layers and channels."""
    # Imported after consistory_svd, which repairs a torchvision that does not fit torch.
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(0)
    unet = UNet2DConditionModel.load_config(SDXL_CONFIG / "unet")
    vae = AutoencoderKL.load_config(SDXL_CONFIG / "vae")
    text, text_2 = (
        CLIPTextConfig.from_pretrained(SDXL_CONFIG / name) for name in ("text_encoder", "text_encoder_2")
    )
    if tiny:
        unet |= {
            "block_out_channels": [32, 32, 64],
            "transformer_layers_per_block": [1, 1, 1],
            "sample_size": 16,
        }
        unet |= {"attention_head_dim": [2, 2, 2], "cross_attention_dim": 64, "layers_per_block": 1}
        unet |= {"projection_class_embeddings_input_dim": 6 * 256 + 32}
        vae |= {"block_out_channels": [32] * 4, "layers_per_block": 1, "sample_size": 128}
        for config in (text, text_2):
            small = {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
            }
            for name, value in (small | {"projection_dim": 32}).items():
                setattr(config, name, value)

    def drawn(make: Callable[[], torch.nn.Module], kind: torch.dtype) -> torch.nn.Module:
        with torch.device("meta"):
            module = make()
        module = module.to_empty(device="cpu").to(kind).eval()
        for name, weight in (*module.named_parameters(), *module.named_buffers()):
            if weight.is_floating_point():
                one = name.endswith("norm.weight") or (".norm" in name and name.endswith("weight"))
                torch.nn.init.ones_(weight) if one else torch.nn.init.normal_(weight, std=0.02)
            else:  # position ids of the text encoders
                weight.copy_(torch.arange(weight.numel()).view_as(weight))
        return module

    tokenizers = [CLIPTokenizer.from_pretrained(SDXL_CONFIG / part) for part in ("tokenizer", "tokenizer_2")]
    with torch.no_grad():
        return StableDiffusionXLPipeline(
            vae=drawn(lambda: AutoencoderKL.from_config(vae), torch.float32),
            text_encoder=drawn(lambda: CLIPTextModel(text), dtype),
            text_encoder_2=drawn(lambda: CLIPTextModelWithProjection(text_2), dtype),
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=drawn(lambda: UNet2DConditionModel.from_config(unet), dtype),
            scheduler=EulerDiscreteScheduler.from_pretrained(SDXL_CONFIG / "scheduler"),
            add_watermarker=False,
        )


def measure(model: Model, story: Story, settings: Settings) -> tuple[float, float, float, str]:
    """Return seconds of a story, peak GB on the device, GB estimated by the memory plan, and notes."""
    cuda = model.device.type == "cuda"
    list(generate(model, story, replace(settings, steps=2)))
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    estimated, notes, last = 0.0, [], None
    began = time.perf_counter()
    for event in generate(model, story, settings):
        match event:
            case Started():
                estimated = event.memory.needed / 1e9
                began = time.perf_counter()
            case Note():
                notes.append(event.text)
            case FrameDone() | Finished():
                last = event
    if not isinstance(last, Finished):
        notes.append("not finished")
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(model.device) / 1e9 if cuda else float("nan")
    return seconds, peak, estimated, "; ".join(notes)


@app.command()
def gpu(
    plans: Annotated[
        str, typer.Option(help=f"Comma-separated memory modes: auto, {', '.join(MEMORY_MODES)}.")
    ] = "full,offload",
    steps: Annotated[int, typer.Option(min=2, help="Steps per story.")] = 10,
    frames: Annotated[int, typer.Option(min=2, max=len(SCENES), help="Frames per story.")] = 6,
    batch: Annotated[int, typer.Option(min=1, help="Frames per batch.")] = 4,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cuda",
    tiny: Annotated[bool, typer.Option("--tiny", help="Tiny shapes, to test the benchmark.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to append the table to.")] = None,
) -> None:
    """Generate the same story in each case with each plan and write a table."""
    with wrong_values():
        names = [check_mode(name.strip()) for name in plans.split(",")]
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(
                "device: no CUDA device is available; give --device cpu --tiny to test the benchmark"
            )
    place = torch.device(device)
    dtype = torch.float32 if place.type == "cpu" else torch.float16
    story = Story("a cat", SCENES[:frames], seed=1)
    card = torch.cuda.get_device_name(place) if place.type == "cuda" else str(place)
    kind = "tiny shapes, numbers mean nothing" if tiny else "1024 x 1024"
    rows = [
        f"{datetime.date.today()}, {card}, torch {torch.__version__}, {str(dtype).removeprefix('torch.')}, "
        f"{kind}, {frames} frames, batch {batch}, {steps} steps, random weights",
        "",
        HEAD,
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        model = Model(random_sdxl(dtype, place, tiny), "random SDXL", place, dtype, memory=name)
        base = None
        for case, settings in CASES.items():
            seconds, peak, estimated, notes = measure(
                model, story, replace(settings, steps=steps, batch=batch)
            )
            base = base or seconds
            rows.append(
                f"| {case} | {name} | {seconds:.1f} | {seconds / frames:.2f} | {seconds / base:.2f} | "
                f"{peak:.2f} | {estimated:.2f} | {notes} |"
            )
            typer.echo(rows[-1], err=True)
        model.placement.retire()
    text = "\n".join(rows) + "\n"
    typer.echo(text)
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}")


if __name__ == "__main__":
    sys.exit(run(app))
