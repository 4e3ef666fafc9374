"""How long a story still takes, from how long its steps took."""


class Pace:
    """Steps against the clock. Frames of a wave do a step together, so their events come in bunches: a bunch
    is counted when the next one begins, and the first alone, which also reads the prompts, is no measure."""

    def __init__(self) -> None:
        self._bunch: object = None
        self._begin: tuple[int, float] | None = None  # steps done, and when
        self._latest: tuple[int, float] | None = None
        self._pending = 0.0
        self._bunches = 0

    def note(self, bunch: object, done: int, at: float) -> None:
        """Take an event: the bunch that it is of, steps done with it, and the time in seconds."""
        if bunch == self._bunch:
            return
        if self._bunches:
            self._latest = (done - 1, self._pending)
            self._begin = self._begin or self._latest
        self._bunch, self._pending = bunch, at
        self._bunches += 1

    def seconds_left(self, total: int, at: float) -> float | None:
        """Seconds until `total` steps are done; None while too little is known."""
        if self._begin is None or self._latest[0] == self._begin[0]:
            return None
        (first, began), (done, then) = self._begin, self._latest
        return max(0.0, (total - done) * (then - began) / (done - first) - (at - then))
