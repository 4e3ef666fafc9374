"""A link that carries a story and its settings: what differs from the defaults, as JSON in base64url."""

import base64
import binascii
import json
from dataclasses import MISSING, asdict, fields
from typing import Any

from consistory_svd.metadata import settings_of, story_of
from consistory_svd.settings import Settings, Story

PARAMETER = "story"
# Servers and proxies cut longer addresses off.
LONGEST = 6000


def encode(story: Story, settings: Settings) -> str:
    """The link's parameter. ValueError where it would be longer than servers take."""
    content = {"story": _changed(story), "settings": _changed(settings)}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    code = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    if len(code) > LONGEST:
        raise ValueError("The story is too long for a link; its story.json carries the same.")
    return code


def decode(code: str) -> tuple[Story, Settings]:
    """What a link's parameter carries. ValueError, in words, for one that is broken."""
    try:
        content = json.loads(base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise ValueError("The link is broken or was cut off; copy it again.") from error
    if not isinstance(content, dict) or set(content) != {"story", "settings"}:
        raise ValueError("The link carries no story; copy it again.")
    return story_of(content["story"]), settings_of(content["settings"])


def _changed(record: Story | Settings) -> dict[str, Any]:
    defaults = {
        item.name: item.default_factory() if item.default is MISSING else item.default
        for item in fields(record)
        if item.default is not MISSING or item.default_factory is not MISSING
    }
    values = asdict(record)
    same = [name for name, default in defaults.items() if getattr(record, name) == default]
    return {name: value for name, value in values.items() if name not in same}
