"""Exports, read back: a ZIP's contents, a PDF's text, a comic's pixels, an animation's frames."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from consistory_svd.cli.main import app
from consistory_svd.cli.options import run
from consistory_svd.export.animation import MAX_PIXELS, render_frames
from consistory_svd.export.book import book_of, read_story
from consistory_svd.export.exporter import ExportedFile, as_one, export
from consistory_svd.export.fonts import ELLIPSIS, FONTS, plain, typeface
from consistory_svd.export.layout import Box, PageLayout, Spacing
from consistory_svd.export.pdf import PRINT_DPI, RENDERER, as_images
from consistory_svd.export.settings import FORMATS, LAYOUTS, ExportSettings
from consistory_svd.metadata import read_story_json, save_frame, write_story_json
from consistory_svd.settings import Settings
from consistory_svd.story import Story

COLOURS = ((220, 30, 30), (30, 160, 40), (40, 60, 220), (230, 180, 20), (150, 40, 170))
STORY = Story("a cat", ("in the forest", "on the beach", "in the snow", "at home", "far away"), seed=7)
SETTINGS = Settings(steps=4, anchors=1)
WHITE = (255, 255, 255)


def generated(folder: Path, story: Story = STORY, size: tuple[int, int] = (96, 96)) -> Path:
    """A story whose pictures are plain colours, so that each can be known again on a page."""
    folder.mkdir(exist_ok=True)
    for k, colour in enumerate(COLOURS[: len(story.scenes)]):
        path = folder / f"frame-{k + 1:02d}.png"
        image = Image.new("RGB", size, colour)
        save_frame(path, image, story.prompts[k], story.frame_seeds[k], story, SETTINGS, "a model")
        Image.new("L", size, 255).save(folder / f"mask-{k + 1:02d}.png")
    names = [path.name for path in sorted(folder.glob("frame-*"))]
    write_story_json(folder, story, SETTINGS, "a model", names)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return generated(tmp_path / "story")


def made(folder: Path, **settings: object) -> list[ExportedFile]:
    return export(folder, ExportSettings(**settings))


def texts(pdf: bytes) -> list[str]:
    """What is written on each page."""
    with RENDERER:
        document = pypdfium2.PdfDocument(pdf)
        shown = [" ".join(page.get_textpage().get_text_bounded().split()) for page in document]
        document.close()
    return shown


def close(one: tuple[int, ...], other: tuple[int, ...], by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


def colour_box(page: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Where a colour is on a page."""
    bands = [
        band.point(lambda v, c=c: 255 * (abs(v - c) <= 12))
        for band, c in zip(page.split(), colour, strict=True)
    ]
    both = Image.composite(bands[0], Image.new("L", page.size), bands[1])
    return Image.composite(both, Image.new("L", page.size), bands[2]).getbbox()


# -- ZIP -------------------------------------------------------------------------------------------------


def test_a_zip_holds_everything_and_can_be_read_again(folder: Path, tmp_path: Path):
    (folder / "scores.json").write_text("{}")
    (folder / "diary.txt").write_text("private")
    (file,) = made(folder, format="zip")
    assert file.name == "a-cat.zip"
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        assert archive.testzip() is None
        names = {Path(name).name for name in archive.namelist()}
        assert all(name.startswith("a-cat/") for name in archive.namelist())
        archive.extractall(tmp_path / "out")
    numbers = range(1, 6)
    pictures = {f"frame-0{k}.png" for k in numbers} | {f"mask-0{k}.png" for k in numbers}
    assert names == {"story.json", "scores.json", *pictures}
    assert read_story_json(tmp_path / "out" / "a-cat").story == STORY
    assert (tmp_path / "out/a-cat/frame-02.png").read_bytes() == (folder / "frame-02.png").read_bytes()


# -- the storybook ---------------------------------------------------------------------------------------


def test_a_storybook_has_a_title_one_scene_per_page_and_a_colophon(folder: Path):
    (file,) = made(folder, title="The Cat's journey")
    assert file.name == "the-cat-s-journey.pdf"
    title, *pages, colophon = texts(file.content)
    assert title == "The Cat's journey A story in five pictures"
    assert pages == [
        f"{scene[0].upper()}{scene[1:]} {number}" for number, scene in enumerate(STORY.scene_texts, start=1)
    ]
    for shown in (
        "How this story was generated",
        "a cat",
        "a photo of",
        "Seed 7",
        "Preset Shared attention, anchors 1",
        "96 × 96",
        "a model",
    ):
        assert shown in colophon
    shown = list(as_images(file.content, 50))
    for page, colour in zip(shown[1:-1], COLOURS, strict=True):
        left, top, right, bottom = colour_box(page, colour)
        assert abs((right - left) - (bottom - top)) <= 2
        assert right - left > 0.75 * page.width
        assert abs(left - (page.width - right)) <= 2


