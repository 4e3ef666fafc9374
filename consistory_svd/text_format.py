"""Sizes, durations, counts and errors as short text. The page, the command line and messages share these."""

import math

KILO, MEGA, GIGA = 10**3, 10**6, 10**9


def format_bytes(count: int) -> str:
    """A size in decimal units, e.g. "340 kB", "48 MB" or "1.5 GB"."""
    if count >= 0.95 * GIGA:
        return f"{count / GIGA:.1f} GB"
    if count >= 0.95 * MEGA:
        return f"{count / MEGA:.1f} MB" if count < 9.5 * MEGA else f"{count / MEGA:.0f} MB"
    return f"{max(1, round(count / KILO))} kB"


def format_progress(done: int, total: int | None) -> str:
    """How much of a download has arrived, e.g. "120 of 605 MB", or "120 MB" if the total is unknown."""
    return f"{done // MEGA} MB" if total is None else f"{done // MEGA} of {total // MEGA} MB"


def format_duration(seconds: float) -> str:
    """A duration, the less precise the longer it is, e.g. "40 s", "2 min 10 s", "45 min", "3 h", "2 days"."""
    whole = max(1, math.ceil(seconds))
    minutes, rest = divmod(whole, 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    for unit, size, limit in (("min", 60, 90), ("h", 3600, 48)):
        if whole / size < limit:
            return f"{round(whole / size)} {unit}"
    return f"{round(whole / 86400)} days"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
