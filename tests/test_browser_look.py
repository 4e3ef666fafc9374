"""How the page looks where that can be measured: what is in sight, and what stays where it is."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import STORY_MS, expect_done, pictures, set_dial, visit, write_story

SCENES = ["in the forest", "on the beach", "in the snow", "in a library", "in the desert", "in a cafe"]
WIDE, NARROW = (1440, 900), (390, 844)


def _resize(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})


def _top(part: Locator) -> float:
    """How far a part's upper edge is below the window's."""
    return part.evaluate("part => part.getBoundingClientRect().top")


def test_what_acts_on_pictures_comes_with_them(browser: Browser, address: str) -> None:
    page = visit(browser, address, folded=True)
    for part in ("#show_masks", "#export", "#scoring", "#scores", "#fetched"):
        expect(page.locator(part)).to_be_hidden()
    gap = _top(page.locator("#model")) - page.locator("#pictures").evaluate(
        "part => part.getBoundingClientRect().bottom"
    )
    assert 0 < gap < 30
    page.context.close()


@pytest.fixture(scope="module")
def generated(browser: Browser, address: str) -> Iterator[Page]:
    """A story of six scenes, told while the form was scrolled to its end."""
    page = visit(browser, address)
    write_story(page, "a cat", SCENES, steps=2)
    set_dial(page, "batch", 6)
    page.locator("#seeds").scroll_into_view_if_needed()
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status .progress")).to_be_visible()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    before = page.evaluate("scrollY"), _top(page.locator("#status"))
    expect_done(page, "6 pictures in ")
    expect(page.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
    page.before = before
    yield page
    page.context.close()


def test_pictures_stay_in_sight_when_the_story_ends(generated: Page) -> None:
    scrolled, top = generated.before
    assert scrolled > WIDE[1]
    assert generated.evaluate("scrollY") == scrolled
    assert 0 <= _top(generated.locator("#status")) == pytest.approx(top, abs=20)
    expect(pictures(generated).first).to_be_in_viewport(ratio=0.9)


@pytest.mark.parametrize("size", [WIDE, (1024, 768), NARROW], ids=str)
def test_a_large_picture_fills_the_window_and_nothing_jumps(generated: Page, size: tuple[int, int]) -> None:
    _resize(generated, size)
    first = pictures(generated).first
    first.scroll_into_view_if_needed()
    scrolled, top = generated.evaluate("scrollY"), _top(first)
    first.click()
    large = generated.locator("#pictures .preview")
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
    generated.evaluate("document.activeElement.blur()")
    generated.keyboard.press("Escape")
    expect(large).to_have_count(0)
    assert generated.evaluate("scrollY") == scrolled
    assert _top(first) == pytest.approx(top, abs=2)
    _resize(generated, WIDE)


def test_the_keyboard_stays_in_a_large_picture(generated: Page) -> None:
    pictures(generated).nth(1).click()
    large = generated.locator("#pictures .preview")
    for _ in range(len(SCENES) + 4):
        generated.keyboard.press("Tab")
        assert large.evaluate(
            "large => large.contains(document.activeElement) || document.activeElement === document.body"
        )
    large.get_by_role("button", name="Close").click()
    expect(large).to_have_count(0)


LOOK = """(part) => {
  const style = getComputedStyle(part);
  return [style.borderTopWidth, style.borderTopStyle, style.borderTopColor, style.fontSize].join(" ");
}"""


def test_all_boxes_look_alike(generated: Page) -> None:
    for part in ("model-choice", "export"):
        generated.locator(f"#{part} > .label-wrap").click()
    generated.locator("#model-loras").scroll_into_view_if_needed()
    boxes = (
        "#subject textarea",
        "#scene-list li textarea",
        "#seeds textarea",
        "#negative textarea",
        "#new-scene textarea",
    )
    lists = ("#style", "#scheduler", "#model-source", "#export-format", "#again-picture")
    numbers = ("#steps", "#batch", "#anchors", "#mask_dropout")
    for alike in (
        (*boxes, "#model-loras textarea", "#export-title :is(input, textarea)"),
        [f"{part} .wrap:has(> .wrap-inner)" for part in lists],
        [f"{part} .tab-like-container" for part in numbers],
        [f"{part} input[type=number]" for part in numbers],
    ):
        looks = {part: generated.locator(part).first.evaluate(LOOK) for part in alike}
        assert len(set(looks.values())) == 1, looks
    for part in ("#model-choice", "#words", "#export", "#scoring", "#advanced", ".form:has(> #show_masks)"):
        expect(generated.locator(part)).to_have_css("border-top-style", "solid")
        expect(generated.locator(part)).to_have_css("border-top-width", "1px")


@pytest.mark.parametrize(("width", "columns"), [(1440, 2), (1024, 1), (390, 1)])
def test_switches_stand_in_two_columns_at_most(generated: Page, width: int, columns: int) -> None:
    _resize(generated, (width, 900))
    for row in generated.locator("#fine-switches .switches").all():
        blocks = [block.bounding_box() for block in row.locator(".form > .block").all()]
        assert len({round(block["x"]) for block in blocks}) == columns
        assert min(block["width"] for block in blocks) >= 190
    _resize(generated, WIDE)


def test_what_has_no_effect_looks_like_it(generated: Page) -> None:
    def colour(name: str) -> str:
        return generated.locator(f"#{name} :is(.label-text, [data-testid=block-info])").evaluate(
            "label => getComputedStyle(label).color"
        )

    assert colour("mask_dropout") == colour("masking")
    generated.get_by_label("Subject masks").uncheck()
    expect(generated.locator("#mask_dropout input[type=range]")).to_be_disabled()
    assert colour("mask_dropout") != colour("masking")
    generated.get_by_label("Subject masks").check()
    expect(generated.locator("#mask_dropout input[type=range]")).to_be_enabled()


def test_a_refusal_is_brought_into_sight(generated: Page) -> None:
    for part in ("#show_masks", "#export", "#scoring", "#scores"):
        expect(generated.locator(part)).to_be_visible()
    generated.locator("#words").scroll_into_view_if_needed()
    expect(generated.locator("#status")).not_to_be_in_viewport()
    generated.locator("#subject textarea").fill("")
    generated.get_by_role("button", name="Generate").click()
    expect(generated.locator("#status [role=alert]")).to_be_in_viewport(ratio=1)
    expect(generated.locator(".toast-body")).to_have_count(0)
