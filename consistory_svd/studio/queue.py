"""The line for the model: first come, first served, and everyone in it knows their place and about how long.

Gradio's own queue starts one handler after another and tells those that wait nothing; here every visitor's
handler runs, and what waits is the story.
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
    """A place in the line. `work` is as in `work_of`, 0 for what is no story; who has the turn keeps
    `seconds_left` up to date."""

    work: float
    began: float | None = None  # on the monotonic clock; None while waiting
    seconds_left: float | None = None


@dataclass(frozen=True)
class Place:
    """How many stories are before, and about how many seconds all before take; None while nothing is known of
    that."""

    before: int
    seconds: float | None


def work_of(frames: int, settings: Settings) -> float:
    """What so many frames cost, in steps; only ratios mean anything. Sizes are left out."""
    return float(frames * settings.steps * (2 if settings.injection else 1))


class Line:
    """Everyone who wants a studio's model. `most` may wait beside the one who has it (None: any number)."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._tickets: list[Ticket] = []
        self._changed = threading.Condition()
        self._seconds_a_work: float | None = None  # of the story that ended last, or of the one that runs

    def __len__(self) -> int:
        with self._changed:
            return len(self._tickets)

    def check_room(self, coming: int = 0) -> None:
        """ValueError where the line is too long for one more, behind `coming` that are about to join it."""
        waiting = len(self) + coming - 1  # without the one whose turn it is
        if self._most is not None and waiting >= self._most:
            raise ValueError(
                f"queue: {waiting} stories are waiting; this studio lets {self._most} wait, try again later"
            )

    def join(self, work: float) -> Ticket:
        """Stand at the end of the line. ValueError where it is too long."""
        with self._changed:
            self.check_room()
            ticket = Ticket(work)
            self._tickets.append(ticket)
            return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give the place up, whether its turn came or not."""
        with self._changed:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
            self._changed.notify_all()

    @contextmanager
    def turn(self, ticket: Ticket, stop: threading.Event, say: Callable[[Place], None]) -> Iterator[None]:
        """Wait for the ticket's turn, or until `stop` is set, saying the place again and again."""
        try:
            with self._changed:
                while self._tickets[0] is not ticket and not stop.is_set():
                    say(self._place(ticket))
                    self._changed.wait(TICK_SECONDS)
                ticket.began = time.monotonic()
            yield
            if not stop.is_set():
                self._learn(ticket)
        finally:
            self.leave(ticket)

    def place(self, ticket: Ticket) -> Place:
        """Where a ticket stands."""
        with self._changed:
            return self._place(ticket)

    def _place(self, ticket: Ticket) -> Place:
        before = self._tickets[: self._tickets.index(ticket)]
        seconds = [self._seconds(other) for other in before]
        stories = sum(other.work > 0 for other in before)
        return Place(stories, None if None in seconds else sum(seconds))

    def _seconds(self, ticket: Ticket) -> float | None:
        """About how long a ticket still takes: as it says itself, or as others took for their work."""
        if ticket.seconds_left is not None:
            return ticket.seconds_left
        if not ticket.work:
            return None
        pace = self._seconds_a_work
        if pace is None:
            pace = self._pace_of_running()
        return None if pace is None else pace * ticket.work

    def _pace_of_running(self) -> float | None:
        first = self._tickets[0]
        if first.began is None or first.seconds_left is None:
            return None
        return (time.monotonic() - first.began + first.seconds_left) / first.work

    def _learn(self, ticket: Ticket) -> None:
        if ticket.work:
            self._seconds_a_work = (time.monotonic() - ticket.began) / ticket.work
