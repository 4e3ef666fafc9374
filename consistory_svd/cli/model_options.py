"""The flags that say which model is used, the same for every command."""

import typer

from consistory_svd.limits import FILTER_VARIABLE
from consistory_svd.memory import PLANS
from consistory_svd.models.request import DTYPES

MODEL = typer.Option(
    "--model",
    help="An SDXL: a folder in diffusers' format, a .safetensors file, a hub id, or 'storybook' (embedded). "
    "By default SDXL base where there are a CUDA device and a network, else the embedded one.",
)
LORA = typer.Option(
    help="A LoRA: file.safetensors, or file.safetensors:0.8 with its weight. May be repeated."
)
DEVICE = typer.Option(help="Torch device; the best there is by default.")
DTYPE = typer.Option(
    help=f"Number format: {', '.join(DTYPES)}. By default float32 on a CPU, else float16.", metavar="TEXT"
)
MEMORY = typer.Option(
    help=f"Memory plan: auto, or one of {', '.join(PLANS)}; from fast to small.", metavar="TEXT"
)
CONFIG = typer.Option(
    help="With a .safetensors file that is not laid out as SDXL: folder of its configurations."
)
HIDE_SEXUAL = typer.Option(
    "--hide-sexual-pictures",
    help="Withhold pictures that an image classifier takes for sexual. It errs both ways, and it does not "
    f"judge violence, hate, the likeness of real people, or texts. {FILTER_VARIABLE}=1 switches it on, too.",
)
