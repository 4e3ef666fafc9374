"""A story from a file whose anchors were changed since is generated again as it was."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from consistory_svd.metadata import FILE_NAME, read_story_json
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio.form import fill
from consistory_svd.studio.generated_story import GeneratedStory, GenerationRequest, with_seed
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.tabs.story import StoryTab
from tests.visitors import ANN

SECONDS = 120.0
STORY = Story("a cat", ("in the forest", "on the beach", "in the snow", "in a library"), concepts=("cat",))
# A picture a batch: then there is no rounding that depends on the company.
QUICK = Settings(steps=3, anchors=2, batch=1)


def finished(run: GenerationJob) -> GenerationJob:
    run.start()
    assert run.join(SECONDS)
    assert run.progress.state == "done", run.progress.error
    return run


def continued(run: GenerationJob, story: Story, *frames: int) -> GenerationJob:
    return GenerationJob(run._manager, GenerationRequest.continuing(run.generated, story, frames))


def pixels(generated: GeneratedStory) -> list[bytes]:
    found = []
    for picture in generated.pictures:
        with Image.open(picture.path) as image:
            found.append(image.tobytes())
    return found


def form(story: Story, settings: Settings) -> dict[str, Any]:
    return {**fill(story, settings), "show_masks": False, "suggested": "", "locked": True}


@pytest.fixture
def changed(manager: ModelManager, tmp_path: Path) -> GeneratedStory:
    """A story whose first anchor has another seed since, and whose last frame was told after that."""
    first = finished(GenerationJob(manager, GenerationRequest(STORY, QUICK, tmp_path)))
    redone = finished(continued(first, with_seed(STORY, 0, 4711), 0))
    last = finished(continued(redone, with_seed(redone.generated.story, 3, 12), 3))
    assert pixels(last.generated)[0] != pixels(first.generated)[0]
    return last.generated


def test_a_story_with_former_anchors_is_told_again_bit_by_bit(story_tab: StoryTab, changed: GeneratedStory):
    record = read_story_json(changed.folder)
    assert record.anchor_story == STORY
    status = story_tab.share.open_file(str(changed.folder / FILE_NAME), ANN)[story_tab.status]
    assert "regenerates the original anchors without showing them, then the same images" in status
    list(story_tab.generate(ANN, **form(record.story, record.settings)))
    again = story_tab.services.sessions.story_of(ANN)
    assert not again.missing
    assert pixels(again) == pixels(changed)
    # Its own record says the same, so that it can be told a third time.
    assert read_story_json(again.folder).anchor_story == STORY
    assert read_story_json(again.folder).story == record.story


def test_an_opened_story_that_is_changed_has_anchors_of_its_own(story_tab: StoryTab, changed: GeneratedStory):
    record = read_story_json(changed.folder)
    story_tab.share.open_file(str(changed.folder / FILE_NAME), ANN)
    other = Settings(**{**vars(record.settings), "guidance": 4.0})
    list(story_tab.generate(ANN, **form(record.story, other)))
    again = story_tab.services.sessions.story_of(ANN)
    assert read_story_json(again.folder).anchor_story is None
    assert pixels(again) != pixels(changed)
    # Without lenders it is what telling it always was.
    beside = story_tab.services.library_of(ANN).new("beside")
    assert pixels(again) == pixels(
        finished(
            GenerationJob(story_tab.services.manager, GenerationRequest(record.story, other, beside))
        ).generated
    )


def test_a_file_without_former_anchors_takes_them_away(
    story_tab: StoryTab, changed: GeneratedStory, tmp_path: Path
):
    story_tab.share.open_file(str(changed.folder / FILE_NAME), ANN)
    folder = tmp_path / "plain"
    finished(GenerationJob(story_tab.services.manager, GenerationRequest(STORY, QUICK, folder)))
    status = story_tab.share.open_file(str(folder / FILE_NAME), ANN)[story_tab.status]
    assert "anchor" not in status
    record = read_story_json(changed.folder)
    list(story_tab.generate(ANN, **form(record.story, record.settings)))
    assert read_story_json(story_tab.services.sessions.story_of(ANN).folder).anchor_story is None
