"""Folders of images to score, and the written scores."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from consistory_svd import Settings, Story, load_model
from consistory_svd.cli.main import app
from consistory_svd.cli.options import run
from consistory_svd.metadata import write_story_json
from consistory_svd.metrics.folder import STORYBOOK_NAME, of_storybook, read_folder
from consistory_svd.metrics.report import as_csv
from consistory_svd.metrics.result import MissingScore
from consistory_svd.models.lora import Lora

# isort: split


from tests.tiny_networks import half_mask, number, picture


@pytest.fixture
def story_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "story"
    folder.mkdir()
    story = Story("a cat", ("in the forest", "on the beach", "in the snow"))
    names = []
    for k in (1, 2):
        names.append(f"frame-{k + 1:02d}.png")
        picture(k).save(folder / names[-1])
        half_mask().save(folder / f"mask-{k + 1:02d}.png")
    masks = [name.replace("frame", "mask") for name in names]
    write_story_json(folder, story, Settings(), STORYBOOK_NAME, names, masks, frames=[1, 2])
    return folder


def test_a_saved_story_is_read_with_its_own_prompts(story_folder: Path):
    some = read_folder(story_folder)
    assert some.prompts == ("a photo of a cat on the beach", "a photo of a cat in the snow")
    assert some.storybook
    assert [mask.size for mask in some.masks] == [(48, 40)] * 2


def test_the_embedded_models_name_is_the_one_looked_for():
    model = load_model(device="cpu")
    assert model.name == model.checkpoint == STORYBOOK_NAME
    with_lora = replace(model, loras=(Lora(Path("toy.safetensors"), 0.5),))
    assert with_lora.name == f"{STORYBOOK_NAME} with toy:0.5"
    assert of_storybook(model.name)
    assert of_storybook(with_lora.name)
    assert not of_storybook("another model with toy:0.5")


def test_a_csv_is_read_with_the_masks_that_it_names(tmp_path: Path):
    picture(0).save(tmp_path / "a.png")
    half_mask().save(tmp_path / "m.png")
    (tmp_path / "list.csv").write_text("picture,prompt,mask\na.png,a cat,m.png\na.png,a fox,\n")
    some = read_folder(tmp_path)
    assert (some.prompts, some.masks[1], some.storybook) == (("a cat", "a fox"), None, False)


@pytest.mark.parametrize("content", [b'{"version": 1', b"\xff\xfe{}"])
def test_a_story_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "story.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^story\.json: .*cannot be read"):
        read_folder(tmp_path)


def test_a_csv_of_another_encoding_is_named(tmp_path: Path):
    (tmp_path / "list.csv").write_bytes("picture,prompt\na.png,Bär\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^csv: .*UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("picture\na.png\n", "prompt"),
        ("picture,prompt\nnone.png,a cat\n", "picture"),
        ("", "picture"),
        (None, "folder"),
    ],
)
def test_a_folder_that_cannot_be_read_says_which_field(tmp_path: Path, content: str | None, field: str):
    picture(0).save(tmp_path / "a.png")
    if content is not None:
        (tmp_path / "list.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"^{field}: "):
        read_folder(tmp_path)


def test_score_on_the_command_line(
    story_folder: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    command = ["score", str(story_folder), "--clip", str(clip_folder), "--cache", str(tmp_path / "cache")]
    command += ["--device", "cpu"]
    assert run(app, [*command, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    scores = {score["name"]: score for score in content["scores"]}
    assert {"CLIP-T", "CLIP-I", "CLIP-I (subject only)"} <= set(scores)
    assert "DreamSim" in {missing["name"] for missing in content["absent"]}
    assert run(app, [*command, "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    per_frame = [float(line["value"]) for line in lines if line["name"] == "CLIP-T" and line["frame"]]
    assert per_frame == pytest.approx(scores["CLIP-T"]["per_frame"])
    assert run(app, command) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert "DreamSim unavailable" in table
    assert run(app, [*command, "--format", "xml"]) == 2
    assert capsys.readouterr().err.startswith("error: format must be ")


def test_a_csv_has_numbers_only_and_no_line_for_what_is_absent():
    text = as_csv([number("x", 0.5), MissingScore("y", "why")])
    assert [line.split(",")[:3] for line in text.splitlines()[1:]] == [["x", "", "0.5"]]
