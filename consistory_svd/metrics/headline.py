"""Which score speaks for a story: the first of each that is known; all keep their own names."""

from typing import Literal

Better = Literal["higher", "lower"]
ALIKE = ("DreamSim (subject only)", "DreamSim", "Identity agreement by the storybook reader")
ALIGNED = ("CLIPScore", "Scaled CLIP-T", "Storybook CLIP alignment")
