"""Command lines that end a wrong value with one line: `error: <field>: ...`, exit code 2, no traceback."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

WRONG_VALUE = 2


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
        return f"{flag.lstrip('-')}: {error.message or f'is missing; give {flag}'}"
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
