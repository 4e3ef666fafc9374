"""The Library tab in a browser: stories found after a restart, opened, compared, exported, deleted."""

import io
import os
import re
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from playwright.sync_api import Browser, Page, expect

from consistory_svd.library import KeptStory, Library
from consistory_svd.studio import library_html
from tests.browser import (
    STORY_MS,
    alert,
    choose,
    download,
    enter_tab,
    expect_fits_a_phone,
    expect_scenes,
    generate,
    number_box,
    open_group,
    picture_buttons,
    pictures,
    serve,
    thumbnails,
    visit,
    wait_for_pictures,
    write_story,
)
from tests.saved_stories import CAT, keep


def generate_story(page: Page, subject: str, scenes: list[str], steps: int = 2) -> None:
    write_story(page, subject, scenes, steps)
    generate(page)
    last = re.compile(f"{subject} {scenes[-1]}")
    expect(picture_buttons(page).last.locator("img")).to_have_attribute("alt", last, timeout=STORY_MS)
    expect(page.locator("#status .note-done")).to_be_visible(timeout=STORY_MS)
    wait_for_pictures(page, len(scenes))


def enter_library(page: Page) -> None:
    enter_tab(page, "Library")
    expect(page.locator("#library-count")).not_to_be_empty()


def choose_story(page: Page, subject: str) -> None:
    page.locator("#library-stories").get_by_role("button", name=subject).click()
    expect(page.locator("#library-heading h2")).to_have_text(subject)


def test_stories_stay_in_the_library_over_a_restart(browser: Browser, tmp_path: Path) -> None:
    root = tmp_path / "library"
    with serve(library=Library(root)) as address:
        page = visit(browser, address)
        generate_story(page, "a cat", ["in the forest", "on the beach"])
        expect(page.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
        expect(page.locator("#fetch")).to_be_visible(timeout=STORY_MS)  # the scores are complete
        choose(page, "preset", "SVD energy")
        expect(page.locator("#svd-filter")).to_contain_text("energy 0.95")
        generate_story(page, "an owl with a hat", ["in the snow", "in a library"], steps=3)
        page.context.close()
    with serve(library=Library(root)) as address:
        page = visit(browser, address)
        _look_and_search(page)
        _open(page)
        _compare(page)
        _export(page)
        _delete(page, root)
        page.context.close()


def _look_and_search(page: Page) -> None:
    enter_library(page)
    cards = thumbnails(page, "library-stories")
    expect(cards).to_have_count(2)
    expect(cards.first).to_contain_text("an owl with a hat")
    expect(cards.nth(1)).to_contain_text("ConsiStory · consistency 0.")
    choose(page, "library-order", "Oldest first")
    expect(cards.first).to_contain_text("a cat")
    page.locator("#library-query textarea, #library-query input").fill("beach CAT")
    expect(cards).to_have_count(1)
    page.locator("#library-query textarea, #library-query input").fill("teapot")
    expect(page.locator("#library-count")).to_contain_text("No story matches “teapot”.")
    page.locator("#library-query textarea, #library-query input").fill("")
    expect(cards).to_have_count(2)
    choose_story(page, "a cat")
    expect(thumbnails(page, "library-pictures")).to_have_count(2)
    expect(page.locator("#library-scores .heat")).to_contain_text(
        "Identity agreement by the storybook reader"
    )


def _open(page: Page) -> None:
    choose_story(page, "an owl with a hat")
    page.locator("#library-open").click()
    expect(page.locator("#subject textarea")).to_have_value("an owl with a hat")
    expect(page.locator("#subject textarea")).to_be_visible()
    expect(page.locator("#concepts textarea")).to_have_value("owl")
    expect_scenes(page, "in the snow", "in a library")
    expect(number_box(page, "steps")).to_have_value("3")
    expect(page.locator("#preset input")).to_have_value("SVD energy")
    expect(number_box(page, "k_energy")).to_have_value("0.95")
    expect(page.locator("#status")).to_contain_text("Opened from the library")
    expect(page.locator("#continue-note")).to_contain_text("not in memory")
    expect(page.locator("#redo-scene textarea")).to_have_value("in the snow")
    wait_for_pictures(page, 2)
    page.locator("#show_masks input").check()
    expect(pictures(page).first).to_have_attribute("src", re.compile("marked"))
    open_group(page, "export", "#export-make")
    choose(page, "export-format", re.compile("GIF"))
    expect(page.locator("#export-seconds")).to_be_visible()
    expect(page.locator("#export-layout")).to_be_hidden()
    name, content = download(page, "export")
    assert name == "an-owl-with-a-hat.gif"
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "GIF"


def _compare(page: Page) -> None:
    enter_library(page)
    for subject in ("a cat", "an owl with a hat"):
        choose_story(page, subject)
        page.locator("#library-add").click()
        expect(page.locator("#library-compared")).to_contain_text(subject)
    page.locator("#library-compare-now").click()
    table = page.locator("#library-comparison table")
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator("img")).to_have_count(4)
    widths = table.locator("thead th").evaluate_all("cells => cells.slice(1).map(one => one.offsetWidth)")
    assert max(widths) - min(widths) <= 1
    expect(table).to_contain_text("K filter: energy 0.95")
    expect_fits_a_phone(page)


