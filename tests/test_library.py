"""The library on disk: what is kept, how it is found again, and what is wrong with what cannot be read."""

import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

import app as studio_app
from consistory_svd.cli.options import run
from consistory_svd.library import (
    ORDERS,
    VARIABLE,
    Headline,
    Library,
    default_folder,
    found,
    keep_scores,
    look_at,
    open_library,
    ordered,
)
from consistory_svd.metadata import save_frame, write_story_json
from consistory_svd.metrics.report import as_json, from_json
from consistory_svd.metrics.result import MissingScore, Result
from consistory_svd.presets import PRESETS, preset_of
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Story
from consistory_svd.studio.tabs.story import StoryTab
from consistory_svd.thumbnails import UNREADABLE, cover, thumbnail
from tests.test_studio import form
from tests.visitors import ANN, BEN, library_of

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


def result(value: float, name: str = "DreamSim", better: str = "lower") -> Result:
    rows = ((0.0, value), (value, 0.0))
    return Result(name, value, "distance", better, "net", "pairs", (value,) * 2, rows, (("a", "b", "c"),))


def score(folder: Path, *results: Result | MissingScore) -> None:
    keep_scores(folder, look_at(folder).pictures, as_json(results))


def names(stories) -> list[str]:
    return [story.name for story in stories]


# -- what is kept ----------------------------------------------------------------------------------------


def test_a_story_is_found_again_by_another_library_on_the_same_folder(library: Library):
    folder = keep(library)
    (story,) = Library(library.root).stories()
    assert story.folder == folder
    assert (story.title, story.scenes, story.problem) == ("a cat", CAT.scene_texts, "")
    assert story.record.settings == SETTINGS
    assert [path.name for path in story.pictures] == ["frame-01.png", "frame-02.png"]
    assert [mask.name for mask in story.masks] == ["mask-01.png", "mask-02.png"]
    assert abs((datetime.now() - story.generated).total_seconds()) < 60


def test_folders_are_readable_and_never_shared(library: Library):
    made = [library.new("A Fluffy  Café-cat/../x") for _ in range(3)]
    assert len(set(made)) == 3
    assert all(folder.parent == library.root for folder in made)
    assert "a-fluffy-cafe-cat-x" in made[0].name
    assert "story" in library.new("猫").name


def test_a_story_without_a_picture_yet_is_not_listed(library: Library):
    library.new("a cat")
    assert library.stories() == []


def test_the_folder_is_read_anew_each_time(library: Library):
    folder = keep(library)
    assert len(library.get(folder.name).pictures) == 2
    longer = replace(CAT, scenes=(*CAT.scenes, "in the snow"))
    Image.new("RGB", (64, 48)).save(folder / "frame-03.png")
    write_story_json(folder, longer, SETTINGS, "a model", [f"frame-0{k}.png" for k in (1, 2, 3)])
    assert library.get(folder.name).scenes[-1] == "in the snow"
    write_story_json(folder, longer, SETTINGS, "a model", ["frame-01.png", "frame-03.png"], frames=[0, 2])
    assert library.get(folder.name).scenes == ("in the forest", "in the snow")


# -- what cannot be read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "story.json").unlink(), "has no story.json"),
        (lambda folder: (folder / "story.json").write_text('{"version": 1, "mod'), "is not valid JSON"),
        (lambda folder: (folder / "story.json").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        (lambda folder: (folder / "story.json").write_text("[]"), "must hold a JSON object"),
        (lambda folder: change(folder, story={"subject": 3, "scenes": ["x"]}), "subject"),
        (lambda folder: change(folder, settings={"steps": "many"}), "steps"),
        (lambda folder: change(folder, masks=7), "cannot be read"),
        (lambda folder: change(folder, frames=[{"picture": "../../secret.png"}]), "secret.png"),
        (lambda folder: [path.unlink() for path in folder.glob("frame-*")], "2 of 2 pictures"),
    ],
)
def test_a_broken_folder_is_listed_with_what_is_wrong(library: Library, spoil, words: str):
    keep(library)
    broken = keep(library)
    spoil(broken)
    by_name = {story.name: story for story in library.stories()}
    assert len(by_name) == 2
    assert by_name[broken.name].record is None
    assert words in by_name[broken.name].problem
    assert str(library.root) not in by_name[broken.name].problem
    assert ordered(library.stories(), ORDERS[2])[-1].name == broken.name


