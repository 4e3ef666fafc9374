"""The library in a browser, end to end: told, found after a restart, opened, compared, exported, deleted."""

import io
import os
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from playwright.sync_api import Browser, Page, expect

from consistory_svd.downloads import CACHE_VARIABLE
from consistory_svd.library import KeptStory, Library
from consistory_svd.studio import create_demo, launch
from consistory_svd.studio import library_html as library_view
from tests.browser import STORY_MS, open_part, pictures, visit, write_story
from tests.test_browser import _generate, _wait_until_pictures_are_drawn
from tests.test_library import CAT, keep


@contextmanager
def serving(library: Library | None) -> Iterator[str]:
    """A studio that keeps stories in the library, or for each visitor alone; its address."""
    demo = create_demo(os.environ.get("CONSISTORY_TEST_MODEL"), device="cpu", library=library)
    launch(demo, port=None, library=library, prevent_thread_lock=True, quiet=True)
    try:
        yield demo.local_url
    finally:
        demo.close()


@pytest.fixture(autouse=True)
def _no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no weights"))


def generate(page: Page, subject: str, scenes: list[str], steps: int = 2) -> None:
    write_story(page, subject, scenes, steps)
    _generate(page)
    last = re.compile(f"{subject} {scenes[-1]}")
    expect(page.locator("#pictures .thumbnail-lg img").last).to_have_attribute("alt", last, timeout=STORY_MS)
    expect(page.locator("#status .note-done")).to_be_visible(timeout=STORY_MS)
    _wait_until_pictures_are_drawn(page, len(scenes))


def enter_library(page: Page) -> None:
    page.get_by_role("tab", name="Library").click()
    expect(page.locator("#library-count")).not_to_be_empty()


def choose(page: Page, subject: str) -> None:
    page.locator("#shelf").get_by_role("button", name=subject).click()
    expect(page.locator("#library-heading h2")).to_have_text(subject)


def download(page: Page, part: str) -> tuple[str, bytes]:
    page.locator(f"#{part}-make").click()
    button = page.locator(f"#{part}-file")
    expect(button).to_contain_text("Download", timeout=STORY_MS)
    with page.expect_download() as coming:
        button.click()
    return coming.value.suggested_filename, Path(coming.value.path()).read_bytes()


def choose_format(page: Page, part: str, label: str) -> None:
    page.locator(f"#{part}-format input").click()
    page.get_by_role("option", name=label).click()


def test_stories_stay_in_the_library_over_a_restart(browser: Browser, tmp_path: Path) -> None:
    root = tmp_path / "library"
    with serving(Library(root)) as address:
        page = visit(browser, address)
        generate(page, "a cat", ["in the forest", "on the beach"])
        expect(page.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
        expect(page.locator("#fetch")).to_be_visible(timeout=STORY_MS)  # the scores are complete
        page.locator("#preset input").click()
        page.get_by_role("option", name="SVD energy", exact=True).click()
        expect(page.locator("#spectrum")).to_contain_text("energy 0.95")
        generate(page, "an owl with a hat", ["in the snow", "in a library"], steps=3)
        page.context.close()
    with serving(Library(root)) as address:
        page = visit(browser, address)
        _look_and_search(page)
        _open(page)
        _compare(page)
        _take_along(page)
        _delete(page, root)
        page.context.close()


def _look_and_search(page: Page) -> None:
    enter_library(page)
    cards = page.locator("#shelf .thumbnail-item")
    expect(cards).to_have_count(2)
    expect(cards.first).to_contain_text("an owl with a hat")
    expect(cards.nth(1)).to_contain_text("ConsiStory · alike")
    page.locator("#library-order input").click()
    page.get_by_role("option", name="Oldest first").click()
    expect(cards.first).to_contain_text("a cat")
    page.locator("#library-words textarea, #library-words input").fill("beach CAT")
    expect(cards).to_have_count(1)
    page.locator("#library-words textarea, #library-words input").fill("teapot")
    expect(page.locator("#library-count")).to_contain_text("No story has “teapot” in it")
    page.locator("#library-words textarea, #library-words input").fill("")
    expect(cards).to_have_count(2)
    choose(page, "a cat")
    expect(page.locator("#library-pictures .thumbnail-item")).to_have_count(2)
    expect(page.locator("#library-scores .heat")).to_contain_text(
        "Identity agreement by the storybook reader"
    )


def _open(page: Page) -> None:
    choose(page, "an owl with a hat")
    page.locator("#library-open").click()
    expect(page.locator("#subject textarea")).to_have_value("an owl with a hat")
    expect(page.locator("#subject textarea")).to_be_visible()
    expect(page.locator("#concepts textarea")).to_have_value("owl")
    expect(page.locator("#scenes textarea")).to_have_value("in the snow\nin a library")
    expect(page.locator("#steps input[type=number]")).to_have_value("3")
    expect(page.locator("#preset input")).to_have_value("SVD energy")
    expect(page.locator("#k_amount input[type=number]")).to_have_value("0.95")
    expect(page.locator("#status")).to_contain_text("Opened from the library")
    expect(page.locator("#go-on-how")).to_contain_text("not kept in memory")
    expect(page.locator("#again-scene textarea")).to_have_value("in the snow")
    _wait_until_pictures_are_drawn(page, 2)
    page.get_by_label("Show the subject masks").check()
    expect(pictures(page).first).to_have_attribute("src", re.compile("marked"))
    open_part(page, "export", "#export-make")
    choose_format(page, "export", "Animated GIF")
    expect(page.locator("#export-seconds")).to_be_visible()
    expect(page.locator("#export-layout")).to_be_hidden()
    name, content = download(page, "export")
    assert name == "an-owl-with-a-hat.gif"
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "GIF"


def _compare(page: Page) -> None:
    enter_library(page)
    for subject in ("a cat", "an owl with a hat"):
        choose(page, subject)
        page.locator("#library-add").click()
        expect(page.locator("#library-compared")).to_contain_text(subject)
    page.locator("#library-compare-now").click()
    table = page.locator("#library-comparison table")
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator("img")).to_have_count(4)
    widths = table.locator("thead th").evaluate_all("cells => cells.slice(2).map(one => one.offsetWidth)")
    assert max(widths) - min(widths) <= 1
    expect(table).to_contain_text("K filter: energy 0.95")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 900})


