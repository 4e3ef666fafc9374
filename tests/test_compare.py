"""The Compare room without a browser: what differs, the thesis' figures, the run, the grid as a picture."""

import errno
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.downloads import CACHE_VARIABLE
from consistory_svd.limits import Limits
from consistory_svd.metadata import read_frame
from consistory_svd.metrics.result import MissingScore, Result
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.presets import PRESETS, describe, differences
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Story
from consistory_svd.studio import compare_html as compare_view
from consistory_svd.studio.comparison import Comparison, Generation, Snapshot, compared
from consistory_svd.studio.comparison_image import GridRow, cell_box, cell_size, draw_grid, first_row
from consistory_svd.studio.comparison_rows import RECIPES, Row, chosen_rows, in_story, recipe
from consistory_svd.studio.generated_story import Picture
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import Progress
from consistory_svd.studio.services import Services
from consistory_svd.studio.tabs import compare as compare_tab
from consistory_svd.studio.tabs.compare import CURRENT, NOTHING, Comparing, lay_out, save_grid
from tests.test_studio import form
from tests.visitors import ANN, BEN

STORY = Story("a cat", ("in the forest", "on the beach"))
QUICK = Settings(steps=2, batch=1)
PLAIN = Row("plain", PRESETS["plain"])
SDSA = Row("sdsa", PRESETS["sdsa"])
SECONDS = 120.0


def words(*settings: Settings) -> list[tuple[str, ...]]:
    return list(differences(settings))


# -- what differs ----------------------------------------------------------------------------------------


def test_only_what_differs_and_has_an_effect_is_named():
    assert words(PRESETS["plain"], PRESETS["sdsa"]) == [("SDSA off",), ("SDSA on",)]
    assert words(Settings(), replace(Settings(), masking=False)) == [("masking on",), ("masking off",)]
    assert words(Settings(), replace(Settings(), mask_dropout=0.0)) == [
        ("mask dropout 0.5",),
        ("mask dropout 0",),
    ]
    assert words(Settings(), Settings()) == [(), ()]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (PRESETS["svd-ours"], "Ours: SVD energy, same noise"),
        (replace(PRESETS["consistory"], mask_dropout=0.2), "ConsiStory, mask dropout 0.2"),
        (replace(PRESETS["plain"], mask_dropout=0.2, anchors=1), "Plain"),  # neither has an effect
        (replace(PRESETS["sdsa"], masking=False), "Shared attention, masking off"),
        (
            replace(PRESETS["svd-log"], k_filter=SVDFilter("count", 4), v_filter=SVDFilter("count", 4)),
            "SVD quantile, K and V count 4",
        ),
        (replace(PRESETS["svd-energy"], k_filter=SVDFilter()), "SVD energy, K not filtered"),
        (
            replace(
                PRESETS["svd-energy"], k_filter=SVDFilter("energy", 0.9), v_filter=SVDFilter("energy", 0.9)
            ),
            "SVD energy, K and V energy 0.9",
        ),
        (
            replace(PRESETS["consistory"], anchors=1, mask_dropout=0.1, freeu=True, same_latent=True),
            "custom",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_are_described_by_the_closest_preset(settings: Settings, said: str):
    assert describe(settings) == said
    assert describe(replace(settings, steps=7, guidance=2.0, height=512, batch=1)) == said


def test_filters_are_named_by_their_matrix():
    some = SVDFilter("quantile", 0.05)
    base = replace(Settings(), masking=False)
    keys, both = replace(base, k_filter=some), replace(base, k_filter=some, v_filter=some)
    assert words(base, both) == [("K and V not filtered",), ("K and V quantile 0.05",)]
    assert words(base, keys) == [("K not filtered",), ("K quantile 0.05",)]
    assert words(keys, both) == [("V not filtered",), ("V quantile 0.05",)]
    assert words(both, PRESETS["svd-log"])[1] == ("query blending on", "K and V all, log")


def test_masks_of_a_row_that_shares_nothing_are_not_named():
    rows = words(PRESETS["plain"], replace(Settings(), masking=False), Settings())
    assert rows == [("SDSA off",), ("SDSA on", "masking off"), ("SDSA on", "masking on")]


# -- rows ------------------------------------------------------------------------------------------------


def test_a_row_takes_the_method_from_its_setting_and_all_else_from_the_story():
    shared = Settings(steps=12, guidance=3.0, height=96, freeu=True, anchors=4)
    generated = in_story(Row("svd-quantile", PRESETS["svd-quantile"]), STORY, shared).settings
    assert (generated.steps, generated.guidance, generated.height) == (12, 3.0, 96)
    assert (generated.masking, generated.k_filter, generated.freeu) == (
        False,
        SVDFilter("quantile", 0.05),
        False,
    )
    one = Story("a cat", ("in the forest",))
    assert in_story(SDSA, one, shared).settings.anchors == 1


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["plain"], "settings: 1 are chosen; give 2 to 4"),
        (["plain"] * 5, "settings: 5 are chosen"),
        (["plain", "plain"], "settings: 'plain' is chosen more than once"),
        (["plain", "best"], "settings: 'best' is not known; give plain, sdsa"),
    ],
)
def test_wrong_rows_are_refused(names: list[str], said: str):
    with pytest.raises(ValueError, match=said):
        chosen_rows(names, QUICK, CURRENT)


