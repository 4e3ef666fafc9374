"""A story to save in a library."""

from pathlib import Path

from PIL import Image

from consistory_svd.library import (
    Library,
)
from consistory_svd.metadata import save_frame, write_story_json
from consistory_svd.settings import Settings
from consistory_svd.story import Story

CAT = Story("a cat", ("in the forest", "on the beach"), seed=7)


SETTINGS = Settings(steps=4, anchors=1)


def keep(
    library: Library,
    story: Story = CAT,
    settings: Settings = SETTINGS,
    name: str = "",
    model: str = "a model",
) -> Path:
    """A story in the library, as the studio leaves one; `name` is its folder's, the library's by default."""
    folder = library.root / name if name else library.new(story.subject)
    folder.mkdir(exist_ok=True)
    pictures = []
    for k, (prompt, seed) in enumerate(zip(story.prompts, story.frame_seeds, strict=True), start=1):
        pictures.append(folder / f"frame-{k:02d}.png")
        image = Image.new("RGB", (64, 48), (40 * k, 90, 200))
        save_frame(pictures[-1], image, prompt, seed, story, settings, model)
        Image.new("L", (64, 48), 255).save(folder / f"mask-{k:02d}.png")
    write_story_json(folder, story, settings, model, pictures)
    return folder
