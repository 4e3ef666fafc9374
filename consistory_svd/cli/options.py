"""Options that commands share, and errors as one line: `error: steps must be ..., got 3000`, exit code 2."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import typer

from consistory_svd.errors import FieldError, one_of
from consistory_svd.fields import field_of
from consistory_svd.limits import FILTER_VARIABLE
from consistory_svd.memory.plan import MEMORY_MODES
from consistory_svd.models.request import DTYPES
from consistory_svd.settings import SVDFilter

WRONG_VALUE = 2
KEEP_VALUES = "all, count:N (1 or more), quantile:Q (above 0, at most 1) or energy:Q (above 0, below 1)"
REWEIGHT_VALUES = "none, log, log2, exp or exp:ALPHA (0 or more)"

MODEL = typer.Option(
    "--model",
    help="An SDXL model: a folder in diffusers' format, a .safetensors file, a Hub id, or 'storybook' "
    "(embedded). Default: SDXL base with a CUDA device and a network, else the embedded model.",
)
LORA = typer.Option(help="A LoRA: file.safetensors, or file.safetensors:0.8 with its weight. Repeatable.")
DEVICE = typer.Option(help="Torch device. Default: the best one available.")
DTYPE = typer.Option(
    help=f"Number format: {', '.join(DTYPES)}. Default: float32 on a CPU, else float16.", metavar="TEXT"
)
MEMORY = typer.Option(help=f"Memory mode: auto, or {one_of(MEMORY_MODES)}; fastest first.", metavar="TEXT")
CONFIG = typer.Option(
    help="For a .safetensors file whose layout is not SDXL's: the folder with its configurations."
)
HIDE_SEXUAL = typer.Option(
    "--hide-sexual-pictures",
    help="Replace images that a classifier considers sexual. It errs in both directions and does not "
    f"check for violence, hate, the likeness of real people, or texts. {FILTER_VARIABLE}=1 does the same.",
)


def field_option(owner: type, name: str, *declarations: str) -> Any:
    """Return the option of a field: its help, range and choices are those of the field.

    Numbers are taken as text, so that the field itself rejects what it does not allow.
    """
    field = field_of(owner, name)
    if field.choices:
        return typer.Option(
            *declarations, help=f"{field.help} {one_of(field.choices).capitalize()}.", metavar="TEXT"
        )
    if field.minimum is not None:
        text = f"{field.help} From {field.minimum:.10g} to {field.maximum:.10g}."
        return typer.Option(*declarations, help=text, metavar="NUMBER")
    return typer.Option(*declarations, help=field.help)


def switch_option(owner: type, name: str) -> Any:
    """Return the option of an on/off field, with its negation."""
    option = name.replace("_", "-")
    return typer.Option(f"--{option}/--no-{option}", help=field_of(owner, name).help, show_default=False)


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command line (None: the arguments of the process) and return its exit code.

    Invalid options, and errors inside `wrong_values()`, become one line on stderr.
    """
    try:
        # With standalone_mode off, typer raises errors and returns the code of typer.Exit.
        return app(args=arguments, standalone_mode=False) or 0
    except typer.TyperException as error:
        message = " ".join(_message(error).split())
        print(f"error: {message}", file=sys.stderr)  # noqa: T201
        return WRONG_VALUE


def _message(error: typer.TyperException) -> str:
    if isinstance(error, typer.BadParameter) and error.param is not None:
        option = error.param.opts[0]
        return f"{option.lstrip('-')}: {error.message}" if error.message else f"{option} is required"
    return error.format_message()


@contextmanager
def wrong_values() -> Iterator[None]:
    """Turn ValueError (a wrong value) and OSError (a file, a folder, the network) into a one-line error.

    Use it for reading the user's input, not for the work itself: errors there keep their traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise typer.TyperException(str(error)) from error


def number(text: str) -> int | float | str:
    """Return the number in a text, or the text itself: the field then says what it allows."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def changed_filter(base: SVDFilter, option: str, keep: str | None, reweight: str | None) -> SVDFilter:
    """Return a filter changed by `--<option>` (KEEP_VALUES) and `--<option>-reweight` (REWEIGHT_VALUES).

    None leaves a part of `base` unchanged.

    Raises:
        FieldError: a value is not allowed.
    """
    if keep is not None:
        kind, colon, amount = keep.partition(":")
        changes = {"keep": kind, "amount": number(amount) if colon else None}
        base = _replaced(base, option, keep, KEEP_VALUES, changes)
    if reweight is not None:
        kind, colon, alpha = reweight.partition(":")
        exp = colon and kind == "exp"  # the only one that takes a value
        changes = {"reweight": kind, "alpha": number(alpha)} if exp else {"reweight": reweight}
        base = _replaced(base, f"{option}-reweight", reweight, REWEIGHT_VALUES, changes)
    return base


def _replaced(base: SVDFilter, option: str, text: str, allowed: str, changes: dict[str, Any]) -> SVDFilter:
    try:
        return replace(base, **changes)
    except FieldError as error:
        raise FieldError(option, text, allowed) from error
