"""The filter for sexual pictures: its classifier's files, what it withholds, and that it fails closed."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from consistory_svd import Cancelled, Finished, FrameDone, Model, Preview, Settings, Story, generate
from consistory_svd.cli.main import app
from consistory_svd.cli.options import run
from consistory_svd.content_filter import INK, PAPER, filter_events, filtered_image, load_content_filter
from consistory_svd.downloads import CACHE_VARIABLE
from consistory_svd.limits import FILTER_VARIABLE, hides_sexual_pictures
from consistory_svd.metadata import read_story_json, write_story_json
from consistory_svd.metrics.folder import read_folder
from consistory_svd.metrics.weights import SEXUAL_PICTURES
from tests.classifiers import EVERY, NONE, keep_in_cache, save_classifier, screen_against, screen_of
from tests.fake_hub import serving

# isort: split
from transformers import AutoImageProcessor, AutoModelForImageClassification

HOUSE = Path(__file__).parents[1]
SHARED = Settings(steps=2, anchors=2, batch=1, preview_every=1)
FETCH = "python -m consistory_svd fetch picture-filter"


def frames(events: Sequence[object]) -> list[FrameDone]:
    return [event for event in events if isinstance(event, FrameDone)]


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    return Image.fromarray(torch.randint(256, (size[1], size[0], 3), generator=generator).byte().numpy())


# -- the classifier --------------------------------------------------------------------------------------


def test_the_likelihood_is_the_softmax_that_transformers_gives(tmp_path: Path):
    folder = save_classifier(tmp_path / "net", 0.3)
    model, processor = (
        kind.from_pretrained(folder) for kind in (AutoModelForImageClassification, AutoImageProcessor)
    )
    # Of the network's own size, because the two libraries resize in their own ways.
    content_filter, picture = load_content_filter(str(folder)), noise(1, (32, 32))
    with torch.inference_mode():
        expected = model(**processor(picture, return_tensors="pt")).logits.softmax(-1)[0, 1]
    assert content_filter.likelihood(picture) == pytest.approx(float(expected), abs=1e-6)
    assert abs(content_filter.likelihood(picture) - content_filter.likelihood(noise(2))) > 1e-4


def test_the_label_is_found_by_its_name(tmp_path: Path):
    first = save_classifier(tmp_path / "net", NONE, labels=("NSFW", "normal"))
    assert load_content_filter(str(first)).label == 0
    assert load_content_filter(str(first)).is_sexual(noise(1))


def test_a_classifier_without_the_label_is_refused_with_those_it_has(tmp_path: Path):
    folder = save_classifier(tmp_path / "net", NONE, labels=("cat", "dog"))
    with pytest.raises(ValueError, match=r"^hide-sexual-pictures: .* a label nsfw, got cat, dog"):
        load_content_filter(str(folder))


def test_a_picture_at_the_threshold_is_withheld_and_a_wrong_threshold_refused(tmp_path: Path):
    content_filter, picture = screen_of(tmp_path / "net", 0.0), noise(1)
    likelihood = content_filter.likelihood(picture)
    assert replace(content_filter, threshold=likelihood).is_sexual(picture)
    assert not replace(content_filter, threshold=min(1.0, likelihood + 1e-4)).is_sexual(picture)
    for wrong in (0, -1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"^threshold must be "):
            replace(content_filter, threshold=wrong)


def spoil(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    match how:
        case "cut off":
            weights.write_bytes(weights.read_bytes()[:2000])
        case "a head lacks":
            state = {name: value for name, value in load_file(weights).items() if "classifier" not in name}
            save_file(state, weights, {"format": "pt"})
        case "no numbers":
            state = {name: value * float("nan") for name, value in load_file(weights).items()}
            save_file(state, weights, {"format": "pt"})
        case "pickled":
            torch.save(load_file(weights), folder / "pytorch_model.bin")
            weights.unlink()
        case "no preprocessor":
            (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut off", "cannot be read"),
        ("a head lacks", "is not a complete ViTForImageClassification: 2 weights are missing"),
        ("no numbers", "are corrupted, the classifier gave nan"),
        ("pickled", "are not downloaded"),
        ("no preprocessor", "are not downloaded"),
    ],
)
def test_spoilt_weights_are_refused_in_a_line_that_says_what_to_do(tmp_path: Path, how: str, said: str):
    spoil(keep_in_cache(save_classifier(tmp_path / "net", NONE), tmp_path / "cache"), how)
    with pytest.raises(ValueError, match=r"^hide-sexual-pictures: ") as refusal:
        load_content_filter(cache=tmp_path / "cache")
    assert said in str(refusal.value)
    assert f"{FETCH} --cache {tmp_path / 'cache'}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


# -- a story ---------------------------------------------------------------------------------------------


def test_without_a_find_the_story_is_the_same_but_for_its_previews(
    small_model: Model, story: Story, tmp_path: Path
):
    plain = list(generate(small_model, story, SHARED))
    looked_at = list(filter_events(generate(small_model, story, SHARED), screen_of(tmp_path / "net", NONE)))
    assert any(event.image for event in plain if isinstance(event, Preview)), (
        "there is something to leave out"
    )
    assert not any(event.image for event in looked_at if isinstance(event, Preview))
    assert [type(event) for event in looked_at] == [type(event) for event in plain]
    assert [event.done for event in looked_at if isinstance(event, Preview)] == list(range(1, 9))
    for before, after in zip(frames(plain), frames(looked_at), strict=True):
        assert after.image.tobytes() == before.image.tobytes()
        assert after.mask.tobytes() == before.mask.tobytes()
        assert torch.equal(after.latents, before.latents)
        assert (after.filtered, before.filtered) == ("", "")
    assert looked_at[0] == plain[0]


def test_where_all_is_sexual_no_event_holds_anything_of_it(small_model: Model, story: Story, tmp_path: Path):
    events = list(filter_events(generate(small_model, story, SHARED), screen_of(tmp_path / "net", EVERY)))
    plain = filtered_image((32, 32), "sexual").tobytes()
    assert len(frames(events)) == 4
    for frame in frames(events):
        assert (frame.filtered, frame.mask, frame.maps) == ("sexual", None, None)
        assert frame.image.tobytes() == plain
        assert not frame.latents.any()
    assert not any(event.image for event in events if isinstance(event, Preview))
    assert isinstance(events[-1], Finished)
    assert [image.tobytes() for image in events[-1].images] == [plain] * 4
    assert events[-1].masks == (None,) * 4


def test_only_what_is_sexual_is_withheld_and_others_still_look_at_a_withheld_anchor(
    small_model: Model, story: Story, tmp_path: Path
):
    plain = frames(list(generate(small_model, story, SHARED)))
    for taken in (1, 2, 3):
        content_filter = screen_against(tmp_path / f"net{taken}", [frame.image for frame in plain], taken)
        events = list(filter_events(generate(small_model, story, SHARED), content_filter))
        assert sum(frame.filtered == "sexual" for frame in frames(events)) == taken
        for before, after in zip(plain, frames(events), strict=True):
            assert content_filter.is_sexual(before.image) == bool(after.filtered)
            assert (after.image.tobytes() == before.image.tobytes()) == (not after.filtered)
        assert [image.tobytes() for image in events[-1].images] == [
            frame.image.tobytes() for frame in sorted(frames(events), key=lambda frame: frame.frame)
        ]


class Failing:
    """A preprocessor that a picture breaks."""

    def __call__(self, *given: object, **options: object) -> object:
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("how", ["no numbers", "an exception"])
def test_what_cannot_be_looked_at_is_withheld_and_said(
    small_model: Model, story: Story, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
):
    content_filter = screen_of(tmp_path / "net", NONE)
    if how == "no numbers":
        with torch.no_grad():
            content_filter.model.vit.layernorm.weight.fill_(float("nan"))
    else:
        content_filter = replace(content_filter, processor=Failing())
    events = list(filter_events(generate(small_model, story, SHARED), content_filter))
    assert [frame.filtered for frame in frames(events)] == ["unseen"] * 4
    plain = filtered_image((32, 32), "unseen").tobytes()
    assert {frame.image.tobytes() for frame in frames(events)} == {plain}
    assert "the filter for sexual pictures failed" in caplog.text


def test_leaving_a_screened_story_frees_the_model(small_model: Model, story: Story, tmp_path: Path):
    events = filter_events(generate(small_model, story, SHARED), screen_of(tmp_path / "net", NONE))
    next(events)
    assert small_model.lock.locked()
    events.close()
    assert not small_model.lock.locked()


def test_a_stopped_story_keeps_what_was_looked_at(small_model: Model, story: Story, tmp_path: Path):
    stop = threading.Event()
    events = []
    for event in filter_events(
        generate(small_model, story, SHARED, stop), screen_of(tmp_path / "net", EVERY)
    ):
        events.append(event)
        if isinstance(event, FrameDone):
            stop.set()
    assert isinstance(events[-1], Cancelled)
    assert [frame.filtered for frame in frames(events)] == ["sexual"]


# -- what stands in a picture's place ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1024, 1024), (256, 256), (64, 64), (1024, 256), (128, 512)])
@pytest.mark.parametrize("why", ["sexual", "unseen"])
def test_the_plain_picture_has_the_size_and_its_words_are_whole(size: tuple[int, int], why: str):
    picture = filtered_image(size, why)
    assert picture.size == size
    assert picture.getpixel((0, 0)) == tuple(bytes.fromhex(PAPER[1:]))
    box = Image.eval(picture.convert("L"), lambda value: 255 * (value < 128)).getbbox()
    assert box is not None, "there are words"
    assert 0 < box[0] < box[2] < size[0], "no line runs over the edge"
    assert 0 < box[1] < box[3] < size[1]


def test_ink_and_paper_have_contrast_enough():
    def luminance(colour: str) -> float:
        parts = [value / 255 for value in bytes.fromhex(colour[1:])]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    assert (luminance(PAPER) + 0.05) / (luminance(INK) + 0.05) > 4.5


# -- fetching, and asking for it ---------------------------------------------------------------------------


def test_the_variable_is_yes_or_no_and_nothing_else():
    for said, wanted in (
        ("1", True),
        ("true", True),
        (" ON ", True),
        ("0", False),
        ("", False),
        ("no", False),
    ):
        assert hides_sexual_pictures({FILTER_VARIABLE: said}) is wanted
    assert hides_sexual_pictures({}) is False
    with pytest.raises(ValueError, match=f"^{FILTER_VARIABLE} must be 1 or 0, got 'please'$"):
        hides_sexual_pictures({FILTER_VARIABLE: "please"})


def test_the_weights_are_fetched_by_a_command_and_are_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The command itself, against a server that speaks as much of the hub as it needs."""
    with serving(SEXUAL_PICTURES, save_classifier(tmp_path / "theirs", EVERY), monkeypatch) as hub:
        command = [sys.executable, "-m", "consistory_svd", "fetch", "picture-filter", "--cache"]
        known = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(HOUSE)}
        done = subprocess.run(
            [*command, str(tmp_path / "cache")],
            env={**os.environ, **known},
            capture_output=True,
            text=True,
            check=False,
        )
        asked = set(hub.asked)
    assert done.returncode == 0, done.stderr
    assert f"The content filter, {SEXUAL_PICTURES}: is here" in done.stderr
    assert asked == {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert load_content_filter(cache=tmp_path / "cache").is_sexual(noise(1))


def test_fetch_refuses_what_the_filter_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture):
    common = ["fetch", "picture-filter", "--cache", str(tmp_path)]
    for arguments, said in (
        (
            [*common, "--model", "someone/else"],
            "error: model must be left out; picture-filter is",
        ),
        ([*common, "--url", "http://127.0.0.1:9"], "error: url must be left out"),
        (
            ["fetch", "nonsense"],
            "error: what must be one of dreamsim, clip, dino, picture-f",
        ),
    ):
        assert run(app, arguments) == 2
        assert capsys.readouterr().err.startswith(said)


