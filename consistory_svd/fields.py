"""Dataclasses whose fields carry label, help and range, and whose constructor raises `FieldError`.

The page, the command line and validation share one definition: `field_of(Settings, "steps").maximum`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import ConfigDict, Field, StringConstraints, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from consistory_svd.errors import FieldError, one_of

LONGEST_TEXT = 1000
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
FilledText = Annotated[str, StringConstraints(max_length=LONGEST_TEXT, pattern=r"\S")]

Class = TypeVar("Class", bound=type)


@dataclass(frozen=True)
class FieldInfo:
    """A field as a person sees it.

    `minimum`, `maximum` and `step` are None unless it is a number, `choices` is empty unless it is a choice.
    """

    name: str
    label: str
    help: str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[Any, ...] = ()


def field(label: str, help: str, default: Any = ..., step: float | None = None, **limits: float) -> Any:
    """Declare a field of a `validated` dataclass; `limits` are pydantic's: ge, le, multiple_of and so on."""
    extra = None if step is None else {"step": step}
    return Field(default, title=label, description=help, json_schema_extra=extra, **limits)


def field_of(owner: type, name: str) -> FieldInfo:
    """Return label, help, default and range of a field of a `validated` dataclass; KeyError for no field."""
    info = owner.__pydantic_fields__[name]
    limits = {
        key: getattr(limit, key)
        for limit in info.metadata
        for key in ("ge", "le", "multiple_of")
        if hasattr(limit, key)
    }
    step = (info.json_schema_extra or {}).get("step", limits.get("multiple_of", 1))
    literals = [kind for kind in (info.annotation, *get_args(info.annotation)) if get_origin(kind) is Literal]
    return FieldInfo(
        name=name,
        label=info.title,
        help=info.description,
        default=None if info.is_required() else info.default,
        minimum=limits.get("ge"),
        maximum=limits.get("le"),
        step=step if "ge" in limits else None,
        choices=get_args(literals[0]) if literals else (),
    )


def validated(owner: Class) -> Class:
    """Class decorator: a frozen pydantic dataclass that raises FieldError for a wrong value.

    Types are strict: True and "3" are not numbers. Fields are declared with `field`.
    """
    config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
    made = pydantic_dataclass(frozen=True, config=config)(owner)
    construct = made.__init__

    @wraps(construct)
    def construct_or_name_field(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            construct(self, *args, **kwargs)
        except ValidationError as error:
            raise _field_error(made, error.errors(include_url=False)[0]) from None

    made.__init__ = construct_or_name_field
    return made


def _field_error(owner: type, found: Mapping[str, Any]) -> FieldError:
    """Translate the first of pydantic's errors."""
    limits, value = found.get("ctx", {}), found["input"]
    if isinstance(limits.get("error"), FieldError):  # raised by a validator
        return limits["error"]
    place = found["loc"][0]  # a position if the argument was positional
    name = list(owner.__pydantic_fields__)[place] if isinstance(place, int) else place
    match found["type"]:
        case "unexpected_keyword_argument":
            names = ", ".join(owner.__pydantic_fields__)
            return FieldError(name, value, f"a field of {owner.__name__} ({names})")
        case "missing":
            return FieldError(name, None, "given")
        case "string_too_long":
            return FieldError(name, len(value), f"text of at most {limits['max_length']} characters")
        case "string_pattern_mismatch":
            return FieldError(name, value, "text that is not empty")
        case "string_type":
            return FieldError(name, value, "text")
        case "tuple_type":
            return FieldError(name, value, "a list")
        case "bool_type":
            return FieldError(name, value, "True or False")
        case "dataclass_type" | "dataclass_exact_type":
            return FieldError(name, value, f"of type {limits['class_name']}")
    known = field_of(owner, name)
    if known.choices:
        return FieldError(name, value, one_of(known.choices))
    if found["type"] == "multiple_of":
        return FieldError(name, value, f"a multiple of {known.step}")
    return FieldError(name, value, _allowed_number(owner, known))


def _allowed_number(owner: type, known: FieldInfo) -> str:
    kind = owner.__pydantic_fields__[known.name].annotation
    whole = "a number" if float in (kind, *get_args(kind)) else "a whole number"
    if known.maximum is None:
        return f"{whole} of at least {known.minimum:.10g}"
    return f"{whole} from {known.minimum:.10g} to {known.maximum:.10g}"