def test_rows_are_presets_and_what_the_story_room_has():
    rows = chosen_rows(["sdsa", CURRENT], QUICK, CURRENT)
    assert [row.settings for row in rows] == [PRESETS["sdsa"], QUICK]


def test_every_row_is_held_to_the_limits_and_to_the_story():
    with pytest.raises(ValueError, match="steps must be at most 10 in this studio, got 20"):
        compared(STORY, replace(QUICK, steps=20), [PLAIN, SDSA], Limits(steps=10))
    with pytest.raises(ValueError, match="random_anchors must be off in a story of one scene"):
        compared(
            Story("a cat", ("in the forest",)),
            QUICK,
            [PLAIN, Row("random", replace(Settings(), random_anchors=True))],
            Limits(),
        )


@pytest.mark.parametrize("item", RECIPES, ids=lambda item: item.key)
def test_every_figure_has_rows_that_differ_and_fit_a_story(item):
    assert recipe(item.key) is item
    assert item.look.endswith("?")
    generated = compared(STORY, QUICK, item.rows, Limits())
    assert len({row.settings for row in generated}) == len(item.rows) >= 2
    assert all(differences([row.settings for row in generated]))


def test_the_figures_are_those_of_the_thesis():
    leakage, mask, filters = RECIPES
    assert [row.settings.sdsa for row in leakage.rows] == [False, True]
    assert leakage.rows[1].settings.masking is False
    assert [row.settings.masking for row in mask.rows[1:]] == [False, True]
    assert all(row.settings.sdsa and not row.settings.masking for row in filters.rows)
    assert [(row.settings.k_filter.keep, row.settings.k_filter.reweight) for row in filters.rows] == [
        ("all", "none"),
        ("quantile", "none"),
        ("energy", "none"),
        ("all", "log"),
        ("all", "log2"),
    ]
    with pytest.raises(ValueError, match=r"recipe: '9\.9' is not known"):
        recipe("9.9")


# -- the run ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manager(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelManager]:
    os.environ[CACHE_VARIABLE] = str(tmp_path_factory.mktemp("no weights"))
    manager = ModelManager(str(tiny_folder), "cpu")
    manager.start()
    assert manager.wait(SECONDS)
    yield manager
    del os.environ[CACHE_VARIABLE]


def comparison(manager: ModelManager, folder: Path, *rows: Row, **shared: object) -> Comparison:
    generated = compared(STORY, replace(QUICK, **shared), rows, Limits())

    def new_folder(name: str) -> Path:
        (made := folder / name).mkdir(exist_ok=True)
        return made

    return Comparison(manager, STORY, generated, new_folder, ScoreSettings())


