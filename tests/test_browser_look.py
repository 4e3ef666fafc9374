"""The page's layout where it can be measured: what is in view, and what must not move."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import (
    NARROW,
    STORY_MS,
    TOAST,
    WIDE,
    alert,
    expect_done,
    generate,
    large_picture,
    large_view,
    pictures,
    resize,
    set_number,
    slider,
    visit,
    write_story,
)

SCENES = ["in the forest", "on the beach", "in the snow", "in a library", "in the desert", "in a cafe"]


def _top(part: Locator) -> float:
    """Return the distance of a part's upper edge from that of the window."""
    return part.evaluate("part => part.getBoundingClientRect().top")


@pytest.fixture(scope="module")
def generated(browser: Browser, address: str) -> Iterator[Page]:
    """A page with a story of six scenes, generated while the form was scrolled to its end."""
    page = visit(browser, address)
    write_story(page, "a cat", SCENES, steps=2)
    set_number(page, "batch", 6)
    page.locator("#seeds").scroll_into_view_if_needed()
    generate(page)
    expect(page.locator("#status .progress")).to_be_visible()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    before = page.evaluate("scrollY"), _top(page.locator("#status"))
    expect_done(page, "6 pictures in ")
    expect(page.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
    page.before = before
    yield page
    page.context.close()


def test_images_stay_in_view_when_the_story_ends(generated: Page) -> None:
    scrolled, top = generated.before
    assert scrolled > WIDE[1]
    assert generated.evaluate("scrollY") == scrolled
    assert 0 <= _top(generated.locator("#status")) == pytest.approx(top, abs=20)
    expect(pictures(generated).first).to_be_in_viewport(ratio=0.9)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=str)
def test_large_view_fills_the_window_and_scrolls_nothing(generated: Page, size: tuple[int, int]) -> None:
    resize(generated, size)
    first = pictures(generated).first
    first.scroll_into_view_if_needed()
    scrolled, top = generated.evaluate("scrollY"), _top(first)
    first.click()
    large = large_view(generated)
    expect(large).to_have_attribute("role", "dialog")
    frame = large.bounding_box()
    assert (frame["x"], frame["y"], frame["width"], frame["height"]) == (0, 0, *size)
    expect(large_picture(generated)).to_be_in_viewport(ratio=1)
    # Nothing covers it, neither at its corners nor where Generate is.
    assert large.evaluate(
        """(large, [width, height]) => [[1, 1], [width - 1, height - 1], [100, height - 40]]
            .every(([x, y]) => large.contains(document.elementFromPoint(x, y)))""",
        size,
    )
    generated.evaluate("document.activeElement.blur()")
    generated.keyboard.press("Escape")
    expect(large).to_have_count(0)
    assert generated.evaluate("scrollY") == scrolled
    assert _top(first) == pytest.approx(top, abs=2)
    resize(generated, WIDE)


def test_focus_stays_in_the_large_view(generated: Page) -> None:
    pictures(generated).nth(1).click()
    large = large_view(generated)
    for _ in range(len(SCENES) + 4):
        generated.keyboard.press("Tab")
        assert large.evaluate(
            "large => large.contains(document.activeElement) || document.activeElement === document.body"
        )
    large.get_by_role("button", name="Close").click()
    expect(large).to_have_count(0)


def test_disabled_settings_look_disabled(generated: Page) -> None:
    def colour(name: str) -> str:
        return generated.locator(f"#{name} :is(.label-text, [data-testid=block-info])").evaluate(
            "label => getComputedStyle(label).color"
        )

    assert colour("mask_dropout") == colour("masking")
    generated.locator("#masking input").uncheck()
    expect(slider(generated, "mask_dropout")).to_be_disabled()
    assert colour("mask_dropout") != colour("masking")
    generated.locator("#masking input").check()
    expect(slider(generated, "mask_dropout")).to_be_enabled()


def test_error_is_scrolled_into_view(generated: Page) -> None:
    for part in ("#show_masks", "#export", "#scoring", "#scores"):
        expect(generated.locator(part)).to_be_visible()
    generated.locator("#words").scroll_into_view_if_needed()
    expect(generated.locator("#status")).not_to_be_in_viewport()
    generated.locator("#subject textarea").fill("")
    generate(generated)
    expect(alert(generated)).to_be_in_viewport(ratio=1)
    expect(generated.locator(TOAST)).to_have_count(0)
