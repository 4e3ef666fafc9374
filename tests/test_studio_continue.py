"""Going on with a told story: its anchors are kept, a frame is told again, and the record follows."""

import base64
import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image, ImageChops

from consistory_svd.metadata import read_frame, read_story_json
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio import job as worker
from consistory_svd.studio.components.continue_panel import describe
from consistory_svd.studio.components.open_and_share import read_file
from consistory_svd.studio.components.sampling_settings import model_sizes
from consistory_svd.studio.form import decode_link, encode_link, fill, parse, scene_rows
from consistory_svd.studio.generated_story import (
    GeneratedStory,
    GenerationRequest,
    undo,
    with_scene,
    with_seed,
    with_text,
)
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import Progress, StepTimer
from consistory_svd.studio.tabs.story import StoryTab
from tests.visitors import ANN, last

SECONDS = 120.0
SCENES = ("in the forest", "on the beach", "in the snow")
STORY = Story("a cat", SCENES)
QUICK = Settings(steps=2, anchors=1, batch=1)


@pytest.fixture
def generate(manager: ModelManager, tmp_path: Path) -> Any:
    def generated(settings: Settings = QUICK, story: Story = STORY, record: bool = False) -> GenerationJob:
        return finished(
            GenerationJob(manager, GenerationRequest(story, settings, tmp_path, record_svd=record))
        )

    return generated


def finished(run: GenerationJob) -> GenerationJob:
    run.start()
    assert run.join(SECONDS)
    assert run.progress.over
    return run


def continued(run: GenerationJob, story: Story, *frames: int) -> GenerationJob:
    return GenerationJob(run._manager, GenerationRequest.continuing(run.generated, story, frames))


def goes_on(run: GenerationJob, story: Story, *wanted: int) -> GenerationJob:
    return finished(continued(run, story, *wanted))


def paths(run: GenerationJob) -> list[Path]:
    return [picture.path for picture in run.progress.pictures]


def same(one: Path, other: Path) -> bool:
    """Whether two pictures are the same but for rounding: one may have been told in another batch."""
    with Image.open(one) as first, Image.open(other) as second:
        return max(high for _, high in ImageChops.difference(first, second).getextrema()) <= 2


# -- a scene more, another seed, another text ------------------------------------------------------------


def test_a_scene_more_is_the_one_that_the_whole_story_would_have(generate, manager, tmp_path_factory):
    run = generate()
    longer = goes_on(run, with_scene(STORY, " in a library "), 3)
    assert (longer.progress.state, longer.progress.finished) == ("done", 1)
    assert paths(longer)[:3] == paths(run)
    whole = finished(
        GenerationJob(
            manager,
            GenerationRequest(
                Story("a cat", (*SCENES, "in a library")), QUICK, tmp_path_factory.mktemp("whole")
            ),
        )
    )
    assert same(paths(longer)[3], paths(whole)[3])
    assert longer.generated.story.scene_texts == (*SCENES, "in a library")
    assert "1 picture of 4 in" in view.status(longer.progress)


def test_another_seed_keeps_the_former_picture_until_it_is_wanted(generate, tmp_path: Path):
    run = generate()
    again = goes_on(run, with_seed(STORY, 2, 99), 2)
    assert [path.name for path in paths(again)] == ["frame-01.png", "frame-02.png", "frame-03-2.png"]
    assert read_frame(paths(again)[2]).seed == 99
    assert not same(paths(again)[2], paths(run)[2])
    assert (tmp_path / "frame-03.png").is_file()
    record = read_story_json(tmp_path)
    assert [scene.seed for scene in record.story.scenes] == [None, None, 99]
    assert record.pictures[2] == "frame-03-2.png"
    assert record.masks[2] == "mask-03-2.png"

    back = undo(again.generated, 2)
    assert [picture.path for picture in back.pictures] == paths(run)
    assert back.story == STORY
    assert undo(back, 2).story.scenes[2].seed == 99
    with pytest.raises(ValueError, match="give a picture that was redone"):
        undo(again.generated, 1)


def test_an_anchor_that_is_changed_leaves_the_others_looking_at_the_former_one(generate, tmp_path: Path):
    run = generate()
    changed = goes_on(run, with_text(STORY, 0, "in the desert"), 0)
    assert paths(changed)[1:] == paths(run)[1:]
    record = read_story_json(tmp_path)
    assert (record.story.scene_texts[0], record.anchor_story) == ("in the desert", STORY)
    assert read_frame(paths(changed)[0]).anchor_story == STORY
    assert "even if you change an anchor" in describe(changed.generated)
    # Whoever comes later still looks at the anchor as it was.
    later = goes_on(changed, with_seed(changed.generated.story, 1, STORY.frame_seeds[1]), 1)
    assert same(paths(later)[1], paths(run)[1])


