"""How much a visitor may ask for, who may come, and whether pictures are screened: what a studio that others
reach needs to say."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from consistory_svd.errors import FieldError
from consistory_svd.fields import field, validated
from consistory_svd.settings import Settings
from consistory_svd.story import MOST_SCENES, Story

# Where no flags can be given, this says whether pictures are screened (`consistory_svd.content_filter`).
FILTER_VARIABLE = "CONSISTORY_SVD_HIDE_SEXUAL_PICTURES"
ON, OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@validated
class Limits:
    """The most that a visitor may ask for, on the page and by the API; None: whatever settings allow.

    The model's own picture size is always allowed.

    Raises:
        ValueError: a limit is of a wrong type or out of range.
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
        """By the names of the settings that have a limit."""
        return {"steps": self.steps, "height": self.size, "width": self.size, "batch": self.batch}

    def check(self, story: Story, settings: Settings) -> None:
        """Raise ValueError, naming field, value and limit, where a story asks for more."""
        if self.frames is not None and len(story.scenes) > self.frames:
            raise FieldError("scenes", len(story.scenes), f"at most {self.frames} in this studio")
        for name, most in self._most.items():
            value = getattr(settings, name)
            if most is not None and value is not None and value > most:
                raise FieldError(name, value, f"at most {most} in this studio")

    def fitted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the form, by name, with no number above its limit: examples begin within the limits."""
        most = self._most
        return {
            name: min(value, most[name]) if most.get(name) and isinstance(value, int | float) else value
            for name, value in values.items()
        }

    def show_on(self, form: Mapping[str, Any]) -> None:
        """Let the form's widgets end at the limits, and say so in their help."""
        for name, most in self._most.items():
            if most is not None and name in form:
                widget = form[name]
                widget.maximum = most
                widget.info = f"{widget.info} At most {most} in this studio."
                if isinstance(widget.value, int | float):
                    widget.value = min(widget.value, most)


# What a studio starts with that strangers reach: stories of a size that lets others have a turn, too.
PUBLIC = Limits(frames=12, steps=50, size=1024, queue=20, batch=8)


def limits_of(exposed: bool, **given: int | None) -> Limits:
    """The limits that were given, and for the rest those of PUBLIC where strangers reach the studio."""
    return replace(
        PUBLIC if exposed else Limits(), **{name: value for name, value in given.items() if value is not None}
    )


def public(host: str, share: bool, environ: Mapping[str, str]) -> bool:
    """Whether others than the person at this machine reach the studio: by a shared link, as a Hugging Face
    Space, or because it listens on more than the loopback address. All safe defaults hang on this."""
    if share or "SPACE_ID" in environ:
        return True
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True  # a name that may be anyone's


def hides_sexual_pictures(environ: Mapping[str, str], asked: bool = False) -> bool:
    """Whether a flag (`asked`) or FILTER_VARIABLE asks for the filter. ValueError for a value of the variable
    that is neither yes nor no: whoever set it meant something."""
    said = environ.get(FILTER_VARIABLE, "")
    if said.strip().lower() not in (*ON, *OFF):
        raise FieldError(FILTER_VARIABLE, said, "1 or 0")
    return asked or said.strip().lower() in ON


def read_auth(given: Sequence[str]) -> list[tuple[str, str]]:
    """Users and passwords of `user:password`, each on its own or several parted by commas.

    Raises:
        ValueError: one is not of that form, or a user is named twice. No message holds a password.
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
    """What the person who starts a studio should know about who can reach it, a line each."""
    if not exposed or auth:
        return []
    if "SPACE_ID" in environ:
        return []  # a Space is public on purpose, and has its own switch for who may see it
    return [
        "Anyone who finds this address can use this studio. Start it with --auth user:password to ask who."
    ]
