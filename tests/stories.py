"""Stories for tests."""

from dataclasses import replace

from consistory_svd.story import Story


def with_seeds(story: Story, *seeds: int | None) -> Story:
    """Return the story with these seeds for its first scenes, and none of their own for the others."""
    seeds += (None,) * (len(story.scenes) - len(seeds))
    return replace(story, scenes=tuple(zip(story.scene_texts, seeds, strict=True)))