@pytest.mark.parametrize(("layout", "pages"), [(1, 5), (2, 3), (4, 2), (6, 1)])
def test_the_layout_sets_the_number_of_pages(folder: Path, layout: int, pages: int):
    (file,) = made(folder, layout=layout, captions="prompt", paper="square")
    shown = texts(file.content)
    assert len(shown) == pages + 2
    joined = " ".join(shown[1:-1])
    assert all(prompt in joined for prompt in STORY.prompts)


def test_captions_can_be_left_out(folder: Path):
    (file,) = made(folder, captions="none")
    assert texts(file.content)[1:-1] == ["1", "2", "3", "4", "5"]


# -- the comic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["under", "in"])
def test_a_comics_panels_stand_in_order_with_gutters_and_margins(folder: Path, layout: int, place: str):
    files = made(folder, format="comic", layout=layout, place=place)
    assert len(files) == -(-5 // layout)
    pages = [Image.open(io.BytesIO(file.content)).convert("RGB") for file in files]
    boxes = []
    for number, page in enumerate(pages):
        assert page.size == (1654, 2339)
        here = [colour_box(page, colour) for colour in COLOURS[number * layout : (number + 1) * layout]]
        assert all(here)
        for n, (left, top, right, bottom) in enumerate(here):
            assert min(left, page.width - right) > 60
            assert min(top, page.height - bottom) > 60
            assert close(page.getpixel((left - 25, top + 40)), WHITE)  # the gutter, or the margin
            assert min(page.getpixel((left - k, top + 40))[0] for k in range(5)) < 60  # ink around it
            for others in here[:n]:
                below = top >= others[3] + 25
                beside = left >= others[2] + 25
                assert below or beside
        boxes += here
    widths = [right - left for left, _, right, _ in boxes]
    assert max(widths) - min(widths) <= 2
    assert widths[0] > {1: 1400, 2: 850, 4: 650, 6: 550}[layout]


def test_a_comics_caption_covers_the_picture_or_stands_below_it(folder: Path):
    def around(place: str) -> tuple[Image.Image, tuple[int, int, int, int]]:
        page = made(folder, format="comic", layout=4, place=place)[0]
        image = Image.open(io.BytesIO(page.content)).convert("RGB")
        return image, colour_box(image, COLOURS[0])

    page, (left, top, right, bottom) = around("under")
    assert all(close(page.getpixel((x, bottom - 8)), COLOURS[0]) for x in range(left + 5, right - 5, 7))
    below = page.crop((left, bottom + 8, right, bottom + 60)).convert("L")
    assert below.getextrema()[0] < 80  # ink on white
    page, (left, top, right, bottom) = around("in")
    middle = (left + right) // 2
    row = [page.getpixel((middle, y)) for y in range(top, bottom)]
    assert not all(close(pixel, COLOURS[0]) for pixel in row[len(row) * 3 // 4 :])
    assert all(close(pixel, COLOURS[0]) for pixel in row[5 : len(row) // 2])
    assert close(page.getpixel((middle, bottom + 20)), WHITE)


def test_the_text_of_a_comic_is_in_its_pdf(folder: Path):
    (file,) = made(folder, format="comic-pdf", layout=2, title="Cat")
    assert file.name == "cat-comic.pdf"
    assert texts(file.content)[0] == "Cat 1 of 3 In the forest On the beach"


def test_several_pages_become_one_zip(folder: Path):
    files = made(folder, format="comic", layout=2)
    one = as_one(files)
    assert one.name == "a-cat-comic.zip"
    with zipfile.ZipFile(io.BytesIO(one.content)) as archive:
        assert archive.namelist() == [f"a-cat-comic-{k}.png" for k in (1, 2, 3)]
    assert as_one(files[:1]) == files[0]


def test_pictures_of_another_shape_are_not_cut(tmp_path: Path):
    wide = generated(tmp_path / "wide", size=(128, 64))
    page = Image.open(io.BytesIO(made(wide, format="comic", layout=2)[0].content)).convert("RGB")
    left, top, right, bottom = colour_box(page, COLOURS[0])
    assert abs((right - left) / (bottom - top) - 2) < 0.05


# -- animations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["gif", "webp"])
@pytest.mark.parametrize("captions", ["scene", "none"])
def test_an_animation_shows_each_picture_for_its_time(folder: Path, form: str, captions: str):
    (file,) = made(folder, format=form, seconds=0.7, side=200, captions=captions)
    with Image.open(io.BytesIO(file.content)) as image:
        assert image.format == form.upper()
        assert image.n_frames == 5
        assert max(image.size) <= 200
        assert min(image.size) >= 160
        assert image.info["loop"] == 0
        durations = []
        for number, colour in enumerate(COLOURS):
            image.seek(number)
            image.load()
            durations.append(image.info["duration"])
            shown = image.convert("RGB")
            assert close(shown.getpixel((60, 60)), colour, by=16), number
            if captions == "scene":
                assert close(shown.getpixel((2, shown.height - 3)), WHITE, by=8)
    assert durations == [700] * 5


def test_an_animation_can_end(folder: Path):
    (file,) = made(folder, format="gif", repeat=False, side=64)
    with Image.open(io.BytesIO(file.content)) as image:
        assert "loop" not in image.info


def test_a_gifs_white_and_ink_stay_what_they_are(folder: Path):
    (file,) = made(folder, format="gif", side=400)
    with Image.open(io.BytesIO(file.content)) as image:
        shown = image.convert("RGB")
    band = shown.crop((0, colour_box(shown, COLOURS[0])[3] + 4, shown.width, shown.height))
    assert np.ptp(np.asarray(band).astype(int), axis=2).mean() < 2
    assert band.convert("L").getextrema()[0] < 60
    assert close(band.getpixel((3, 3)), WHITE, by=4)


def test_an_animation_that_needs_too_much_memory_is_refused(folder: Path):
    story = read_story(folder)
    settings = ExportSettings(format="gif", side=1024)
    book = book_of(story, settings)
    long = replace(book, leaves=book.leaves * (MAX_PIXELS // 1024**2 // 5 + 1))
    with pytest.raises(ValueError, match=r"^side must be at most \d+ pixels for \d+ images, got 1024"):
        render_frames(long, settings, typeface())


# -- all of them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_story_gives_the_same_bytes(folder: Path, form: str):
    assert made(folder, format=form, side=64, layout=6) == made(folder, format=form, side=64, layout=6)


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "zip"])
def test_a_broken_picture_is_named(folder: Path, form: str):
    whole = (folder / "frame-03.png").read_bytes()
    (folder / "frame-03.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"^story: the image frame-03.png cannot be read"):
        made(folder, format=form)


def test_other_folders_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^story: .* is not a folder"):
        made(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"^story: .* no story.json"):
        made(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "doc"}, r"^format must be one of zip, pdf.*, got 'doc'"),
        ({"captions": None}, r"^captions must be .*, got None$"),
        ({"place": ["in"]}, r"^place must be "),
        ({"layout": 3}, r"^layout must be one of 1, 2, 4, 6.*, got 3"),
        ({"layout": True}, r"^layout must be .*, got True$"),
        ({"paper": "a5"}, r"^paper must be .*, got 'a5'$"),
        ({"title": 7}, r"^title must be .*, got 7$"),
        ({"title": "x" * 201}, r"^title must be .* at most 200"),
        ({"seconds": 0}, r"^seconds must be a number from 0.1 to 20.*, got 0"),
        ({"seconds": float("nan")}, r"^seconds must be .*, got nan$"),
        ({"seconds": "1"}, r"^seconds must be .*, got '1'$"),
        ({"side": 64.5}, r"^side must be a whole number from 64 to 1024.*, got 64.5"),
        ({"repeat": 1}, r"^repeat must be .*, got 1$"),
    ],
)
def test_a_refusal_names_the_field(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ExportSettings(**values)


# -- letters ---------------------------------------------------------------------------------------------


def test_letters_of_many_languages_are_drawn(tmp_path: Path):
    scenes = (
        "im Wald, größer",
        "Кот на пляже",
        "η γάτα στο χιόνι",
        "sous la forêt « œuvre »",
        "ἐν ἀρχῇ ქართული Հայ",
    )
    foreign = generated(tmp_path / "story", Story("a кот", scenes))
    (file,) = made(foreign)
    title, *pages, _ = texts(file.content)
    assert title.startswith("A кот")
    for page, scene in zip(pages, scenes, strict=True):
        assert scene[1:] in page


@pytest.mark.parametrize("scene", ["猫が好き", "القط في الغابة", "a cat 🐈"])
def test_letters_that_cannot_be_drawn_are_named(tmp_path: Path, scene: str):
    foreign = generated(tmp_path / "story", Story("a cat", (scene,)))
    with pytest.raises(ValueError, match=r"^captions: no font has '.+'; .*--font"):
        made(foreign)
    (file,) = made(foreign, captions="none")
    assert len(texts(file.content)) == 3
    with pytest.raises(ValueError, match=r"^title: no font has '猫'"):
        made(foreign, captions="none", title="a 猫")


def test_an_extra_font_is_used(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^font: .* cannot be used"):
        export(folder, ExportSettings(), font=tmp_path / "none.ttf")
    assert export(folder, ExportSettings(), font=FONTS / "DejaVuSans.ttf")


def test_lines_are_balanced_broken_and_cut():
    face = typeface()
    sentence = "a fluffy red cat with a long scarf sits in the middle of the wide forest"
    lines = face.wrap(sentence, 12, 200)
    assert " ".join(lines) == sentence
    widths = [face.width(line, 12) for line in lines]
    assert max(widths) <= 200
    assert min(widths) > 0.6 * max(widths)
    assert "".join(face.wrap("x" * 200, 12, 100)) == "x" * 200
    cut = face.truncate(sentence, 12, 100, 2)
    assert len(cut) == 2
    assert cut[-1].endswith(ELLIPSIS)
    assert all(face.width(line, 12) <= 100 for line in cut)
    assert plain(" a\u200b\tcafe\u0301 \n") == "a café"


@pytest.mark.parametrize("covers", [True, False])
@pytest.mark.parametrize("panels", LAYOUTS)
@pytest.mark.parametrize("length", [3, 60, 3000])
def test_panels_and_captions_stay_on_the_page_and_apart(covers: bool, panels: int, length: int):
    space, spacing = Box(30, 40, 500, 700), Spacing(tuple(range(20, 7, -1)), 12, 6, 6)
    captions = [("word " * length)[:length].strip()] * 7
    pages = PageLayout(space, panels, 1.0, covers, typeface(), spacing).arrange(captions)
    assert sum(map(len, pages)) == 7
    for page in pages:
        cells = []
        for panel in page:
            assert panel.image.width == pytest.approx(panel.image.height)
            caption = panel.caption.box
            for box in (panel.image, caption):
                assert box.left >= space.left - 0.01
                assert box.top >= space.top - 0.01
                assert box.left + box.width <= space.left + space.width + 0.01
                assert box.top + box.height <= space.top + space.height + 0.01
            assert (caption.top >= panel.image.top + panel.image.height) is not covers
            assert panel.caption.height <= caption.height + 0.01
            cells.append(panel.image)
        for k, one in enumerate(cells):
            for other in cells[:k]:
                assert one.left >= other.left + other.width or one.top >= other.top + other.height


# -- the command line ------------------------------------------------------------------------------------


def test_the_command_line_exports(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "out"
    flags = ["export", str(folder), "--format", "comic", "--layout", "2", "--title", "Cat", "--out", str(out)]
    assert run(app, flags) == 0
    assert capsys.readouterr().out.split() == [str(out / f"cat-comic-{k}.png") for k in (1, 2, 3)]
    with Image.open(out / "cat-comic-3.png") as page:
        assert round(page.info["dpi"][0]) == PRINT_DPI
    assert run(app, flags) == 2
    assert "out: " in capsys.readouterr().err
    assert run(app, [*flags, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("flags", "expected_text"),
    [
        (["--format", "doc"], "error: format must be"),
        (["--layout", "x"], "error: layout must be"),
        (["--seconds", "0"], "error: seconds must be"),
        (["--font", "none.ttf"], "error: font: none.ttf cannot be used"),
    ],
)
def test_the_command_line_names_the_wrong_field(folder: Path, flags: list[str], expected_text: str, capsys):
    assert run(app, ["export", str(folder), *flags]) == 2
    assert capsys.readouterr().err.startswith(expected_text)


def test_json_is_not_touched(folder: Path):
    before = json.loads((folder / "story.json").read_text())
    made(folder)
    assert json.loads((folder / "story.json").read_text()) == before
