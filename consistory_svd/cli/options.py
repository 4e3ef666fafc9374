"""Command lines that end a wrong value with one line: `error: <field>: ...`, exit code 2, no traceback."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import typer

from consistory_svd.errors import FieldError
from consistory_svd.settings import SVDFilter

WRONG_VALUE = 2
# What the flags of the spectral filter take, for their help and for the line that refuses something else.
SELECTS = "all, count:N (1 or more), quantile:Q (above 0, at most 1) or energy:Q (above 0, below 1)"
REWEIGHTS = "none, log, log2, exp or exp:ALPHA (0 or more)"


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command line (None: the arguments of the process) and return its exit code.

    A flag that cannot be read, and whatever stands inside `wrong_values()`, becomes one line on stderr.
    """
    try:
        # Outside its standalone mode typer leaves errors to the caller and returns the code of typer.Exit.
        return app(args=arguments, standalone_mode=False) or 0
    except typer.TyperException as error:
        message = " ".join(_message(error).split())
        print(f"error: {message}", file=sys.stderr)  # noqa: T201 - the one line a person is owed
        return WRONG_VALUE


def _message(error: typer.TyperException) -> str:
    if isinstance(error, typer.BadParameter) and error.param is not None:
        flag = error.param.opts[0]
        return f"{flag.lstrip('-')}: {error.message}" if error.message else f"{flag} is required"
    return error.format_message()


@contextmanager
def wrong_values() -> Iterator[None]:
    """Say ValueError (a field's wrong value) and OSError (a file, a folder, the network) in one line.

    Meant for what reads a person's choices, not for the work itself: an error there is a fault and keeps its
    traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise typer.TyperException(str(error)) from error


def number(text: str) -> int | float | str:
    """The number that `text` says. What is none stays text: the field itself then says what it allows."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def changed_filter(before: SVDFilter, flag: str, select: str | None, reweight: str | None) -> SVDFilter:
    """A spectrum with what the flags `--<flag>` and `--<flag>-reweight` say; None leaves its part as it was.

    `select` is as in SELECTS, `reweight` as in REWEIGHTS.

    Raises:
        ValueError: naming the flag, its value and what is allowed.
    """
    if select is not None:
        kind, colon, value = select.partition(":")
        before = _replaced(before, flag, select, SELECTS, keep=kind, amount=number(value) if colon else None)
    if reweight is not None:
        kind, colon, alpha = reweight.partition(":")
        changes = {"alpha": number(alpha)} if colon and kind == "exp" else {}
        kind = kind if changes else reweight  # no other takes a value
        before = _replaced(before, f"{flag}-reweight", reweight, REWEIGHTS, reweight=kind, **changes)
    return before


def _replaced(
    before: SVDFilter, flag: str, text: str, allowed: str, **changes: int | float | str
) -> SVDFilter:
    try:
        return replace(before, **changes)
    except ValueError as error:
        raise FieldError(flag, text, allowed) from error