def test_rows_come_one_by_one_with_the_same_seeds_and_their_scores(manager: ModelManager, tmp_path: Path):
    # Long enough for each picture to be seen alone: snapshots that come too fast are passed over.
    seen = list(comparison(manager, tmp_path, PLAIN, SDSA, steps=20).watch())
    counts = [
        [len(t.progress.pictures) if t.progress else 0 for t in snapshot.generations] for snapshot in seen
    ]
    assert [1, 0] in counts, "a row's first picture comes before its second"
    assert [2, 1] in counts
    assert all(first == 2 or second == 0 for first, second in counts)
    shares = [snapshot.share for snapshot in seen]
    assert shares == sorted(shares)
    last = seen[-1]
    assert last.over
    assert last.share == 1.0
    assert [snapshot.over for snapshot in seen[:-1]] == [False] * (len(seen) - 1)
    records = [[read_frame(picture.path) for picture in t.progress.pictures] for t in last.generations]
    assert [r.seed for r in records[0]] == [r.seed for r in records[1]] == list(STORY.frame_seeds)
    assert [r[0].settings.sdsa for r in records] == [False, True]
    assert all(any(isinstance(entry, MissingScore) for entry in t.entries) for t in last.generations)
    assert len(manager.queue) == 0


def test_a_comparison_that_is_stopped_between_two_rows_tells_no_more(manager: ModelManager, tmp_path: Path):
    def new_folder(name: str) -> Path:
        if name == "sdsa":
            run.stop()
        (made := tmp_path / name).mkdir()
        return made

    generated = compared(STORY, replace(QUICK, steps=20), (PLAIN, SDSA), Limits())
    run = Comparison(manager, STORY, generated, new_folder, ScoreSettings())
    *_, last = run.watch()
    assert [len(generation.progress.pictures) for generation in last.generations] == [2, 0]
    assert last.stopped
    run.join(SECONDS)
    assert [len(generation.progress.pictures) for generation in run.snapshot.generations] == [2, 0]


def test_a_stopped_comparison_ends_within_two_steps_and_keeps_its_pictures(
    manager: ModelManager, tmp_path: Path
):
    run = comparison(manager, tmp_path, PLAIN, SDSA, steps=200)
    snapshots = run.watch()
    next(s for s in snapshots if s.pictures == 1 and s.current.step >= 3 and s.current.step < 50)
    run.stop()
    at = run.snapshot.current.step
    *_, last = snapshots
    assert last.stopped
    assert last.over
    assert (last.pictures, last.at) == (1, 0)
    assert last.current.step <= at + 3
    assert "Stopped. 1 picture made and kept." in compare_view.status(last)
    assert manager.model.lock.acquire(timeout=SECONDS)
    manager.model.lock.release()


def test_an_abandoned_comparison_frees_the_model(manager: ModelManager, tmp_path: Path):
    snapshots = comparison(manager, tmp_path, PLAIN, SDSA, steps=200).watch()
    next(s for s in snapshots if s.current and s.current.step >= 2)
    snapshots.close()
    assert manager.model.lock.acquire(timeout=SECONDS)
    manager.model.lock.release()


def test_a_row_that_fails_says_why_and_rows_before_it_stay(manager: ModelManager, tmp_path: Path):
    (tmp_path / "sdsa" / "mask-01.png").mkdir(parents=True)  # the picture's mask cannot be written there
    *_, last = comparison(manager, tmp_path, PLAIN, SDSA).watch()
    assert last.generations[0].entries is not None
    assert last.current.state == "failed"
    assert "mask-01.png" in compare_view.status(last)
    assert "2 pictures made and kept." in compare_view.status(last)


# -- the room --------------------------------------------------------------------------------------------


@pytest.fixture
def room(manager: ModelManager) -> Iterator[Comparing]:
    with gr.Blocks(), gr.Tabs() as rooms:
        widgets = lay_out(rooms)
    comparing = Comparing(Services(manager, Limits(frames=3)), widgets)
    yield comparing
    for visitor in (ANN, BEN):
        comparing.services.leave(visitor)


HOW = (ScoreSettings.backbone, ScoreSettings.fill)


