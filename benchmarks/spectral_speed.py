"""How much faster the spectral filter is than one made with torch.linalg.svd, on float32 matrices.

python benchmarks/spectral_speed.py

Both are timed in turn in one run, so that whatever else the machine does slows both; the fastest of a few
repeats counts. The difference is that of the two results, relative, so it holds the rounding of the float32
SVD too.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

# Run as a script, Python looks for modules beside the script and not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from consistory_svd.attention.svd_filter import filter_matrix
from consistory_svd.settings import SVDFilter

# SDXL's keys of two anchors at 1024 x 1024 pixels: its finest attention, and the one below.
SIZES = [(2, 4096, 640), (2, 1024, 1280)]
LOG = SVDFilter(reweight="log")


def make_matrices(count: int, tokens: int, inner_dim: int, decay: bool) -> Tensor:
    """Random float32 matrices [count, tokens, inner_dim]: noise, or columns that fade as 1 / (1 + i)."""
    matrices = torch.randn(count, tokens, inner_dim, generator=torch.Generator().manual_seed(0))
    return matrices * (100 / (1 + torch.arange(inner_dim))) if decay else matrices


def filter_by_svd(matrices: Tensor) -> Tensor:
    """Log reweighting through torch.linalg.svd, in float32."""
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    logs = values.log().clamp(min=0)
    after = logs * (values.norm(dim=-1, keepdim=True) / logs.norm(dim=-1, keepdim=True))
    return (left * after[..., None, :]) @ right


def timed(work: Callable[[Tensor], Tensor], matrices: Tensor) -> tuple[float, Tensor]:
    """Wall seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = work(matrices)
    if matrices.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def main(
    repeats: Annotated[int, typer.Option(min=1, help="How often each is timed; the fastest counts.")] = 3,
    device: Annotated[str, typer.Option(help="Where to compute, such as cpu or cuda.")] = "cpu",
) -> None:
    """Time the spectral filter against a full SVD, log reweighting, and print a table."""
    table = Table(title=f"Log reweighting, {device}, {torch.get_num_threads()} thread(s)")
    for name in ("matrices", "spectrum", "SVD, s", "ours, s", "ratio", "difference"):
        table.add_column(name, justify="right")
    for count, tokens, inner_dim in SIZES:
        for decay in (False, True):
            matrices = make_matrices(count, tokens, inner_dim, decay).to(device)
            pairs = []
            for _ in range(repeats):
                slow, expected = timed(filter_by_svd, matrices)
                fast, found = timed(lambda given: filter_matrix(given, LOG), matrices)
                pairs.append((slow, fast))
            table.add_row(
                f"{count} x ({tokens} x {inner_dim})",
                "decaying" if decay else "noise",
                f"{min(slow for slow, _ in pairs):.2f}",
                f"{min(fast for _, fast in pairs):.2f}",
                f"{min(slow for slow, _ in pairs) / min(fast for _, fast in pairs):.1f}",
                f"{((found - expected).norm() / expected.norm()).item():.1e}",
            )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
