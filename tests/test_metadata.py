"""Pictures and stories that know how they were made."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from consistory_svd import Settings, Story
from consistory_svd.metadata import (
    StoryRecord,
    read_frame,
    read_story_json,
    replace_file,
    save_frame,
    write_story_json,
)
from consistory_svd.presets import PRESETS

STORY = Story("a Mädchen, 猫", ("im Wald", "on the beach"), concepts=("Mädchen",), negative="fog", seed=9)
SETTINGS = Settings(steps=7, anchors=1, guidance=3.5, height=256)


def saved_picture(folder: Path) -> Path:
    path = folder / "frame-01.png"
    image = Image.new("RGB", (8, 8), "red")
    save_frame(path, image, STORY.prompts[0], STORY.frame_seeds[0], STORY, SETTINGS, "tiny")
    return path


def test_a_picture_tells_how_it_was_made(tmp_path: Path) -> None:
    record = read_frame(saved_picture(tmp_path))
    assert (record.story, record.settings, record.model) == (STORY, SETTINGS, "tiny")
    assert (record.prompt, record.seed) == (STORY.prompts[0], STORY.frame_seeds[0])
    with Image.open(tmp_path / "frame-01.png") as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
        assert json.loads(image.text["settings"])["steps"] == 7


def test_pictures_of_others_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "foreign.png")
    with pytest.raises(ValueError, match=r"foreign.png has no version"):
        read_frame(tmp_path / "foreign.png")


def test_a_story_is_read_as_written(tmp_path: Path) -> None:
    pictures, masks = ("frame-01.png", "frame-02.png"), ("mask-01.png",)
    known = {"preset": "sdsa", "is_embedded": True}
    path = write_story_json(
        tmp_path, STORY, SETTINGS, "tiny", [tmp_path / pictures[0], pictures[1]], masks, 1.5, **known
    )
    expected = StoryRecord(STORY, SETTINGS, "tiny", pictures, masks, 1.5, prompts=STORY.prompts, **known)
    assert read_story_json(path) == read_story_json(tmp_path) == expected
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["version"] == 1
    assert content["frames"][1]["prompt"] == STORY.prompts[1]
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_stories_without_preset_and_kind_of_model_are_read(tmp_path: Path) -> None:
    for model, is_embedded in (("the embedded storybook model + toys", True), ("sdxl", False)):
        write_story_json(tmp_path, STORY, PRESETS["svd-log"], model, ["frame-01.png"])
        record = read_story_json(tmp_path)
        assert (record.preset, record.is_embedded) == ("svd-log", is_embedded)


def test_a_file_that_several_write_at_once_is_one_of_theirs(tmp_path: Path) -> None:
    contents = [bytes([value]) * 1_000_000 for value in range(8)]
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda content: replace_file(tmp_path / "made", content), contents * 20))
    assert (tmp_path / "made").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_cancelled_story_keeps_the_pictures_that_are_made(tmp_path: Path) -> None:
    write_story_json(tmp_path, STORY, SETTINGS, "tiny", ["frame-01.png"])
    assert read_story_json(tmp_path).pictures == ("frame-01.png",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"^version must be 1 in .*, got 2$"),
        ({"settings": {"steps": 0}}, r"^steps must be .*, got 0$"),
        ({"settings": {"speed": 1}}, r"^speed must be a field of Settings "),
        ({"settings": []}, r"^settings must be an object"),
        ({"story": {"subject": "a cat"}}, r"^scenes must be given"),
        ({"story": {"subject": "", "scenes": ["x"]}}, r"^subject must be "),
        ({"frames": [{"picture": "../../secret.png"}]}, r"^frames must be .*, got '../../secret.png'$"),
        ({"frames": [{}]}, r"^frames must be "),
        ({"masks": [".."]}, r"^frames must be .*, got '..'$"),
    ],
)
def test_a_story_that_differs_names_the_field(tmp_path: Path, change: dict, message: str) -> None:
    path = write_story_json(tmp_path, STORY, SETTINGS, "tiny", ["frame-01.png"])
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}))
    with pytest.raises(ValueError, match=message):
        read_story_json(path)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_what_is_no_story_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "story.json").write_text(text)
    with pytest.raises(ValueError, match=r"story.json (is not valid JSON|must hold a JSON object)"):
        read_story_json(tmp_path)
