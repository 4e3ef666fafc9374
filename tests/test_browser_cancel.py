"""Cancel in a browser, at any time: no error in the console, and a cancelled story is not generated."""

import pytest
from playwright.sync_api import ConsoleMessage, Page, Response, expect

from tests.browser import STORY_MS, generate_short_story, pictures, write_story

LONG = [f"in the forest number {number}" for number in range(1, 13)]


@pytest.fixture
def failures(page: Page) -> list[str]:
    """Failed responses and console errors of the page."""
    found: list[str] = []

    def answered(response: Response) -> None:
        if response.status >= 400:
            found.append(f"{response.status} {response.url.rpartition('/')[2]} {response.request.post_data}")

    def logged(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.append(message.text)

    page.on("response", answered)
    page.on("console", logged)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def _generate(page: Page, steps: int) -> None:
    write_story(page, "a cat", LONG, steps)
    page.get_by_role("button", name="Generate").click()


def _expect_idle(page: Page) -> None:
    expect(page.get_by_role("button", name="Generate")).to_be_enabled(timeout=STORY_MS)
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()


def test_cancel_pressed_twice_leaves_no_error(page: Page, failures: list[str]) -> None:
    _generate(page, steps=100)
    expect(page.locator("#status .progress")).to_contain_text("step", timeout=STORY_MS)
    page.get_by_role("button", name="Cancel").click(click_count=2)
    expect(page.locator("#status")).to_contain_text("Stopped", timeout=STORY_MS)
    expect(pictures(page)).to_have_count(0)
    _expect_idle(page)
    generate_short_story(page)
    assert failures == []
