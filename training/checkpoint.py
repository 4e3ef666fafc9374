"""What every training script shares: resumable checkpoints, an average of the weights, a learning-rate
schedule."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from training.parallel import same_everywhere


class Average:
    """Exponential moving average of parameters, with a warm-up so that early steps are forgotten.

    Source: Polyak averaging as used for diffusion models (Karras et al. 2022, section F.2).
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float = 0.999):
        self.parameters = list(parameters)
        self.decay = decay
        self.values = [p.detach().clone().float() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.detach().float() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.copy_(value)


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 200) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Schedule:
    """How long a stage of training lasts (`steps` steps, or `seconds` where they are given) and how fast it
    learns.

    With several processes the first one's clock counts.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        first: int,
        steps: int,
        seconds: float | None,
        peak: float,
        warm_up: int = 200,
    ):
        self.optimizer, self.first, self.steps, self.seconds = optimizer, first, steps, seconds
        self.peak, self.warm_up = peak, warm_up
        self.start = time.monotonic()

    def goes_on(self, step: int) -> bool:
        """Whether `step` is still to be made; if so, sets its learning rate."""
        if self.seconds is None:
            share, last = step / self.steps, self.steps
        else:
            share = same_everywhere((time.monotonic() - self.start) / self.seconds)
            # How many steps there will be by the clock, guessed from those made since the start.
            last = max(step + 1, round(self.first + (step - self.first) / max(share, 1e-3)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, last, self.peak, self.warm_up)
        return share < 1


def save(
    path: Path, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
) -> None:
    """Write everything that a run needs to go on, atomically, as safetensors."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if average:
        tensors |= {f"average.{k}": v for k, v in enumerate(average.values)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, part, {"step": json.dumps(step)})
    os.replace(part, path)


def load(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
) -> int:
    """Go on where `save` left off; returns the number of steps already made (0 where there is no
    checkpoint)."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a mapping)
        step = json.loads(file.metadata()["step"])
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if average:
        average.values = [tensors[f"average.{k}"].to(average.values[k]) for k in range(len(average.values))]
    return step
