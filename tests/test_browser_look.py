"""How the page looks where that can be measured: what is in sight, and what stays where it is."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browsing import STORY_MS, expect_done, pictures, set_dial, visit, write_story

SCENES = ["in the forest", "on the beach", "in the snow", "in a library", "in the desert", "in a cafe"]
WIDE, NARROW = (1440, 900), (390, 844)


def _resize(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})


def _top(part: Locator) -> float:
    """How far a part's upper edge is below the window's."""
    return part.evaluate("part => part.getBoundingClientRect().top")


@pytest.fixture(scope="module")
def told(browser: Browser, address: str) -> Iterator[Page]:
    """A story of six scenes, told while the form was scrolled to its end."""
    page = visit(browser, address)
    write_story(page, "a cat", SCENES, steps=2)
    set_dial(page, "batch", 6)
    page.locator("#seeds").scroll_into_view_if_needed()
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status .progress")).to_be_visible()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight - innerHeight - 200)")
    before = page.evaluate("scrollY"), _top(page.locator("#status"))
    expect_done(page, "6 pictures in ")
    expect(page.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
    page.before = before
    yield page
    page.context.close()


def test_pictures_stay_in_sight_when_the_story_ends(told: Page) -> None:
    scrolled, top = told.before
    assert scrolled > WIDE[1]
    assert told.evaluate("scrollY") == scrolled
    assert 0 <= _top(told.locator("#status")) == pytest.approx(top, abs=20)
    expect(pictures(told).first).to_be_in_viewport(ratio=0.9)


@pytest.mark.parametrize("size", [WIDE, (1024, 768), NARROW], ids=str)
def test_a_large_picture_fills_the_window_and_nothing_jumps(told: Page, size: tuple[int, int]) -> None:
    _resize(told, size)
    first = pictures(told).first
    first.scroll_into_view_if_needed()
    scrolled, top = told.evaluate("scrollY"), _top(first)
    first.click()
    large = told.locator("#pictures .preview")
    expect(large).to_have_attribute("role", "dialog")
    frame = large.bounding_box()
    assert (frame["x"], frame["y"], frame["width"], frame["height"]) == (0, 0, *size)
    expect(large.get_by_test_id("detailed-image")).to_be_in_viewport(ratio=1)
    # Nothing lies over it: what is seen at its corners and where Generate stands is its own.
    assert large.evaluate(
        """(large, [width, height]) => [[1, 1], [width - 1, height - 1], [100, height - 40]]
            .every(([x, y]) => large.contains(document.elementFromPoint(x, y)))""",
        size,
    )
    told.evaluate("document.activeElement.blur()")
    told.keyboard.press("Escape")
    expect(large).to_have_count(0)
    assert told.evaluate("scrollY") == scrolled
    assert _top(first) == pytest.approx(top, abs=2)
    _resize(told, WIDE)


def test_the_keyboard_stays_in_a_large_picture(told: Page) -> None:
    pictures(told).nth(1).click()
    large = told.locator("#pictures .preview")
    for _ in range(len(SCENES) + 4):
        told.keyboard.press("Tab")
        assert large.evaluate(
            "large => large.contains(document.activeElement) || document.activeElement === document.body"
        )
    large.get_by_role("button", name="Close").click()
    expect(large).to_have_count(0)
