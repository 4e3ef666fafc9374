"""Cancel at any time, in a browser: nothing fails in the console, and what is cancelled is not told."""

import re
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, Response, Route, expect

from tests.browser import STORY_MS, generate_short_story, write_story

# Gradio's page calls back, with number null, an event whose number it has not got yet. Both requests end
# there: the studio stops the story by itself, whatever becomes of them.
NULL = re.compile(r'422 (cancel|reset) \{"event_id":null.*|.*responded with a status of 422.*')
LONG = [f"in the forest number {number}" for number in range(1, 13)]


@pytest.fixture
def troubles(page: Page) -> list[str]:
    """What fails on the page: responses, by status and path, and errors in the console."""
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


def _ours(troubles: list[str]) -> list[str]:
    return [trouble for trouble in troubles if not NULL.fullmatch(trouble)]


def _generate(page: Page, steps: int) -> None:
    write_story(page, "a cat", LONG, steps)
    page.get_by_role("button", name="Generate").click()


def _expect_rest(page: Page) -> None:
    expect(page.get_by_role("button", name="Generate")).to_be_enabled(timeout=STORY_MS)
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()


@pytest.mark.parametrize("presses", [1, 2])
def test_cancel_in_the_middle_leaves_no_error(page: Page, troubles: list[str], presses: int) -> None:
    _generate(page, steps=100)
    expect(page.locator("#status .progress")).to_contain_text("step", timeout=STORY_MS)
    page.get_by_role("button", name="Cancel").click(click_count=presses)
    expect(page.locator("#status")).to_contain_text("Stopped", timeout=STORY_MS)
    _expect_rest(page)
    generate_short_story(page)
    assert _ours(troubles) == []


def test_cancel_before_the_story_is_known_to_the_page_stops_it_too(page: Page, troubles: list[str]) -> None:
    """Gradio's page calls an event back as soon as Cancel is pressed. Where it knows no number of it
    yet, it asks for number null, twice, and is answered 422: there is nothing to call back, and no page of
    ours could keep it from asking. The story comes, and the studio refuses it."""
    held: list[Route] = []
    asked: list[dict[str, Any]] = []

    def hold(route: Route) -> None:
        asked.append(route.request.post_data_json)
        if len(asked) == 2:  # the form is looked at in the first, the story is told in the second
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
    expect(page.locator("#status")).to_contain_text("Cancelled before your story began", timeout=STORY_MS)
    with page.expect_response(lambda response: "/queue/join" in response.url):
        held[0].continue_()
    page.unroute(re.compile("/queue/join"))
    _expect_rest(page)
    generate_short_story(page)  # would wait for thousands of steps if the first story had begun
    assert any("422 cancel" in trouble for trouble in troubles)  # else this exception can go
    assert _ours(troubles) == []