def change(folder: Path, **values: object) -> None:
    path = folder / "story.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_story_that_lost_a_picture_keeps_the_others(library: Library):
    folder = keep(library)
    (folder / "frame-01.png").unlink()
    story = library.get(folder.name)
    assert story.scenes == ("on the beach",)
    assert "1 of 2 pictures" in story.problem


def test_links_are_not_followed(library: Library, tmp_path: Path):
    outside = Library(tmp_path / "elsewhere")
    secret = keep(outside)
    (library.root / "2026-01-01-000000-link").symlink_to(secret)
    folder = keep(library)
    (folder / "frame-01.png").unlink()
    (folder / "frame-01.png").symlink_to(secret / "frame-01.png")
    (folder / "inside").symlink_to(secret)
    by_name = {story.name: story for story in library.stories()}
    assert "link" in by_name["2026-01-01-000000-link"].problem
    assert len(by_name[folder.name].pictures) == 1
    with pytest.raises(ValueError, match="not in the library"):
        library.delete("2026-01-01-000000-link")
    library.delete(folder.name)
    assert not folder.exists()
    assert (secret / "frame-01.png").is_file()


# -- deleting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["..", ".", "", "../elsewhere", "/", "nothing", "a/b", None])
def test_only_stories_of_the_library_can_be_named(library: Library, tmp_path: Path, name: str):
    keep(Library(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="is not in the library"):
        library.delete(name)
    assert library.root.is_dir()


def test_folders_that_the_library_did_not_make_are_shown_and_stay(library: Library):
    foreign = keep(library, name="my holiday")
    (story,) = library.stories()
    assert story.title == "a cat"
    with pytest.raises(ValueError, match="was not made by the library"):
        library.delete("my holiday")
    assert (foreign / "frame-01.png").is_file()


# -- finding and sorting ---------------------------------------------------------------------------------


def test_stories_are_found_by_what_they_say(library: Library):
    keep(library)
    fox = Story("a red Fox", ("in a library",), style="a watercolor of")
    keep(library, fox, replace(PRESETS["svd-energy"], anchors=1))
    everything = library.stories()

    def titles(words: str) -> set[str]:
        return {story.title for story in found(everything, words)}

    assert titles("") == {"a cat", "a red Fox"}
    assert titles("fox") == titles("WATERCOLOR library") == {"a red Fox"}
    assert titles("beach") == {"a cat"}
    assert titles("beach fox") == set()


def test_stories_are_sorted(library: Library):
    kept = {}
    for day, subject in ((1, "a zebra"), (2, "an ape"), (3, "a Cat")):
        kept[subject] = keep(library, Story(subject, ("x",)), name=f"2026-01-0{day}-101010-s")
    score(kept["a zebra"], result(0.2))
    score(kept["a Cat"], result(0.4))
    score(kept["an ape"], result(0.9, "Identity agreement by the storybook reader", "higher"))
    (library.root / "2026-01-09-101010-broken").mkdir()
    (library.root / "2026-01-09-101010-broken" / "story.json").write_text("{")

    def titles(order: str) -> list[str]:
        return [story.title for story in ordered(library.stories(), order) if story.record]

    assert titles("Newest first") == ["a Cat", "an ape", "a zebra"]
    assert titles("Oldest first") == ["a zebra", "an ape", "a Cat"]
    assert titles("Subject, A to Z") == ["a Cat", "a zebra", "an ape"]
    assert titles("Most alike first") == ["a zebra", "a Cat", "an ape"]
    with pytest.raises(ValueError, match=r"^sort must be one of .*, got 'x'$"):
        ordered([], "x")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_known_whatever_the_sampling(name: str):
    assert preset_of(replace(PRESETS[name], steps=7, guidance=2.0, height=512, batch=1)) == name
    changed = preset_of(replace(PRESETS[name], k_filter=SVDFilter("count", 3)))
    assert changed == ("custom" if PRESETS[name].sdsa else name), "filters have no effect without sharing"


# -- scores and thumbnails -------------------------------------------------------------------------------


def test_scores_are_kept_and_belong_to_their_pictures(library: Library):
    folder = keep(library)
    assert look_at(folder).scores is None
    entries = [result(0.25), MissingScore("CLIPScore", "it has no weights", "Fetch them.", "clip")]
    score(folder, *entries)
    story = look_at(folder)
    assert story.headline == Headline("DreamSim", 0.25, "lower")
    assert from_json(story.scores) == entries
    Image.new("RGB", (300, 300), "red").save(folder / "frame-01.png")  # told anew
    assert look_at(folder).scores is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"scores": [{"name": "DreamSim"}], "pictures": []}'])
