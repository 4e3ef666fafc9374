"""Stories in pictures whose subject stays the same, told by any SDXL model without training.

>>> model = load_model()
>>> story = Story("a cat", ("in the forest", "on the beach"))
>>> events = tell(model, story, preset("consistory"))
>>> images = [event.image for event in events if isinstance(event, FrameDone)]
"""

from consistory_svd.compat import cure_torchvision

cure_torchvision()  # before anything imports transformers or diffusers

from consistory_svd.models.model import Model, load_model  # noqa: E402
from consistory_svd.pipeline import Cancelled, Finished, FrameDone, Preview, Started, generate  # noqa: E402
from consistory_svd.presets import PRESETS, preset  # noqa: E402
from consistory_svd.settings import Settings  # noqa: E402
from consistory_svd.story import Scene, Story  # noqa: E402

__all__ = [
    "PRESETS",
    "Cancelled",
    "Finished",
    "FrameDone",
    "Model",
    "Preview",
    "Scene",
    "Settings",
    "Started",
    "Story",
    "generate",
    "load_model",
    "preset",
]
