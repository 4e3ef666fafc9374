"""A link that carries a story and its settings: what differs from the defaults, as JSON in base64url."""

import base64
import binascii
import json
from dataclasses import asdict, fields
from typing import Any

from consistory_svd.metadata import settings_of, story_as_dict, story_of
from consistory_svd.settings import Settings
from consistory_svd.story import Story

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
    same = [
        item.name
        for item in fields(record)
        if getattr(record, item.name) == getattr(type(record), item.name, ...)
    ]
    values = story_as_dict(record) if isinstance(record, Story) else asdict(record)
    if all(seed is None for seed in values.get("seeds", ())):
        values.pop("seeds", None)
    return {name: value for name, value in values.items() if name not in same}
