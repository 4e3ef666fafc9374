"""How long a story will take, said before it begins."""

import time
from dataclasses import dataclass, field

import torch

SIDE, ROUNDS = 4096, 3
SMALL_SIDE = 512  # of a CPU; a quarter of it in half precision, which some do very slowly
# Networks reach about so much of the speed of a large multiplication: they also normalise, copy and wait.
YIELD = 0.4


@dataclass(frozen=True)
class Estimate:
    """Seconds that a story will take. `measured`: by this model's last story; else by a trial multiplication,
    which may be wrong by a factor of 2 or 3."""

    seconds: float
    measured: bool

    def short_words(self) -> str:
        """The estimate alone."""
        return f"about {duration_in_words(self.seconds)}"

    def words(self) -> str:
        """The estimate as a person would say it, with how far it can be trusted."""
        about = duration_in_words(self.seconds)
        if self.measured:
            return f"About {about}, going by the last story"
        return f"Roughly {about}, going by a trial of this device's speed; the first steps will tell better"


@dataclass
class Pace:
    """What a model's stories took: the one thing that changes about it. `rate` is operations a second."""

    rate: float | None = None
    _tried: float | None = field(default=None, repr=False)

    def learn(self, operations: int, seconds: float) -> None:
        """Take notice of a story that is told."""
        if operations and seconds > 0:
            self.rate = operations / seconds

    def estimate(self, operations: int, device: torch.device, dtype: torch.dtype) -> Estimate:
        """The seconds for so many floating point operations."""
        if self.rate is not None:
            return Estimate(operations / self.rate, True)
        if self._tried is None:
            self._tried = trial(device, dtype) * YIELD
        return Estimate(operations / self._tried, False)


def trial(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a multiplication of matrices."""
    side = SMALL_SIDE if device.type == "cpu" else SIDE
    side = side if dtype == torch.float32 or device.type != "cpu" else side // 4
    one = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        (one @ one)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def duration_in_words(seconds: float) -> str:
    """A duration, never more exact than it can be known: "40 s", "12 min", "3 h", "2 days"."""
    for unit, size, limit in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds / size < limit:
            return f"{max(1, round(seconds / size))} {unit}"
    return f"{round(seconds / 86400)} days"
