"""What browser tests share: a studio on the embedded model, a headless Chromium, and the page's own ways."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from consistory_svd.downloads import CACHE_VARIABLE
from consistory_svd.studio import create_demo, launch

# Generous: a shared, busy machine with two cores. Every wait ends as soon as its condition holds.
MODEL_MS = 120_000
STORY_MS = 240_000
expect.set_options(timeout=30_000)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def studio(no_weights: Path) -> Iterator[str]:
    """The address of a studio on the embedded model, without weights of scores; CONSISTORY_TEST_MODEL names
    another."""
    os.environ[CACHE_VARIABLE] = str(no_weights)
    demo = create_demo(os.environ.get("CONSISTORY_TEST_MODEL"), device="cpu")
    launch(demo, port=None, prevent_thread_lock=True, quiet=True)
    yield demo.local_url
    demo.close()
    del os.environ[CACHE_VARIABLE]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    path = shutil.which("chromium")
    assert path, "chromium is not installed: run `make setup`, or apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def visit(browser: Browser, address: str, folded: bool = False) -> Page:
    """A new visitor's page, its model loaded; its folded parts are opened, unless `folded`."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(address)
    expect(page.locator("#model .dot-ready, #model [role=alert]")).to_be_visible(timeout=MODEL_MS)
    assert not page.locator("#model [role=alert]").count(), page.locator("#model").inner_text()
    if not folded:
        unfold(page)
    return page


def unfold(page: Page) -> None:
    """Open the form's folded parts, whose boxes are not in the page before."""
    for part, last in (("advanced", "#steps input[type=number]"), ("fine-switches", "#masking input")):
        open_part(page, part, last)


def open_part(page: Page, part: str, last: str) -> None:
    """Open a folded part and wait until its boxes can be filled; `last` is one of them.

    Gradio gives the boxes of a part that is opened for the first time their values again, a frame after they
    have appeared: what was filled in by then is lost.
    """
    page.locator(f"#{part} > .label-wrap").click()
    expect(page.locator(f"#{part} > .label-wrap")).to_have_class(re.compile("open"))
    expect(page.locator(last)).to_be_visible()
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def write_story(page: Page, subject: str, scenes: Sequence[str], steps: int) -> None:
    page.locator("#subject textarea").fill(subject)
    page.locator("#scenes textarea").fill("\n".join(scenes))
    set_dial(page, "steps", steps)


def set_dial(page: Page, name: str, value: float) -> None:
    box = page.locator(f"#{name} input[type=number]")
    box.fill(str(value))
    box.blur()


def pictures(page: Page) -> Locator:
    return page.locator("#pictures .thumbnail-item img")


def sources(page: Page) -> list[str]:
    return pictures(page).evaluate_all("images => images.map(image => image.src)")


def captions(page: Page) -> list[str]:
    return [text.strip() for text in page.locator("#pictures .caption-label").all_inner_texts()]


def expect_done(page: Page, words: str | re.Pattern[str]) -> None:
    """Wait until the story, or what was added to it, is told."""
    expect(page.locator("#status .note-done")).to_contain_text(words, timeout=STORY_MS)
    expect(page.locator("#go-on")).to_be_visible()


def generate_short_story(page: Page) -> list[str]:
    """Two pictures of a cat in two steps; their addresses."""
    write_story(page, "a cat", ["in the forest", "on the beach"], steps=2)
    page.get_by_role("button", name="Generate").click()
    expect_done(page, re.compile(r"^2 pictures in "))
    expect(pictures(page)).to_have_count(2)
    return sources(page)
