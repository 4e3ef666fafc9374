"""One story, one model: why another model than the one that told a story cannot go on with it."""

from consistory_svd.studio.generated_story import GeneratedStory
from consistory_svd.studio.model_manager import ModelManager


def other_model(generated: GeneratedStory, manager: ModelManager) -> str:
    """Why the model that is loaded cannot go on with a story; empty where it can, or while none is there."""
    if not manager.loaded or manager.reason:
        return ""
    return not_of(manager.model.name, generated, manager.may_switch)


def not_of(name: str, generated: GeneratedStory, may_switch: bool) -> str:
    """Why the model `name` cannot go on with a story, in words that say what to do; empty where it can.

    Args:
        may_switch: whether visitors may load another model.
    """
    if not generated.pictures or generated.model == name:
        return ""
    load = f"Load {generated.model} to go on with it, or press" if may_switch else "Press"
    return (
        f"This story was told with {generated.model}, and {name} is loaded: one story is told by one model. "
        f"{load} Generate to tell it anew with {name}."
    )