def start(room: Comparing, visitor: gr.Request, *rows: str, **changes: object) -> Iterator[tuple]:
    given = (*rows, *[NOTHING] * (4 - len(rows)))
    return room.compare(visitor, None, given, HOW, **form(**changes))


def test_the_room_streams_grids_and_offers_the_picture_at_the_end(room: Comparing):
    updates = list(start(room, ANN, "plain", CURRENT))
    assert all(len(update) == len(room._room.shown) for update in updates)
    grids = [update[2] for update in updates if isinstance(update[2], str) and update[2]]
    assert [grid.count("<img") for grid in grids] == sorted(grid.count("<img") for grid in grids)
    assert grids[-1].count("<img") == 6
    assert "gradio_api/file=" in grids[-1]
    _, status, _, download, cancel, go, *_ = updates[-1]
    assert "6 pictures in " in status
    assert Path(download["value"]).is_file()
    assert (cancel["interactive"], go["interactive"]) == (False, True)


def test_a_wrong_form_is_refused_by_the_names_on_the_page(room: Comparing):
    for rows, changes, said in (
        (("plain", CURRENT), {"subject": ""}, "Subject must be"),
        (("plain", CURRENT), {"scenes": "a\nb\nc\nd"}, "Scenes must be at most 3 in this studio, got 4"),
        (("plain",), {}, "ettings: 1 are chosen"),
    ):
        updates = start(room, ANN, *rows, **changes)
        assert said in next(updates)[1]
        with pytest.raises(gr.Error, match=said):
            next(updates)


def test_cancelling_keeps_what_is_made_and_frees_the_model(room: Comparing, manager: ModelManager):
    going = start(room, ANN, "plain", "sdsa", steps=200)
    next(update for update in going if isinstance(update[2], str) and "<img" in update[2])
    *_, last = room.cancel(ANN)
    kept = int(re.search(r"Stopped\. (\d) pictures? made and kept\.", last[1]).group(1))
    assert 1 <= kept < 6
    assert last[2].count("<img") == kept
    assert last[2].count("not drawn") == 6 - kept
    assert "not yet" not in last[2]
    assert manager.model.lock.acquire(timeout=SECONDS)
    manager.model.lock.release()


def test_a_comparison_that_is_cancelled_before_its_first_row_says_so(room: Comparing):
    going = start(room, ANN, "plain", "sdsa")
    next(going)
    *_, cancelled = room.cancel(ANN)
    *_, last = going
    for update in (cancelled, last):
        assert "Stopped." in update[1]
        assert update[5]["interactive"]


def test_what_cancels_and_what_watches_offer_the_same_picture(room: Comparing):
    going = start(room, ANN, "plain", "sdsa", steps=200)
    next(update for update in going if isinstance(update[2], str) and "<img" in update[2])
    with ThreadPoolExecutor(2) as both:
        last = list(both.map(lambda updates: list(updates)[-1], (room.cancel(ANN), going)))
    offered = {update[3]["value"] for update in last}
    assert len(offered) == 1
    with Image.open(offered.pop()) as image:
        image.load()


def test_where_no_picture_can_be_made_the_button_says_why(room: Comparing, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments: object) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(compare_tab, "save_grid", full)
    *_, last = start(room, ANN, "plain", CURRENT)
    assert "6 pictures in " in last[1]
    assert (last[3]["value"], last[3]["interactive"]) == (None, False)
    assert last[3]["label"] == "No picture to download: No space left on device"
    assert last[5]["interactive"]
    monkeypatch.undo()
    *_, last = start(room, ANN, "plain", CURRENT)
    assert (last[3]["label"], last[3]["interactive"]) == (compare_tab.DOWNLOAD, True)


def test_two_visitors_have_their_own_comparisons(room: Comparing):
    first = list(start(room, ANN, "plain", "sdsa", subject="a cat"))[-1]
    second = list(start(room, BEN, "plain", "sdsa", subject="an owl", concept="owl"))[-1]
    assert "<caption>a cat:" in first[2]
    assert "<caption>an owl:" in second[2]
    room.services.leave(ANN)
    assert not Path(first[3]["value"]).exists()
    assert Path(second[3]["value"]).exists()