def test_anchors_that_were_not_kept_are_told_again_unseen(generate, monkeypatch: pytest.MonkeyPatch):
    long = replace(QUICK, steps=12)  # so that what is told unseen lasts until it is looked at
    kept = goes_on(generate(long), with_seed(STORY, 2, 99), 2)
    monkeypatch.setattr(worker, "MAX_CACHE_SHARE", 0.0)
    run = generate(long)
    assert run.generated.anchor_cache is None
    assert "not in memory" in describe(run.generated)
    again = continued(run, with_seed(STORY, 2, 99), 2)
    again.start()
    seen = list(again.watch())
    assert seen[-1].state == "done"
    assert any(progress.anchors_only for progress in seen)
    shares = [progress.share for progress in seen]
    assert shares == sorted(shares)
    assert same(paths(again)[2], paths(kept)[2])


def test_what_shares_nothing_tells_only_what_is_wanted(generate):
    run = generate(replace(QUICK, sdsa=False))
    assert run.generated.anchor_cache is None
    assert goes_on(run, with_scene(STORY, "in a library"), 3).progress.finished == 1
    assert "only the image that you change" in describe(run.generated)


def test_random_anchors_tell_the_whole_story_again(generate):
    run = generate(replace(QUICK, random_anchors=True))
    again = goes_on(run, with_scene(STORY, "in a library"), 3)
    assert again.progress.finished == 4
    assert len(again.generated.replaced) == 3
    assert "a change regenerates all 3 images" in describe(run.generated)


def test_spectra_are_those_of_the_story_as_it_stands(generate):
    run = generate(replace(QUICK, k_filter=SVDFilter("count", 2)), record=True)
    longer = goes_on(run, with_scene(STORY, "in a library"), 3)
    assert longer.generated.filter_log is run.generated.filter_log
    assert longer.generated.filter_log.layers


# -- stopped stories -------------------------------------------------------------------------------------


def stopped(run: GenerationJob, when: Any) -> GenerationJob:
    run.start()
    next(progress for progress in run.watch() if when(progress))
    run.stop()
    assert run.join(SECONDS)
    assert run.progress.state == "stopped"
    return run


def test_a_stopped_story_continues_against_its_anchors(manager: ModelManager, tmp_path: Path):
    long = replace(QUICK, steps=100)
    run = stopped(
        GenerationJob(manager, GenerationRequest(STORY, long, tmp_path)),
        lambda progress: len(progress.pictures) == 1,
    )
    assert run.generated.missing == (1, 2)
    assert run.generated.anchor_cache is not None
    rest = goes_on(run, run.generated.story, *run.generated.missing)
    assert (rest.progress.finished, rest.generated.missing) == (2, ())
    assert paths(rest)[0] == paths(run)[0]
    assert len(read_story_json(tmp_path).pictures) == 3


def test_a_story_stopped_before_its_anchors_begins_anew(manager: ModelManager, tmp_path: Path):
    long = replace(QUICK, steps=100)
    run = stopped(
        GenerationJob(manager, GenerationRequest(STORY, long, tmp_path)), lambda progress: progress.step >= 2
    )
    assert (run.generated.pictures, run.generated.needs_full_run) == ((), True)
    assert "starts over" in describe(run.generated)
    assert goes_on(run, STORY, *run.generated.missing).generated.missing == ()


def test_a_change_that_is_stopped_leaves_the_story_as_it_was(generate, tmp_path: Path):
    run = generate(replace(QUICK, steps=100))
    again = continued(run, with_text(STORY, 2, "in the desert"), 2)
    stopped(again, lambda progress: progress.step >= 2)
    assert again.generated.story == STORY
    assert paths(again) == paths(run)
    assert read_story_json(tmp_path).story == STORY
    assert "as it was" in view.status(again.progress)
    assert (
        goes_on(again, with_text(STORY, 2, "in the desert"), 2).generated.story.scene_texts[2]
        == "in the desert"
    )


# -- the handlers ----------------------------------------------------------------------------------------


def the_form(**changes: Any) -> dict[str, Any]:
    return {**fill(STORY, QUICK), "show_masks": False, "suggested": "cat", "locked": True, **changes}


def test_wishes_that_cannot_be_met_get_words(story_tab: StoryTab):
    def refusal(kind: str, scene: str = "", picture: Any = 0, text: str = "") -> str:
        updates = story_tab.continue_story(kind)(scene, picture, text, ANN)
        status = next(updates)[story_tab.status]
        assert 'role="alert"' in status
        with pytest.raises(gr.Error):
            next(updates)
        return status

    assert "Generate a story first" in refusal("redo")
    list(story_tab.generate(ANN, **the_form()))
    assert "Scenes must be text that is not empty" in refusal("add", scene="  ")
    assert "Image must be an image of the story, got 9" in refusal("redo", picture=9)
    assert "Image must be an image of the story, got None" in refusal("redo", picture=None)
    assert "already shows" in refusal("change", picture=1, text="on the beach")
    assert "nothing to continue" in refusal("resume")


