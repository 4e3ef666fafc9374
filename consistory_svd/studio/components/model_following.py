"""What a page takes over from the model, again whenever anyone loads another one: its name, the words and the
sizes that it knows, and how a few-step model is run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from consistory_svd.limits import Limits
from consistory_svd.models.request import ModelRequest, with_recipe
from consistory_svd.schedulers import Recipe
from consistory_svd.studio import links
from consistory_svd.studio.components.image_sizes import OWN
from consistory_svd.studio.components.method_settings import DEFAULTS
from consistory_svd.studio.components.sampling_settings import CUSTOM_SIZE, Sizes
from consistory_svd.studio.model_manager import ModelManager

# What a few-step model's recipe sets.
RUN = ("steps", "guidance", "scheduler", "spacing")
LOOK_SECONDS = 5.0
# Asked of the page's address, for the handler that reads a link may not have answered yet.
WITH_LINK = f"""(seen, link, ...rest) => [
  seen, new URLSearchParams(window.location.search).get("{links.PARAMETER}") || "", ...rest
]"""


@dataclass(frozen=True)
class Seen:
    """The model that a page shows."""

    wanted: ModelRequest
    recipe: Recipe | None


def own_values(recipe: Recipe | None, limits: Limits) -> dict[str, Any]:
    """What a few-step model sets in the form, by the boxes' names, within the limits; empty for others."""
    return limits.fitted(with_recipe(recipe, {})[0])


def few_steps(recipe: Recipe | None, limits: Limits) -> str:
    """A sentence that says so; empty for others."""
    if recipe is None:
        return ""
    said = [
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"
        for name, value in own_values(recipe, limits).items()
        if value != "own"
    ]
    return f"{recipe.name} is made for few steps: the form begins with {', '.join(said)}."


class Following:
    """The handler that keeps pages with the model.

    `shown` makes the model line, the words' frame and the words of the model that is there.
    """

    def __init__(
        self, manager: ModelManager, limits: Limits, sizes: Sizes, shown: Callable[[], tuple[Any, ...]]
    ) -> None:
        self._manager, self._limits, self._sizes, self._shown = manager, limits, sizes, shown

    def follow(self, seen: Seen | None, link: str, size: str, width: Any, height: Any) -> tuple[Any, ...]:
        """Updates for a page that has `seen` a model, or None yet: that, the three of `shown`, the choice of
        sizes, width, height, and RUN. Nothing changes where the page has seen the model that is there.

        A page that was opened by a link keeps what the link says. Sizes that were chosen for another model
        go; those that were written by hand stay.
        """
        manager = self._manager
        if not manager.ready or (seen is not None and seen.wanted == manager.requested):
            return tuple(gr.skip() for _ in range(7 + len(RUN)))
        now = Seen(manager.requested, manager.model.recipe)
        run = [gr.skip()] * len(RUN) if seen is None and link else self._run(seen, now)
        return now, *self._shown(), *self._size(seen, size, width, height), *run

    def _run(self, seen: Seen | None, now: Seen) -> list[Any]:
        values = own_values(now.recipe, self._limits)
        if not values and seen is not None and seen.recipe is not None:
            values = self._limits.fitted({name: getattr(DEFAULTS, name) for name in RUN})
        return [values.get(name, gr.skip()) for name in RUN]

    def _size(self, seen: Seen | None, size: str, width: Any, height: Any) -> tuple[Any, Any, Any]:
        if seen is None or size == CUSTOM_SIZE or self._sizes.known(size):
            return self._sizes.name(width, height), gr.skip(), gr.skip()
        if not size.startswith(OWN):
            gr.Info(f"The size {size} was for the model from before; it is this model's own now.")
        return self._sizes.name("", ""), "", ""


def connect(
    following: Following, manager: ModelManager, line: list[Any], stage: Any, form: Any, after: Any
) -> None:
    """Connect it, inside of the page's Blocks: after the events `after`, and every few seconds where others
    may choose a model, too. `line` are the widgets of `shown`."""
    seen, sides = gr.State(None), [stage.size, form["width"], form["height"]]
    event: dict[str, Any] = {
        "fn": following.follow,
        "inputs": [seen, stage.link, *sides],
        "outputs": [seen, *line, *sides, *(form[name] for name in RUN)],
        "js": WITH_LINK,
        "queue": False,
        "show_progress": "hidden",
        "api_visibility": "private",
        "preprocess": False,
    }
    for one in after:
        one.then(**event)
    if manager.may_switch:
        gr.Timer(LOOK_SECONDS).tick(**event)