def test_broken_scores_are_none(library: Library, text: str):
    folder = keep(library)
    (folder / "scores.json").write_text(text)
    assert look_at(folder).headline is None


def test_thumbnails_follow_their_pictures(library: Library):
    folder = keep(library)
    story = look_at(folder)
    small = thumbnail(story.pictures[0])
    sheet = cover(story)
    with Image.open(small) as image, Image.open(sheet) as page:
        assert image.format == page.format == "WEBP"
        assert max(image.size) <= 256
        assert page.size == (480, 320)
        assert page.getpixel((100, 100))[0] < page.getpixel((400, 100))[0]  # the first, and the second
    before = sheet.stat().st_mtime_ns
    assert cover(story).stat().st_mtime_ns == before
    Image.new("RGB", (500, 500), "red").save(story.pictures[0])
    with Image.open(thumbnail(story.pictures[0])) as image:
        assert image.getpixel((9, 9))[0] > 200
    assert cover(story).stat().st_mtime_ns > before
    story.pictures[0].write_bytes(b"no picture")
    with pytest.raises(UNREADABLE):
        thumbnail(story.pictures[0])


# -- where the library is --------------------------------------------------------------------------------


def test_the_folder_is_the_variables_or_among_the_users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
    assert open_library().root == tmp_path / "mine"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_folder() == tmp_path / "data" / "consistory-svd" / "library"


def test_a_folder_that_cannot_be_written_is_told_and_stories_are_kept_elsewhere(tmp_path: Path):
    (tmp_path / "file").write_text("")
    library = open_library(tmp_path / "file")
    assert str(tmp_path / "file") in library.note
    assert "--library" in library.note
    assert look_at(keep(library)).pictures


def test_strangers_have_libraries_of_their_own_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    called: dict[str, Any] = {}
    monkeypatch.setattr("consistory_svd.studio.create_demo", lambda model, **given: None)
    monkeypatch.setattr("consistory_svd.studio.launch", lambda demo, **given: called.update(given))
    monkeypatch.delenv("SPACE_ID", raising=False)

    def library_for(*flags: str) -> Library | None:
        assert run(studio_app.app, list(flags)) == 0
        return called["library"]

    folder = ("--library", str(tmp_path))
    assert library_for(*folder).root == tmp_path
    assert library_for(*folder, "--common-stories", "--host", "0.0.0.0").root == tmp_path
    assert library_for("--private-stories") is None
    for public in (("--share",), ("--host", "0.0.0.0")):
        assert library_for(*public) is None
        assert run(studio_app.app, [*folder, *public]) == 2
        assert "--common-stories" in capsys.readouterr().err
    monkeypatch.setenv("SPACE_ID", "x")
    assert library_for() is None


# -- the studio keeps what it tells ----------------------------------------------------------------------


def listed(story_tab: StoryTab, visitor: gr.Request, words: str = "") -> list[str]:
    return library_of(story_tab).shelf(words, ORDERS[0], 24, visitor)[1]


def test_every_story_told_is_kept_with_masks_and_scores(common: StoryTab, library: Library):
    for seed in (1, 2):
        list(common.generate(ANN, **form(seed=seed)))
    list(common.scores.score("ensemble", "noise", ANN))
    common.services.leave(ANN)
    latest, first = library.stories()
    assert [story.record.story.seed for story in (latest, first)] == [2, 1]
    assert len(latest.pictures) == len(latest.record.masks) == 3
    assert all(latest.masks)
    assert latest.scores is not None
    assert latest.scores["absent"]
    assert first.scores is None


def test_a_cancelled_story_is_kept_if_it_has_a_picture(common: StoryTab, library: Library):
    generation = common.generate(ANN, **form(steps=200))
    next(None for _ in generation if len(common.services.sessions.story_of(ANN).pictures) == 1)
    assert len(library.stories()[0].pictures) == 1  # already: the app may end at any time
    list(common.cancel(ANN))
    (story,) = library.stories()
    assert len(story.pictures) == 1
    generation = common.generate(BEN, **form(steps=200))
    next(update for update in generation if "step " in update.get(common.status, ""))
    list(common.cancel(BEN))
    assert common.services.sessions.of(BEN).job.join(120)
    assert len(list(library.root.iterdir())) == 1


