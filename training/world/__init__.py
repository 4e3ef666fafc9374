"""The storybook world: a procedural renderer whose every picture comes with its truth."""

from training.world.render import Picture, render, render_random
from training.world.vocabulary import Identity, draw_identity

__all__ = ["Identity", "Picture", "draw_identity", "render", "render_random"]
