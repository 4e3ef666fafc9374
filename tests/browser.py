"""The studio in a browser: a server, a headless Chromium, and the page as an object.

Selectors of Gradio's own elements are here alone, so that a new Gradio is one file to change.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright

from consistory_svd.studio import create_demo, launch

# Generous, for a busy machine with two cores. Every wait ends as soon as its condition holds.
MODEL_MS = 120_000
STORY_MS = 240_000
expect.set_options(timeout=30_000)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, NARROW = (1440, 900), (390, 844)
TOAST, TOAST_TITLE, TOAST_TEXT, TOAST_CLOSE = (
    ".toast-body",
    ".toast-title-row",
    ".toast-text",
    ".toast-close",
)


@contextmanager
def serve(model: str | None = None, **options: Any) -> Iterator[str]:
    """Start a studio and yield its address. CONSISTORY_TEST_MODEL replaces the embedded model.

    Args:
        options: arguments of `create_demo`.
    """
    demo = create_demo(model or os.environ.get("CONSISTORY_TEST_MODEL"), device="cpu", **options)
    launch(demo, port=None, library=options.get("library"), prevent_thread_lock=True, quiet=True)
    try:
        yield demo.local_url
    finally:
        demo.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium."""
    path = shutil.which("chromium")
    assert path, "chromium is not installed: run `make setup`, or apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


# -- visiting ------------------------------------------------------------------------------------------------


def visit(browser: Browser, address: str, folded: bool = False) -> Page:
    """Open the page as a new visitor and wait for the model; open the folded groups, unless `folded`."""
    page = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}).new_page()
    page.goto(address)
    wait_for_model(page)
    if not folded:
        unfold(page)
    return page


def wait_for_model(page: Page) -> None:
    expect(page.locator("#model .dot-ready, #model [role=alert]")).to_be_visible(timeout=MODEL_MS)
    assert not page.locator("#model [role=alert]").count(), page.locator("#model").inner_text()


def foreign_requests(page: Page, address: str) -> list[str]:
    """Return a list that collects the URLs which the page requests from other hosts."""
    urls: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            urls.append(request.url)

    page.on("request", note)
    return urls


def enter_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def resize(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})


def expect_fits_a_phone(page: Page) -> None:
    """Check that the page does not scroll sideways at 390 pixels."""
    resize(page, NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    resize(page, WIDE)


# -- the form ------------------------------------------------------------------------------------------------


def fold_button(page: Page, group: str) -> Locator:
    """Return the button that folds and unfolds a group."""
    return page.locator(f"#{group} > .label-wrap")


def unfold(page: Page) -> None:
    """Open the form's folded groups; their boxes do not exist before."""
    for group, last in (("advanced", "#steps input[type=number]"), ("fine-switches", "#masking input")):
        open_group(page, group, last)


def open_group(page: Page, group: str, last: str) -> None:
    """Open a folded group and wait until its boxes can be filled; `last` is one of them.

    Gradio sets the boxes of a group that is opened for the first time once more, a frame after they have
    appeared: what was filled in before is lost.
    """
    fold_button(page, group).click()
    expect(fold_button(page, group)).to_have_class(re.compile("open"))
    expect(page.locator(last)).to_be_visible()
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def number_box(page: Page, name: str) -> Locator:
    return page.locator(f"#{name} input[type=number]")


def slider(page: Page, name: str) -> Locator:
    return page.locator(f"#{name} input[type=range]")


def set_number(page: Page, name: str, value: float) -> None:
    number_box(page, name).fill(str(value))
    number_box(page, name).blur()


def choose(page: Page, name: str, option: str | re.Pattern[str]) -> None:
    """Choose an option of a drop-down list."""
    page.locator(f"#{name} input").click()
    exact = {"exact": True} if isinstance(option, str) else {}
    page.get_by_role("option", name=option, **exact).click()


def write_story(page: Page, subject: str, scenes: Sequence[str], steps: int) -> None:
    page.locator("#subject textarea").fill(subject)
    page.locator("#scenes textarea").fill("\n".join(scenes))
    set_number(page, "steps", steps)


def alert(page: Page, part: str = "status") -> Locator:
    """Return the error message in a part of the page."""
    return page.locator(f"#{part}").get_by_role("alert")


# -- generating ----------------------------------------------------------------------------------------------


def press(page: Page, name: str | re.Pattern[str]) -> None:
    page.get_by_role("button", name=name).click()


def generate(page: Page) -> None:
    press(page, "Generate")


def cancel(page: Page) -> None:
    page.get_by_role("button", name="Cancel", exact=True).click()


def expect_done(page: Page, text: str | re.Pattern[str]) -> None:
    """Wait until the story, or what was added to it, is finished."""
    expect(page.locator("#status .note-done")).to_contain_text(text, timeout=STORY_MS)
    expect(page.locator("#go-on")).to_be_visible()


def generate_short_story(page: Page) -> list[str]:
    """Generate two images of a cat in two steps; return their URLs."""
    write_story(page, "a cat", ["in the forest", "on the beach"], steps=2)
    generate(page)
    expect_done(page, re.compile(r"^2 pictures in "))
    expect(pictures(page)).to_have_count(2)
    wait_for_pictures(page, 2)
    return sources(page)


# -- galleries -----------------------------------------------------------------------------------------------


def thumbnails(page: Page, gallery: str = "pictures") -> Locator:
    return page.locator(f"#{gallery} .thumbnail-item")


def pictures(page: Page) -> Locator:
    return page.locator("#pictures .thumbnail-item img")


def picture_buttons(page: Page) -> Locator:
    return page.locator("#pictures .thumbnail-lg")


def sources(page: Page) -> list[str]:
    return pictures(page).evaluate_all("images => images.map(image => image.src)")


def captions(page: Page) -> list[str]:
    return [text.strip() for text in page.locator("#pictures .caption-label").all_inner_texts()]


def wait_for_pictures(page: Page, count: int) -> None:
    """Wait until at least `count` images are finished and loaded."""
    page.wait_for_function(
        "count => { const all = [...document.querySelectorAll('#pictures .thumbnail-item')]"
        ".filter(item => !item.innerText.includes('being drawn'))"
        ".map(item => item.querySelector('img'));"
        " return all.length >= count && all.slice(0, count).every(image => image.naturalWidth > 0); }",
        arg=count,
        timeout=STORY_MS,
    )


def large_view(page: Page) -> Locator:
    """Return the large view of one image."""
    return page.locator("#pictures .preview")


def large_picture(page: Page) -> Locator:
    return large_view(page).get_by_test_id("detailed-image")


# -- files ---------------------------------------------------------------------------------------------------


def download(page: Page, part: str) -> tuple[str, bytes]:
    """Export with the panel `part` and download the file; return its name and content."""
    page.locator(f"#{part}-make").click()
    button = page.locator(f"#{part}-file")
    expect(button).to_contain_text("Download", timeout=STORY_MS)
    with page.expect_download() as coming:
        button.click()
    with open(coming.value.path(), "rb") as file:
        return coming.value.suggested_filename, file.read()