def test_visitors_of_a_shared_demo_see_their_own_stories_alone(story_tab: StoryTab):
    for visitor, subject in ((ANN, "a cat"), (BEN, "a fox")):
        list(story_tab.generate(visitor, **form(subject=subject, concept="")))
    (cat,), (fox,) = listed(story_tab, ANN), listed(story_tab, BEN)
    assert "cat" in cat
    assert "fox" in fox
    room = library_of(story_tab)
    assert "is not in the library" in room.look(fox, ANN)[1]
    assert "is not in the library" in room.delete(fox, ANN)[1]
    assert "is not in the library" in room.open(fox, ANN)[room.message]
    with pytest.raises(ValueError, match="not in the library"):
        room.folder(ANN, fox)
    folder = room.folder(ANN, cat)
    story_tab.services.leave(ANN)
    assert not folder.exists()
    assert listed(story_tab, ANN) == []
    assert listed(story_tab, BEN) == [fox]


def test_a_visitor_who_leaves_while_a_story_is_told_leaves_nothing(story_tab: StoryTab):
    list(story_tab.generate(ANN, **form()))
    generation = story_tab.generate(ANN, **form(steps=200))
    next(None for _ in generation if len(story_tab.services.sessions.story_of(ANN).pictures) == 1)
    run = story_tab.services.sessions.of(ANN).job
    story_tab.services.leave(ANN)
    assert run.join(120)
    assert run.progress.state == "stopped"
    assert [path.name for path in run.request.folder.parent.glob("*")] == []


def test_a_kept_story_is_opened_with_everything(common: StoryTab, library: Library):
    settings = replace(PRESETS["svd-quantile"], steps=9, anchors=1)
    folder = keep(library, replace(CAT, negative="fog"), settings)
    score(folder, result(0.25))
    room = library_of(common)
    opened = room.open(folder.name, ANN)
    assert (opened[room.message], opened[common.masks], opened[common.suggested]) == ("", False, "cat")
    assert "Opened from the library" in opened[common.status]
    assert [caption for _, caption in opened[common.pictures]] == list(CAT.scene_texts)
    assert "0.250" in opened[common.scores.card]
    assert opened[common.method.svd_filter.group]["open"]
    filled = [opened[common.form[name]] for name in ("negative", "steps", "k_keep", "k_quantile")]
    assert filled == ["fog", 9, "quantile", 0.05]
    shown = common.show_masks(True, ANN)
    assert all("marked" in path and Path(path).is_file() for path, _ in shown)


def test_deleting_asks_first_and_spares_a_story_that_is_told(common: StoryTab, library: Library):
    room = library_of(common)
    folder = keep(library)
    question, part = room.ask(folder.name, ANN)
    assert "a cat" in question
    assert part["visible"]
    assert folder.exists()
    assert "is deleted" in room.delete(folder.name, ANN)[1]
    assert not folder.exists()
    generation = common.generate(ANN, **form(steps=200))
    next(None for _ in generation if len(common.services.sessions.story_of(ANN).pictures) == 1)
    (running,) = library.stories()
    assert "still being told" in room.delete(running.name, BEN)[1]
    assert "still being generated" in room.open(running.name, ANN)[room.message]
    assert running.folder.is_dir()


def test_stories_stand_side_by_side(common: StoryTab, library: Library):
    one = keep(library)
    two = keep(library, replace(CAT, scenes=("on the beach", "in <b>snow</b>")), replace(SETTINGS, steps=9))
    score(one, result(0.25))
    room = library_of(common)
    html = room.compare([one.name, two.name], ANN)
    assert html.count("<img") == 4
    assert html.index("in the forest") < html.index("on the beach") < html.index("&lt;b&gt;snow")
    assert "Steps: 4" in html
    assert "Steps: 9" in html
    assert "Guidance" not in html
    assert "0.250" in html
    assert "Not scored" in html
    for few in ([], [one.name], [one.name] * 5):
        assert "choose 2 to 4" in room.compare(few, ANN)
    assert "not in the library" in room.compare([one.name, "gone"], ANN)


def test_a_broken_story_can_be_looked_at_but_not_opened(common: StoryTab, library: Library):
    folder = keep(library)
    (folder / "story.json").write_text("{")
    room = library_of(common)
    look = room.look(folder.name, ANN)
    assert "cannot be read" in look[2]
    assert "no images to open" in room.open(folder.name, ANN)[room.message]
    assert listed(common, ANN) == [folder.name]
    (value, *_) = room.shelf("", ORDERS[0], 24, ANN)
    assert isinstance(value["value"][0][0], Image.Image)
