"""The error that a wrong value raises."""

from collections.abc import Iterable
from typing import Any


class FieldError(ValueError):
    """A field has a value that is not allowed.

    Args:
        field: Name of the field, option or argument.
        value: The value that was given.
        allowed: What is allowed, as it reads after "must be": "a whole number from 1 to 200".
    """

    def __init__(self, field: str, value: Any, allowed: str) -> None:
        super().__init__(field, value, allowed)
        self.field = field
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return self.named(self.field)

    def named(self, name: str) -> str:
        """Return the message with another name for the field, such as its label on the page."""
        return f"{name} must be {self.allowed}, got {self.value!r}"


def one_of(choices: Iterable[object]) -> str:
    """Return "one of a, b, c", to be used as `FieldError.allowed`."""
    return f"one of {', '.join(map(str, choices))}"
