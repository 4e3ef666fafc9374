"""Fields of settings as a person sees them, label, help and range in one place, and checks of values.

A data class declares its fields with `text_field` and `number_field`; `knob(owner, name)` gives one back, for
the studio, the command line and validation. The checks raise ValueError with the field's name, the value and
what is allowed.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from consistory_svd.errors import FieldError

LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Field:
    """A field as a person sees it; `minimum`, `maximum` and `step` are None where it is not a number,
    `choices` empty where it is not one of a few words."""

    name: str
    label: str
    help: str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()


def field_of(owner: type, name: str) -> Field:
    """The knob of the field `name` of `Story` or `Settings`. KeyError when there is no such field."""
    found = {item.name: item for item in fields(owner)}[name]
    default = None if found.default is MISSING else found.default
    kind = get_type_hints(owner)[name]
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Field(name=name, default=default, choices=choices, **found.metadata)


def text_field(label: str, help: str, **extra: Any) -> Any:
    """A field of a data class that has no range: a text, a switch, one of a few words."""
    return field(metadata={"label": label, "help": help}, **extra)


def number_field(label: str, help: str, minimum: float, maximum: float, step: float, default: Any) -> Any:
    """A field of a data class that is a number from `minimum` to `maximum`, moved by `step`."""
    metadata = {"label": label, "help": help, "minimum": minimum, "maximum": maximum, "step": step}
    return field(metadata=metadata, default=default)


def items(name: str, values: Any) -> tuple[Any, ...]:
    """The values as a tuple. ValueError where they are no list."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise FieldError(name, values, f"a list of {'numbers' if name == 'seeds' else 'texts'}")
    return tuple(values)


def check_text(name: str, value: Any) -> None:
    """Raise ValueError where `value` is no text, or one too long."""
    if not isinstance(value, str):
        raise FieldError(name, value, "text")
    if len(value) > LONGEST_TEXT:
        raise FieldError(name, len(value), f"text of at most {LONGEST_TEXT} characters")


def check_filled(name: str, values: tuple[str, ...]) -> None:
    """Raise ValueError at the first value that is no text, or a blank one."""
    for value in values:
        check_text(name, value)
        if not value.strip():
            raise FieldError(name, value, "texts that are not empty")


def is_number(value: Any, whole: bool = False) -> bool:
    """Whether `value` is a finite number, a whole one where asked."""
    kind = int if whole else (int, float)
    return isinstance(value, kind) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_number(limits: Field, value: Any, whole: bool) -> None:
    """Raise ValueError where `value` is not in the range of the knob."""
    kind = "a whole number" if whole else "a number"
    allowed = f"{kind} from {limits.minimum:g} to {limits.maximum:g}"
    if isinstance(limits.minimum, int) and isinstance(limits.maximum, int):
        allowed = f"{kind} from {limits.minimum} to {limits.maximum}"
    right_kind = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right_kind or not math.isfinite(value) or not limits.minimum <= value <= limits.maximum:
        raise FieldError(limits.name, value, allowed)
    if limits.name in ("height", "width") and value % limits.step:
        raise FieldError(limits.name, value, f"a multiple of {limits.step}")
