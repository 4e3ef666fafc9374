"""Limits, logins and the content filter of a studio that others can reach."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from consistory_svd.errors import FieldError
from consistory_svd.fields import field, validated
from consistory_svd.settings import Settings
from consistory_svd.story import MOST_SCENES, Story

# Enables the content filter where options cannot be given.
FILTER_VARIABLE = "CONSISTORY_SVD_HIDE_SEXUAL_PICTURES"
ON, OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@validated
class Limits:
    """Maximum values for visitors of the page and API clients; None: whatever the settings allow.

    The model's default image size is always allowed.

    Raises:
        FieldError: a limit is of a wrong type or out of range.
    """

    frames: int | None = field("Most frames", "Most images per story.", None, ge=1, le=MOST_SCENES)
    steps: int | None = field("Most steps", "Most denoising steps per image.", None, ge=2, le=200)
    size: int | None = field(
        "Largest size", "Most pixels per side, unless the model's default is larger.", None, ge=64, le=4096
    )
    queue: int | None = field("Longest queue", "Most stories waiting in the queue.", None, ge=1, le=1000)
    batch: int | None = field("Largest batch", "Most images generated at the same time.", None, ge=1, le=64)

    @property
    def _most(self) -> dict[str, int | None]:
        """The limits of settings, by name."""
        return {"steps": self.steps, "height": self.size, "width": self.size, "batch": self.batch}

    def check(self, story: Story, settings: Settings) -> None:
        """Raise FieldError if a story exceeds a limit."""
        if self.frames is not None and len(story.scenes) > self.frames:
            raise FieldError("scenes", len(story.scenes), f"at most {self.frames} in this studio")
        for name, most in self._most.items():
            value = getattr(settings, name)
            if most is not None and value is not None and value > most:
                raise FieldError(name, value, f"at most {most} in this studio")

    def fitted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of the form, by name, with numbers reduced to their limits."""
        most = self._most
        return {
            name: min(value, most[name]) if most.get(name) and isinstance(value, int | float) else value
            for name, value in values.items()
        }

    def show_on(self, form: Mapping[str, Any]) -> None:
        """Apply the limits to the form's components, and add them to their help."""
        for name, most in self._most.items():
            if most is not None and name in form:
                widget = form[name]
                widget.maximum = most
                widget.info = f"{widget.info} At most {most} in this studio."
                if isinstance(widget.value, int | float):
                    widget.value = min(widget.value, most)


# Defaults of a public server: small enough that all visitors get their turn.
PUBLIC = Limits(frames=12, steps=50, size=1024, queue=20, batch=8)


def limits_of(exposed: bool, **given: int | None) -> Limits:
    """Return the limits that are given; the others are those of PUBLIC if `exposed`, else none."""
    return replace(
        PUBLIC if exposed else Limits(), **{name: value for name, value in given.items() if value is not None}
    )


def public(host: str, share: bool, environ: Mapping[str, str]) -> bool:
    """Return whether other machines can reach the studio, on which all safe defaults depend.

    They can by a shared link, on a Hugging Face Space, or if the host is not a loopback address.
    """
    if share or "SPACE_ID" in environ:
        return True
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True  # a host name, which may be reachable


def hides_sexual_pictures(environ: Mapping[str, str], asked: bool = False) -> bool:
    """Return whether the option (`asked`) or FILTER_VARIABLE enables the content filter.

    Raises:
        FieldError: the variable is neither yes nor no.
    """
    value = environ.get(FILTER_VARIABLE, "")
    if value.strip().lower() not in (*ON, *OFF):
        raise FieldError(FILTER_VARIABLE, value, "1 or 0")
    return asked or value.strip().lower() in ON


def read_auth(given: Sequence[str]) -> list[tuple[str, str]]:
    """Return users and passwords of "user:password" texts, each with one or more, separated by commas.

    Raises:
        ValueError: an entry has another form, or a user is given twice. Messages never contain a password.
    """
    entries = [entry for text in given for entry in text.split(",")]
    found: dict[str, str] = {}
    for number, entry in enumerate(entries, start=1):
        user, colon, password = entry.partition(":")
        if not (user.strip() and colon and password):
            raise ValueError(
                f"auth: entry {number} is not of the form user:password, or its password contains a comma"
            )
        if user.strip() in found:
            raise ValueError(f"auth: user {user.strip()!r} is given twice")
        found[user.strip()] = password
    return list(found.items())


def warnings(exposed: bool, auth: Sequence[tuple[str, str]], environ: Mapping[str, str]) -> list[str]:
    """Return warnings about who can reach the studio."""
    if not exposed or auth:
        return []
    if "SPACE_ID" in environ:
        return []  # a Space is public on purpose, and has its own access control
    return ["Anyone who knows this address can use this studio. Use --auth user:password to require a login."]