def test_the_rooms_story_is_said_or_why_there_is_none(room: Comparing):
    assert "a photo of a cat, 3 scenes, seed 0, 2 steps." in room.summarise(**form())
    assert "Subject must be" in room.summarise(**form(subject=""))


# -- what the page shows ---------------------------------------------------------------------------------


def result(value: float, better: str = "higher", name: str = "DreamSim") -> Result:
    return Result(name, value, "unit", better, "net", "pairs")


def generated(row: Row, count: int, *entries: Result | MissingScore) -> Generation:
    pictures = tuple(Picture(Path(f"{row.name}-{k}.png"), k, "prompt", "scene") for k in range(count))
    return Generation(
        row, ("masking <off>",), Progress("done", 2, share=1.0, pictures=pictures), entries or None
    )


def test_a_story_of_one_scene_is_compared_and_says_so(room: Comparing):
    said = room.summarise(**form(scenes="in the snow", anchors=2))
    assert "1 scene, seed 0" in said
    assert "1 anchor, because the story has 1 scene." in said


def test_the_grid_has_a_row_a_setting_and_a_column_a_scene():
    rows = (
        generated(PLAIN, 2, result(0.2, "lower")),
        generated(Row("<b>", Settings()), 1, result(0.1, "lower")),
    )
    html = compare_view.grid(Snapshot(STORY, rows), lambda path: f"/file/{path.name}")
    assert html.count('scope="col"') == 1 + 2
    assert html.count('scope="row"') == 2
    assert html.count("<img") == 3
    assert "not drawn" in html
    assert 'aria-label="Enlarge plain: in the forest"' in html
    assert "masking &lt;off&gt;" in html
    assert "<b>" not in html
    assert html.count('class="best"') == 1
    assert html.index('class="best"') > html.index("&lt;b&gt;")


def test_the_best_is_marked_by_direction_and_only_where_rows_differ():
    high, low = result(0.7, name="CLIPScore"), result(0.3, "lower")
    worse = [result(0.6, name="CLIPScore"), result(0.4, "lower")]
    assert compare_view.best_values([[high, low], worse]) == {"CLIPScore": 0.7, "DreamSim": 0.3}
    assert compare_view.best_values([[high], [result(0.7001, name="CLIPScore")]]) == {}


def test_a_row_without_scores_says_why():
    html = compare_view.grid(
        Snapshot(STORY, (generated(PLAIN, 2, MissingScore("DreamSim", "it is <gone>")),)), lambda path: ""
    )
    assert "DreamSim unavailable: it is &lt;gone&gt;." in html


def test_the_status_says_row_picture_and_time_left():
    first = Generation(PLAIN, (), Progress("done", 2, share=1.0, seconds=10.0), (result(1.0),))
    second = Generation(SDSA, (), Progress("generating", 2, share=0.5, seconds=5.0))
    said = compare_view.status(Snapshot(STORY, (first, second), at=1))
    assert "Setting 2 of 2, sdsa: picture 1 of 2" in said
    assert "About 5 s left" in said
    assert 'aria-valuenow="75"' in said
    waiting = Generation(SDSA, (), Progress("waiting", 2, jobs_ahead=2, seconds_to_wait=60.0))
    assert "2 other stories are before yours" in compare_view.status(Snapshot(STORY, (first, waiting), at=1))


# -- the grid as a picture -------------------------------------------------------------------------------


def plain_image(color: str, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, color)


def test_notes_are_said_once_and_of_the_rows_they_are_about():
    def row(setting: Row, *notes: str) -> Generation:
        return Generation(
            setting, (), Progress("done", 2, share=1.0, seconds=5.0, notes=notes), (result(1.0),)
        )

    said = compare_view.status(Snapshot(STORY, (row(PLAIN, "the prompt <is> cut"), row(SDSA))))
    assert "Note on plain: the prompt &lt;is&gt; cut." in said
    both = row(PLAIN, "the prompt is cut"), row(SDSA, "the prompt is cut", "memory ran out")
    said = compare_view.status(Snapshot(STORY, both))
    assert said.count("the prompt is cut") == 1
    assert "Note: the prompt is cut. Note on sdsa: memory ran out." in said


