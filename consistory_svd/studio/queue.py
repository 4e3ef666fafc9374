"""The queue for the model: first come, first served. Everyone waiting knows their position and an ETA.

Gradio's own queue starts handlers one after another. Here every visitor's handler runs at once and the job
waits, because a job must know its position and the time left, let a model switch or another visitor pass
between two rows of a comparison, and leave the queue as soon as it is cancelled.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from consistory_svd.settings import Settings

TICK_SECONDS = 0.2


@dataclass(eq=False)
class Ticket:
    """An entry of the queue.

    Attributes:
        cost: as `job_cost` gives it; 0 for what is not a story.
        started: when its turn came, on the monotonic clock; None while waiting.
        seconds_left: kept up to date by whoever has the turn.
    """

    cost: float
    started: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class Position:
    """The number of jobs ahead and about how many seconds they take; None while unknown."""

    jobs_ahead: int
    seconds: float | None


def job_cost(frames: int, settings: Settings) -> float:
    """Return the cost of frames in denoising steps. Only ratios are meaningful; sizes are left out."""
    return float(frames * settings.steps * (2 if settings.injection else 1))


class GenerationQueue:
    """Everyone who wants a studio's model.

    Args:
        max_waiting: how many may wait beside the one that has the model; None: any number.
    """

    def __init__(self, max_waiting: int | None = None) -> None:
        self._max_waiting = max_waiting
        self._tickets: list[Ticket] = []
        self._changed = threading.Condition()
        self._seconds_per_cost: float | None = None  # of the job that ended last

    def __len__(self) -> int:
        with self._changed:
            return len(self._tickets)

    def check_capacity(self, joining: int = 0) -> None:
        """Raise ValueError if there is no place behind the `joining` jobs that are about to join."""
        waiting = len(self) + joining - 1  # without the one whose turn it is
        if self._max_waiting is not None and waiting >= self._max_waiting:
            jobs = "1 job is" if waiting == 1 else f"{waiting} jobs are"
            raise ValueError(f"The queue is full: {jobs} waiting. Try again later.")

    def enqueue(self, cost: float) -> Ticket:
        """Join the end of the queue. ValueError if it is full."""
        with self._changed:
            self.check_capacity()
            ticket = Ticket(cost)
            self._tickets.append(ticket)
            return ticket

    def leave(self, ticket: Ticket) -> None:
        """Remove a ticket, whether its turn came or not."""
        with self._changed:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
            self._changed.notify_all()

    @contextmanager
    def wait_turn(
        self, ticket: Ticket, stop: threading.Event, report: Callable[[Position], None]
    ) -> Iterator[None]:
        """Wait for the ticket's turn or until `stop` is set, reporting the position at every tick."""
        try:
            with self._changed:
                while self._tickets[0] is not ticket and not stop.is_set():
                    report(self._position(ticket))
                    self._changed.wait(TICK_SECONDS)
                ticket.started = time.monotonic()
            yield
            if not stop.is_set() and ticket.cost:
                self._seconds_per_cost = (time.monotonic() - ticket.started) / ticket.cost
        finally:
            self.leave(ticket)

    def position(self, ticket: Ticket) -> Position:
        """Return the position of a ticket."""
        with self._changed:
            return self._position(ticket)

    def _position(self, ticket: Ticket) -> Position:
        ahead = self._tickets[: self._tickets.index(ticket)]
        seconds = [self._seconds_of(other) for other in ahead]
        jobs = sum(other.cost > 0 for other in ahead)
        return Position(jobs, None if None in seconds else sum(seconds))

    def _seconds_of(self, ticket: Ticket) -> float | None:
        """Return about how long a ticket still takes: its own estimate, or what others took per cost."""
        if ticket.seconds_left is not None:
            return ticket.seconds_left
        if not ticket.cost:
            return None
        rate = self._seconds_per_cost
        if rate is None:
            rate = self._rate_of_running()
        return None if rate is None else rate * ticket.cost

    def _rate_of_running(self) -> float | None:
        first = self._tickets[0]
        if first.started is None or first.seconds_left is None:
            return None
        return (time.monotonic() - first.started + first.seconds_left) / first.cost
