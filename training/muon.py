"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) for linear and convolution weights.

Every update is the momentum with its singular values brought close to 1. With several processes each
orthogonalises a share of the matrices, because that costs nearly as much as a training step of few pictures.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from training.parallel import rank

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, as in the source
ITERATIONS = 4


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix (rows, columns) with its singular values between about 0.7 and 1.2, in float32; computed in
    bfloat16 by a Newton-Schulz iteration."""
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised. A weight of more than two dimensions counts as (outputs, rest).

    The step is scaled by 0.2 * sqrt(larger side), so that it is about as large as AdamW's and the same
    learning rate and weight decay fit (Liu et al. 2025, arXiv 2502.16982).
    """

    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Apply the gradients, which must be the same on every process."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            updates = self._updates(weights, group["momentum"])
            for weight, update in zip(weights, updates, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(update.view_as(weight), alpha=group["lr"])

    def _updates(self, weights: list[Tensor], momentum: float) -> list[Tensor]:
        world = dist.get_world_size() if dist.is_initialized() else 1
        flat = torch.zeros(sum(w.numel() for w in weights), device=weights[0].device)
        slots = flat.split([w.numel() for w in weights])
        # The largest first, each to the process that has least to do so far: equal shares of the work.
        work = [0] * world
        for k in sorted(range(len(weights)), key=lambda k: -weights[k].numel()):
            gradient, state = weights[k].grad, self.state[weights[k]]
            buffer = state.setdefault("momentum", torch.zeros_like(gradient))
            buffer.lerp_(gradient, 1 - momentum)
            owner = work.index(min(work))
            work[owner] += weights[k].numel() * min(weights[k].shape[0], weights[k][0].numel())
            if owner == rank():
                update = orthogonalised(gradient.lerp(buffer, momentum).flatten(1))
                slots[k].copy_(update.flatten() * 0.2 * max(update.shape) ** 0.5)
        if world > 1:
            dist.all_reduce(flat)
        return list(slots)
