"""The Compare and About tabs in a browser; speed of the page, files as served, no requests to other hosts."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from playwright.sync_api import Browser, Page, expect

from consistory_svd.limits import Limits
from consistory_svd.studio import launch
from consistory_svd.studio.app import build_page
from consistory_svd.studio.comparison import FIGURES
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.services import Services
from consistory_svd.studio.tabs.about import PARTS
from consistory_svd.studio.tabs.story import StoryTab
from tests.browser import (
    STORY_MS,
    alert,
    enter_tab,
    expect_fits_a_phone,
    foreign_requests,
    generate,
    number_box,
    picture_buttons,
    pictures,
    press,
    serve,
    slider,
    sources,
    unfold,
    visit,
    wait_for_model,
    write_story,
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a studio with limits."""
    with serve(limits=Limits(frames=4, steps=20)) as address:
        yield address


def _compare(
    page: Page,
    subject: str = "a cat",
    steps: int = 2,
    scenes: Sequence[str] = ("in the forest", "on the beach"),
) -> None:
    """Write a story of two scenes and go to the Compare tab."""
    write_story(page, subject, scenes, steps)
    enter_tab(page, "Compare")
    expect(page.locator(".compare-story")).to_contain_text(f"{subject}, 2 scenes")


def _wait_until_drawn(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => { const all = [...document.querySelectorAll('#compare-grid img')];"
        " return all.length == count && all.every(image => image.naturalWidth > 0); }",
        arg=count,
        timeout=STORY_MS,
    )


def test_settings_are_compared_row_by_row_without_other_hosts(browser: Browser, address: str) -> None:
    page = browser.new_context().new_page()
    foreign = foreign_requests(page, address)
    page.goto(address)
    wait_for_model(page)
    unfold(page)
    long = "on the beach while the tide goes out, gulls cry over the pier and a boat comes home"
    _compare(page, scenes=("in the forest", long))
    page.locator("#compare-go").click()
    expect(page.locator("#compare-cancel")).to_be_enabled()
    expect(page.locator("#compare-status .progress")).to_contain_text("Row 1 of 2", timeout=STORY_MS)
    expect(page.locator("#compare-status .note-done")).to_contain_text("4 images in", timeout=STORY_MS)
    _wait_until_drawn(page, 4)
    table = page.get_by_role("table", name=re.compile("a cat"))
    expect(table.locator("th[scope=row]")).to_have_count(2)
    expect(table.locator("th[scope=col]")).to_have_text(["Setting", "in the forest", long])
    widths = table.locator("th[scope=col]").evaluate_all(
        "cells => cells.slice(1).map(one => one.offsetWidth)"
    )
    assert max(widths) - min(widths) <= 1, "a long text makes no picture larger than the others"
    expect(table.locator(".differences").first).to_contain_text("SDSA off")
    expect(table.locator(".row-scores")).to_have_count(2)
    expect(page.locator("#compare-go")).to_be_enabled()

    page.get_by_role("button", name="Enlarge Plain: in the forest").press("Enter")
    large = page.locator("#compare-large")
    expect(large).to_be_visible()
    expect(large.locator("figcaption")).to_have_text("Plain: in the forest")
    page.keyboard.press("ArrowRight")
    expect(large.locator("figcaption")).to_have_text(f"Plain: {long}")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    expect(page.get_by_role("button", name=f"Enlarge Plain: {long}")).to_be_focused()
    enter_tab(page, "About")
    expect(page.locator("#about-machine")).to_contain_text("GB free")
    assert foreign == []
    page.context.close()


def test_recipe_is_compared_and_downloaded_as_one_image(page: Page, tmp_path: Path) -> None:
    _compare(page)
    page.locator("#figure-mask").click()
    expect(page.locator("#compare-question")).to_contain_text(FIGURES[1].title, timeout=STORY_MS)
    _wait_until_drawn(page, 6)
    expect(page.locator("#compare-status .note-done")).to_be_visible(timeout=STORY_MS)
    assert page.locator("#compare-grid .name").all_inner_texts() == [row.name for row in FIGURES[1].rows]
    with page.expect_download() as download:
        page.locator("#compare-download").click()
    download.value.save_as(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert (image.format, image.width > 2 * 256, image.height > 3 * 256) == ("PNG", True, True)
    expect_fits_a_phone(page)


def test_cancelled_comparison_keeps_its_images(page: Page) -> None:
    _compare(page, steps=20)
    page.locator("#figure-filters").click()
    _wait_until_drawn(page, 2)
    page.locator("#compare-cancel").click()
    expect(page.locator("#compare-status")).to_contain_text(
        re.compile(r"Stopped\. \d+ images kept"), timeout=STORY_MS
    )
    assert 2 <= page.locator("#compare-grid img").count() < 10
    expect(page.locator("#compare-go")).to_be_enabled()


def test_errors_and_limits_are_shown_where_they_apply(form: Page) -> None:
    expect(slider(form, "steps")).to_have_attribute("max", "20")
    expect(form.locator("#steps")).to_contain_text("20 in this studio")
    form.locator("#subject textarea").fill("")
    enter_tab(form, "Compare")
    expect(alert(form, "compare-story")).to_contain_text("Subject")
    form.locator("#compare-go").click()
    expect(alert(form, "compare-status")).to_contain_text("Subject")
    enter_tab(form, "Story")
    press(form, "Owl at night")
    expect(form.locator("#subject textarea")).to_have_value("an owl")
    expect(number_box(form, "steps")).to_have_value("20")
    write_story(form, "a cat", ["in the forest"] * 5, steps=2)
    generate(form)
    expect(alert(form)).to_contain_text(re.compile("Scenes.*4"))


def test_two_visitors_share_the_queue_and_get_their_own_images(browser: Browser, address: str) -> None:
    first, second = visit(browser, address), visit(browser, address)
    _compare(first, "a cat", steps=20)
    write_story(second, "an owl", ["in the snow", "in a library"], steps=2)
    first.locator("#compare-go").click()
    expect(first.locator("#compare-status .progress")).to_contain_text("Row 1", timeout=STORY_MS)
    generate(second)
    expect(second.locator("#status")).to_contain_text(re.compile(r"in about \d+ s"), timeout=STORY_MS)
    expect(pictures(second)).to_have_count(2, timeout=STORY_MS)
    _wait_until_drawn(first, 4)
    expect(picture_buttons(second).first.locator("img")).to_have_attribute("alt", re.compile("an owl"))
    expect(first.get_by_role("table", name=re.compile("a cat"))).to_be_visible()
    for page in (first, second):
        page.context.close()


def test_about_shows_the_machine_and_the_method(form: Page) -> None:
    page = form
    enter_tab(page, "About")
    expect(page.locator("#about-machine")).to_contain_text("the embedded storybook model")
    expect(page.locator("#about-machine")).to_contain_text(re.compile(r"GB in use, .* GB free"))
    strips = page.locator("#about-method img")
    expect(strips).to_have_count(sum(len(part.strips) for part in PARTS))
    for number in range(strips.count()):
        strips.nth(number).scroll_into_view_if_needed()
    page.wait_for_function(
        "() => [...document.querySelectorAll('#about-method img')].every(image => image.naturalWidth == 1048)"
    )
    expect(page.locator("#about-more")).to_contain_text("python -m consistory_svd fetch dreamsim")
    expect_fits_a_phone(page)


def test_page_is_painted_within_two_seconds(browser: Browser, address: str) -> None:
    """The best of three first visits, as the machine may be busy during one."""
    paints = []
    for _ in range(3):
        page = browser.new_context().new_page()
        page.goto(address)
        expect(page.locator("#subject textarea")).to_be_visible()
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.context.close()
    assert min(paints) < 2000


@pytest.fixture
def twelve(tmp_path: Path) -> list[Path]:
    """12 images of 1024 x 1024 that hardly compress."""
    files = []
    for number in range(12):
        noise = np.random.default_rng(number).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file := tmp_path / f"frame-{number + 1:02d}.png", compress_level=1)
        files.append(file)
    return files


def test_twelve_large_images_are_served_as_their_files(
    browser: Browser, twelve: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(tab: StoryTab, request: gr.Request, **form: object) -> Iterator[dict]:
        yield {
            tab.pictures: [(str(file), file.stem) for file in twelve],
            tab.status: "<p id='shown'>shown</p>",
        }

    monkeypatch.setattr(StoryTab, "generate", stream)
    demo = build_page(Services(ModelManager(device="cpu")))
    launch(demo, port=None, prevent_thread_lock=True, quiet=True)
    try:
        page = visit(browser, demo.local_url)
        generate(page)
        expect(pictures(page)).to_have_count(12)
        for number in range(12):  # images are loaded when they come into view
            pictures(page).nth(number).scroll_into_view_if_needed()
        page.wait_for_function(
            "() => [...document.querySelectorAll('#pictures .thumbnail-item img')]"
            ".every(image => image.complete && image.naturalWidth == 1024)"
        )
        for source, file in zip(sources(page), twelve, strict=True):
            served = page.request.get(source).body()
            assert hashlib.sha256(served).digest() == hashlib.sha256(file.read_bytes()).digest()
        page.context.close()
    finally:
        demo.close()