def test_the_command_line_withholds_too(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    out = tmp_path / "told"
    scenes = ("--scene", "in the forest", "--scene", "on the beach")
    flags = ["generate", "--subject", "a cat", *scenes, "--steps", "2", "--out", str(out)]
    flags += ["--model", str(tiny_folder), "--device", "cpu", "--hide-sexual-pictures"]
    assert run(app, flags) == 2
    assert FETCH in capsys.readouterr().err
    assert not out.exists()
    keep_in_cache(save_classifier(tmp_path / "net", EVERY), tmp_path / "cache")
    assert run(app, [*flags, "--keep-anchors", str(tmp_path / "anchors")]) == 2
    assert "error: keep-anchors must be left out" in capsys.readouterr().err
    assert run(app, flags) == 0
    assert sorted(path.name for path in out.iterdir()) == ["frame-01.png", "frame-02.png", "story.json"]
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            assert image.tobytes() == filtered_image((32, 32), "sexual").tobytes()
    assert read_story_json(out).filtered == ("sexual", "sexual")
    assert "note: frame-02.png: The filter for sexual pictures took" in capsys.readouterr().err


# -- a told story that is scored -----------------------------------------------------------------------------


def test_scoring_a_folder_leaves_withheld_pictures_out_and_says_so(
    tmp_path: Path, story: Story, caplog: pytest.LogCaptureFixture
):
    names = [f"frame-{k}.png" for k in range(1, 5)]
    masks = [f"mask-{k}.png" for k in (1, 3, 4)]
    for k, name in enumerate(names):
        noise(k).save(tmp_path / name)
    for name in masks:
        Image.new("L", (48, 40), 255).save(tmp_path / name)
    write_story_json(tmp_path, story, SHARED, "net", names, masks, filtered=["", "sexual", "", ""])
    assert read_story_json(tmp_path).filtered == ("", "sexual", "", "")
    with caplog.at_level(logging.WARNING):
        known = read_folder(tmp_path)
    assert known.prompts == tuple(story.prompts[k] for k in (0, 2, 3))
    assert [image.tobytes() for image in known.images] == [noise(k).tobytes() for k in (0, 2, 3)]
    assert all(known.masks)
    assert "1 filtered" in caplog.text
    write_story_json(tmp_path, story, SHARED, "net", names)
    assert "withheld" not in json.loads((tmp_path / "story.json").read_text())["frames"][0]
