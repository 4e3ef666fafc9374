"""What every training script shares: resumable checkpoints, averages of the weights, a learning-rate
schedule."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from training.parallel import rank, same_everywhere


class Average:
    """Exponential moving average of parameters, with a warm-up so that early steps are forgotten.

    Updated at every `every`-th step only, which changes nothing that matters and costs less.
    Source: Polyak averaging as used for diffusion models (Karras et al. 2022, section F.2).
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float = 0.999, every: int = 1):
        self.parameters = list(parameters)
        self.decay, self.every = decay, every
        self.values = [p.detach().clone().float() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        if step % self.every == 0:
            decay = min(self.decay, (1 + step) / (10 + step)) ** self.every
            torch._foreach_lerp_(self.values, [p.detach().float() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.copy_(value)


def learning_rate(share: float, step: int, peak: float, warm_up: int = 200, decay: float = 0.4) -> float:
    """Linear warm-up, constant, then linear to zero over the last `decay` of the training.

    `share` is how much of the training is done, in 0..1. A constant middle part leaves open when to end.
    Source: Hägele et al. 2024, arXiv 2405.18392.
    """
    return peak * min(1.0, (step + 1) / warm_up, max(0.0, 1 - share) / decay)


class Schedule:
    """How long a stage of training lasts (`steps` steps, or `seconds` where they are given) and how fast it
    learns. Each optimizer falls from the learning rate that it was made with.

    With several processes the first one's clock counts.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        steps: int,
        seconds: float | None,
        warm_up: int = 200,
        first: int = 0,
    ):
        self.groups = [group for one in optimizers for group in one.param_groups]
        self.peaks = [group["lr"] for group in self.groups]
        self.steps, self.seconds = steps, seconds
        self.warm_up, self.first = warm_up, first
        self.start = time.monotonic()
        self.share = 0.0  # of the training that is done

    def goes_on(self, step: int) -> bool:
        """Whether `step` is still to be made; if so, sets its learning rate."""
        self.share = step / self.steps
        if self.seconds is not None:
            self.share = same_everywhere((time.monotonic() - self.start) / self.seconds)
        for group, peak in zip(self.groups, self.peaks, strict=True):
            # A resumed run warms up again, for its optimizers may be new.
            group["lr"] = learning_rate(self.share, step - self.first, peak, self.warm_up)
        return self.share < 1


class Checkpoint:
    """Everything that a run needs to go on, in one file that is written atomically.

    The file holds torch tensors and plain numbers; it belongs to the build folder and is not shipped.
    """

    def __init__(
        self,
        path: Path,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        averages: Sequence[Average] = (),
    ):
        self.path, self.model, self.optimizers, self.averages = path, model, optimizers, averages

    def save(self, step: int) -> None:
        """Write, on the first process."""
        if rank() != 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        state = {
            "step": step,
            "model": self.model.state_dict(),
            "optimizers": [one.state_dict()["state"] for one in self.optimizers],
            "averages": [one.values for one in self.averages],
        }
        torch.save(state, part)
        os.replace(part, self.path)

    def load(self) -> int:
        """Go on where `save` left off; returns the number of steps made (0 where there is no file)."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for one, held in zip(self.optimizers, state["optimizers"], strict=True):
            one.load_state_dict({"state": held, "param_groups": one.state_dict()["param_groups"]})
        for one, values in zip(self.averages, state["averages"], strict=True):
            one.values = [new.to(old) for new, old in zip(values, one.values, strict=True)]
        return state["step"]