def test_the_form_follows_where_it_was_the_storys(story_tab: StoryTab):
    panel, rows = story_tab.continue_panel, story_tab.form["scenes"]
    list(story_tab.generate(ANN, **the_form()))
    updates = list(story_tab.continue_story("add")("in a library", None, "", ANN))
    assert len(last(updates, story_tab.pictures)) == 4
    assert "1 picture of 4" in last(updates, story_tab.status)
    shown = panel.refresh(scene_rows(STORY), ANN)
    assert (shown[panel.picture]["value"], shown[panel.text]) == (3, "in a library")
    assert not shown[panel.back]["interactive"]
    assert [row["text"] for row in shown[rows]] == [*SCENES, "in a library"]
    list(story_tab.continue_story("redo")("", 1, "", ANN))
    before = shown[rows]
    seed = panel.refresh(before, ANN)[rows][1]["seed"]
    assert seed is not None
    undone = panel.undo(1, panel.refresh(before, ANN)[rows], ANN)
    assert undone[rows] == before
    assert rows not in panel.refresh([{"text": "something else", "seed": None}], ANN)


def test_leaving_frees_the_anchors(story_tab: StoryTab):
    list(story_tab.generate(ANN, **the_form()))
    job = story_tab.services.sessions.of(ANN).job
    assert job.join(60)  # the thread holds on to the anchor cache until its very end
    anchor_cache = weakref.ref(job.generated.anchor_cache)
    assert anchor_cache() is not None
    del job
    story_tab.services.leave(ANN)
    gc.collect()
    assert anchor_cache() is None


# -- files, links, sizes ---------------------------------------------------------------------------------

OWN = replace(
    STORY,
    negative="text",
    style="ein Aquarell von",
    scenes=("im Wald", (SCENES[0], 91), *SCENES[1:]),
)
FILTERED = replace(QUICK, k_filter=SVDFilter("energy", 0.9), width=128, height=64, masking=False)


def test_the_form_holds_all_that_a_story_says():
    story, settings = parse(fill(OWN, FILTERED))
    assert settings == FILTERED
    assert replace(story, concepts=()) == OWN


def test_links_carry_what_differs_and_nothing_else():
    assert decode_link(encode_link(OWN, FILTERED)) == (OWN, FILTERED)
    assert len(encode_link(STORY, Settings())) < 150
    with pytest.raises(ValueError, match="too long for a link"):
        encode_link(Story("a cat", ("x" * 900,) * 9), QUICK)


def test_links_of_earlier_versions_are_read():
    """The names of the settings were others."""
    content = {
        "story": {"subject": "a cat", "scenes": list(SCENES), "seeds": [None, 91]},
        "settings": {
            "steps": 2,
            "spectrum_k": {"select": "quantile", "value": 0.05, "reweight": "none", "alpha": 1.0},
            "spectrum_v": {"select": "all", "value": None, "reweight": "exp", "alpha": 0.5},
        },
    }
    story, settings = decode_link(base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("="))
    assert story == Story("a cat", (SCENES[0], (SCENES[1], 91), *SCENES[2:]))
    filters = {"k_filter": SVDFilter("quantile", 0.05), "v_filter": SVDFilter(reweight="exp", alpha=0.5)}
    assert settings == Settings(steps=2, **filters)


@pytest.mark.parametrize("code", ["", "ä", "e30", "W10", "eyJzdG9yeSI6IHt9", "%00"])
def test_broken_links_are_refused_in_words(code: str):
    with pytest.raises(ValueError, match="link"):
        decode_link(code)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", b""),
        ("a.json", b"\xff\xfe"),
        ("a.json", b"[]"),
        ("a.json", b'{"version": 2}'),
        ("a.txt", b""),
    ],
)
def test_files_of_others_are_refused_in_words(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are looked at below
        read_file(tmp_path / name)
    assert str(tmp_path) not in str(refusal.value)


def test_sizes_fit_the_model():
    offered = model_sizes((1024, 1024), 32)
    assert offered["Model default: 1024 × 1024"] is None
    for size in filter(None, offered.values()):
        assert all(side % 32 == 0 for side in size)
    assert (1184, 896) in offered.values()


# -- time left -------------------------------------------------------------------------------------------


def test_the_time_left_counts_bunches_and_not_the_first():
    timer = StepTimer(24)
    left = []
    for step in range(6):  # four frames a step; the first takes 9 s, the others 2 s each
        at = 9.0 + 2 * step
        for frame in range(4):
            timer.record(step, 4 * step + frame + 1, at)
            left.append(timer.seconds_left(at))
    assert left[:8] == [None] * 8
    assert left[-1] == pytest.approx(0.0, abs=2.0)
    assert left[12] == pytest.approx(2.0 * 2, abs=2.0)


def test_a_story_with_nothing_told_says_so():
    generated = GeneratedStory(STORY, QUICK, Path(), STORY)
    assert generated.missing == (0, 1, 2)
    assert "seen" not in view.status(Progress("stopped", 3))
