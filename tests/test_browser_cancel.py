"""Cancel in a browser, at any time: no error in the console, and a cancelled story is not generated."""

import re
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, Response, Route, expect

from tests.browser import STORY_MS, generate_short_story, pictures, write_story

# Gradio's page cancels an event whose id it has not received yet with the id null, and is answered 422. The
# studio cancels the story by itself.
KNOWN = re.compile(r'422 (cancel|reset) \{"event_id":null.*|.*responded with a status of 422.*')
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


def _unexpected(failures: list[str]) -> list[str]:
    return [failure for failure in failures if not KNOWN.fullmatch(failure)]


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
    assert _unexpected(failures) == []


def test_cancel_before_the_server_has_the_request_stops_it(page: Page, failures: list[str]) -> None:
    """The request to generate arrives after the request to cancel: the studio refuses it."""
    held: list[Route] = []
    asked: list[dict[str, Any]] = []

    def hold(route: Route) -> None:
        asked.append(route.request.post_data_json)
        if len(asked) == 2:  # the first request checks the form, the second generates
            held.append(route)
        else:
            route.continue_()

    write_story(page, "a cat", LONG, steps=200)
    page.route(re.compile("/queue/join"), hold)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_enabled(timeout=STORY_MS)
    while not held:
        page.wait_for_event("request", timeout=STORY_MS)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_contain_text(re.compile("cancelled", re.IGNORECASE), timeout=STORY_MS)
    with page.expect_response(lambda response: "/queue/join" in response.url):
        held[0].continue_()
    page.unroute(re.compile("/queue/join"))
    _expect_idle(page)
    generate_short_story(page)  # would wait for thousands of steps if the first story had started
    assert _unexpected(failures) == []