def _export(page: Page) -> None:
    choose_story(page, "a cat")
    open_group(page, "library-export", "#library-export-make")
    page.locator("#library-export-title").get_by_role("textbox").fill("The Cat")
    name, content = download(page, "library-export")
    assert name == "the-cat.pdf"
    document = pypdfium2.PdfDocument(content)
    assert len(document) == 4  # a title, two scenes, the settings
    document.close()
    choose(page, "library-export-format", re.compile("^ZIP"))
    expect(page.locator("#library-export-file")).to_be_hidden()
    name, content = download(page, "library-export")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = {Path(entry).name for entry in archive.namelist()}
    assert {"frame-01.png", "mask-02.png", "story.json", "scores.json"} <= names
    choose(page, "library-export-format", re.compile(r"^Comic pages.*PNG"))
    page.locator("#library-export-title").get_by_role("textbox").fill("The 猫")
    page.locator("#library-export-make").click()
    expect(alert(page, "library-export-status")).to_contain_text("'猫'")


def _delete(page: Page, root: Path) -> None:
    page.locator("#library-delete").click()
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_role("button", name="Delete permanently")).to_be_hidden()
    assert len(list(root.iterdir())) == 2
    page.locator("#library-delete").click()
    page.get_by_role("button", name="Delete permanently").click()
    expect(thumbnails(page, "library-stories")).to_have_count(1)
    expect(page.locator("#library-message")).to_contain_text("“a cat” was deleted")
    assert [folder.name.rsplit("-", 1)[1] for folder in root.iterdir()] == ["hat"]


def test_the_card_pressed_last_is_shown(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed = threading.Event()

    def slow_heading(story: KeptStory) -> str:
        pressed.wait(30)  # until the other card is pressed
        return heading(story)

    heading = library_html.heading
    monkeypatch.setattr(library_html, "heading", slow_heading)
    library = Library(tmp_path / "library")
    for subject in ("an owl", "a cat"):
        keep(library, replace(CAT, subject=subject, concepts=(subject.split()[1],)))
    with serve(library=library) as address:
        page = visit(browser, address, folded=True)
        enter_library(page)
        first, second = (
            page.locator("#library-stories").get_by_role("button", name=name) for name in ("owl", "cat")
        )
        with page.expect_request(re.compile("/queue/join")):
            first.click()
        second.click()
        pressed.set()
        expect(page.locator("#library-heading h2")).to_have_text("a cat")
        page.context.close()


def test_visitors_see_their_own_stories_alone(browser: Browser, address: str) -> None:
    first, second = visit(browser, address), visit(browser, address)
    for page, subject in ((first, "a cat"), (second, "an owl")):
        generate_story(page, subject, ["in the forest", "on the beach"])
    for page, subject in ((first, "a cat"), (second, "an owl")):
        enter_library(page)
        expect(thumbnails(page, "library-stories")).to_have_count(1)
        expect(thumbnails(page, "library-stories")).to_contain_text(subject)
        page.context.close()