def _take_along(page: Page) -> None:
    choose(page, "a cat")
    open_part(page, "library-export", "#library-export-make")
    page.locator("#library-export-title").get_by_role("textbox").fill("The Cat")
    name, content = download(page, "library-export")
    assert name == "the-cat.pdf"
    document = pypdfium2.PdfDocument(content)
    assert len(document) == 4  # a title, two scenes, how it was told
    document.close()
    choose_format(page, "library-export", "ZIP")
    expect(page.locator("#library-export-file")).to_be_hidden()
    name, content = download(page, "library-export")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = {Path(entry).name for entry in archive.namelist()}
    assert {"frame-01.png", "mask-02.png", "story.json", "scores.json"} <= names
    choose_format(page, "library-export", "Comic pages (PNG)")
    page.locator("#library-export-title").get_by_role("textbox").fill("The 猫")
    page.locator("#library-export-make").click()
    expect(page.locator("#library-export-status").get_by_role("alert")).to_contain_text(
        "Title: '猫' cannot be drawn"
    )


def _delete(page: Page, root: Path) -> None:
    page.locator("#library-delete").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("button", name="Delete for good")).to_be_hidden()
    assert len(list(root.iterdir())) == 2
    page.locator("#library-delete").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.locator("#shelf .thumbnail-item")).to_have_count(1)
    expect(page.locator("#library-message")).to_contain_text("“a cat” is deleted")
    assert [folder.name.rsplit("-", 1)[1] for folder in root.iterdir()] == ["hat"]


def test_a_card_that_is_pressed_while_another_is_fetched_is_the_one_that_is_shown(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(story: KeptStory) -> str:
        time.sleep(0.5)  # as on a machine that tells a story meanwhile
        return heading(story)

    heading = library_view.heading
    monkeypatch.setattr(library_view, "heading", slow)
    library = Library(tmp_path / "library")
    for subject in ("an owl", "a cat"):
        keep(library, replace(CAT, subject=subject, concepts=(subject.split()[1],)))
    with serving(library) as address:
        page = visit(browser, address, folded=True)
        enter_library(page)
        first, second = (page.locator("#shelf").get_by_role("button", name=name) for name in ("owl", "cat"))
        with page.expect_request(re.compile("/queue/join")):
            first.click()
        second.click()
        expect(page.locator("#library-heading h2")).to_have_text("a cat")
        page.context.close()


def test_two_visitors_of_a_shared_demo_see_their_own_stories_alone(
    browser: Browser,
) -> None:
    with serving(None) as address:
        first, second = visit(browser, address), visit(browser, address)
        for page, subject in ((first, "a cat"), (second, "an owl")):
            generate(page, subject, ["in the forest", "on the beach"])
        for page, subject in ((first, "a cat"), (second, "an owl")):
            enter_library(page)
            expect(page.locator("#shelf .thumbnail-item")).to_have_count(1)
            expect(page.locator("#shelf .thumbnail-item")).to_contain_text(subject)
            page.context.close()
