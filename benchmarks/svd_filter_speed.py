"""Compare the speed of the SVD filter with one made with torch.linalg.svd, on float32 matrices.

    python -m benchmarks.svd_filter_speed

Both are timed in turn in one run, so that other load slows both; the fastest repeat counts. The difference is
the relative difference of the two results, rounding of the float32 SVD included.
"""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from consistory_svd.attention.svd_filter import filter_matrix
from consistory_svd.settings import SVDFilter

# SDXL's keys of two anchors at 1024 x 1024 pixels, on its two attention grids: [matrices, tokens, channels].
SIZES = [(2, 4096, 640), (2, 1024, 1280)]
LOG = SVDFilter(reweight="log")


def make_matrices(count: int, tokens: int, inner_dim: int, decay: bool) -> Tensor:
    """Return random float32 matrices [count, tokens, inner_dim]: noise, or with columns ~ 1 / (1 + i)."""
    matrices = torch.randn(count, tokens, inner_dim, generator=torch.Generator().manual_seed(0))
    return matrices * (100 / (1 + torch.arange(inner_dim))) if decay else matrices


def filter_by_svd(matrices: Tensor) -> Tensor:
    """Apply log reweighting with torch.linalg.svd, in float32."""
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    logs = values.log().clamp(min=0)
    after = logs * (values.norm(dim=-1, keepdim=True) / logs.norm(dim=-1, keepdim=True))
    return (left * after[..., None, :]) @ right


def timed(work: Callable[[Tensor], Tensor], matrices: Tensor) -> tuple[float, Tensor]:
    """Return the wall-clock seconds of one call and its result."""
    start = time.perf_counter()
    result = work(matrices)
    if matrices.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Repeats; the fastest counts.")] = 3,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
) -> None:
    """Time the SVD filter and a full SVD, both with log reweighting, and print a table."""
    table = Table(title=f"Log reweighting, {device}, {torch.get_num_threads()} thread(s)")
    for name in ("matrices", "singular values", "SVD, s", "filter, s", "ratio", "difference"):
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