def test_every_picture_is_in_its_place_pixel_by_pixel():
    colors = [["red", "green", "blue"], ["cyan", "magenta", "yellow"]]
    rows = [GridRow(f"Row {k}", ("a line",), tuple(map(plain_image, row))) for k, row in enumerate(colors)]
    sheet = draw_grid("", ["a", "b", "c"], rows)
    top = first_row("", [["a"], ["b"], ["c"]])
    for k, row in enumerate(rows):
        for column, picture in enumerate(row.pictures):
            box = cell_box(k, column, (64, 48), top)
            assert sheet.crop(box).tobytes() == picture.tobytes()
    boxes = [cell_box(k, column, (64, 48), top) for k in range(2) for column in range(3)]
    covered = Image.new("L", sheet.size)
    for box in boxes:
        covered.paste(255, box)
    beside = Image.composite(Image.new("RGB", sheet.size, "white"), sheet, covered)
    assert {color for _, color in beside.getcolors(1 << 16) if max(color) - min(color) > 40} == set()


def test_labels_and_captions_are_written_beside_the_pictures():
    empty = draw_grid("", [" "], [GridRow(" ", (), (plain_image("white"),))])
    assert empty.getcolors() == [(empty.width * empty.height, (255, 255, 255))]
    size, top = empty.size, first_row("", [[""]])
    captioned = draw_grid("", ["beach"], [GridRow(" ", (), (plain_image("white"),))])
    box = captioned.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert box[0] >= cell_box(0, 0, (64, 48), top)[0]
    assert box[3] <= top
    labelled = draw_grid("", [" "], [GridRow("Label", ("line",), (plain_image("white"),))])
    box = labelled.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert box[2] <= cell_box(0, 0, (64, 48), top)[0]
    assert captioned.size == labelled.size == size


def test_long_words_wrap_and_missing_pictures_leave_their_place():
    caption = "a very long caption that would never stand in one line above a small picture"
    sheet = draw_grid("Title", [caption, "b"], [GridRow("A", (), (plain_image("red"), None))])
    assert (
        sheet.height > draw_grid("Title", ["a", "b"], [GridRow("A", (), (plain_image("red"), None))]).height
    )
    assert sheet.getpixel((sheet.width - 30, sheet.height - 30)) == (231, 229, 228)


def test_large_pictures_shrink_to_the_cell_and_keep_their_shape():
    rows = [GridRow("A", (), (plain_image("red", (1024, 768)),))]
    assert cell_size(rows) == (512, 384)
    assert draw_grid("", ["a"], rows).getpixel((24 + 260 + 12 + 256, 200)) == (255, 0, 0)


@pytest.mark.parametrize(("one", "another"), [("кит", "кот"), ("μῆλον", "μῆλοι"), ("a – b", "a ☂ b")])
def test_letters_beyond_ascii_are_drawn(one: str, another: str):
    rows = [GridRow("A", (), (plain_image("red"),))]
    sheets = [draw_grid("", [caption], rows) for caption in (one, another)]
    assert sheets[0].tobytes() != sheets[1].tobytes(), "letters that a font lacks all look the same"


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match="rows: 0 with 1 captions"):
        draw_grid("", ["a"], [])
    with pytest.raises(ValueError, match="rows: 'A' has 1 pictures; give 2"):
        draw_grid("", ["a", "b"], [GridRow("A", (), (None,))])


def test_the_saved_grid_knows_its_story_and_settings(tmp_path: Path):
    row = generated(PLAIN, 1)
    plain_image("red").save(file := tmp_path / "frame-01.png")
    progress = replace(row.progress, pictures=(Picture(file, 0, "prompt", "scene"),))
    snapshot = Snapshot(STORY, (replace(row, progress=progress),), "Figure")
    with Image.open(save_grid(snapshot, tmp_path)) as image:
        made = json.loads(image.text["comparison"])
    assert made["story"]["subject"] == "a cat"
    assert made["rows"][0]["settings"]["sdsa"] is False
