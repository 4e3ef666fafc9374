"""One story, one model: why another model than the one that told a story cannot go on with it."""

from consistory_svd.studio.engine import Engine
from consistory_svd.studio.told import Told


def other_model(told: Told, engine: Engine) -> str:
    """Why the model that is loaded cannot go on with a story; empty where it can, or while none is there."""
    if not engine.loaded or engine.reason:
        return ""
    return not_of(engine.model.name, told, engine.may_switch)


def not_of(name: str, told: Told, may_switch: bool) -> str:
    """Why the model `name` cannot go on with a story, in words that say what to do; empty where it can.

    Args:
        may_switch: whether visitors may load another model.
    """
    if not told.pictures or told.model == name:
        return ""
    load = f"Load {told.model} to go on with it, or press" if may_switch else "Press"
    return (
        f"This story was told with {told.model}, and {name} is loaded: one story is told by one model. "
        f"{load} Generate to tell it anew with {name}."
    )
