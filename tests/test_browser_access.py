"""Accessibility: every tab audited by axe-core, use by keyboard alone, and live announcements."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser import (
    NARROW,
    STORY_MS,
    TOAST,
    TOAST_CLOSE,
    TOAST_TEXT,
    TOAST_TITLE,
    WIDE,
    alert,
    choose,
    enter_tab,
    fold_button,
    generate,
    generate_short_story,
    large_picture,
    large_view,
    picture_buttons,
    pictures,
    resize,
    unfold,
    wait_for_model,
    write_story,
)

LEVEL_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
# Known findings, as (rule, selector) with a reason each.
EXCEPTIONS: dict[tuple[str, str], str] = {}
# Records all announcements of the page.
LISTEN = """window.spoken = [];
addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
  for (const change of changes)
    for (const line of change.addedNodes)
      if (line.parentElement && line.parentElement.id === "voice") window.spoken.push(line.textContent);
}).observe(document.body, {childList: true, subtree: true}));"""
# The focused element: its name, whether it has an outline, and whether it is covered by something.
FOCUSED = """() => {
  const element = document.activeElement, box = element.getBoundingClientRect();
  if (element === document.body) return null;
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const seen = document.elementFromPoint(x, y), style = getComputedStyle(element);
  const name = element.getAttribute("aria-label") || element.labels?.[0]?.innerText || element.innerText;
  return {
    name: name.trim().split("\\n")[0],
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    seen: Boolean(seen) && (element.contains(seen) || seen.contains(element)),
  };
}"""
# Whether nothing covers an element's sides and centre.
SEEN_WHOLE = """(element) => {
  const box = element.getBoundingClientRect();
  return [0.02, 0.5, 0.98].every((share) => element.contains(
    document.elementFromPoint(box.x + share * box.width, box.y + box.height / 2)));
}"""
# Whether every scrollable frame can be focused.
REACHED = """() => [...document.querySelectorAll(".wide, .compare-wide, .about-card pre")]
  .every((frame) => frame.scrollWidth <= frame.clientWidth || frame.tabIndex === 0)"""
# Contrast of an element's border with its background, by WCAG's relative luminance.
BORDER_CONTRAST = """(element) => {
  const luminance = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  let behind = element.parentElement;
  const fill = (part) => getComputedStyle(part).backgroundColor;
  while (/^(rgba\\(0, 0, 0, 0\\)|transparent)$/.test(fill(behind))) behind = behind.parentElement;
  const both = [luminance(getComputedStyle(element).borderTopColor), luminance(fill(behind))];
  return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}"""


@pytest.fixture(scope="module", params=["light", "dark"])
def visitor(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """The page in light and in dark; without animations, which change colours while they are measured."""
    context = browser.new_context(reduced_motion="reduce")
    context.add_init_script(LISTEN)
    page = context.new_page()
    resize(page, WIDE)
    page.goto(f"{address}?__theme={request.param}")
    wait_for_model(page)
    assert page.locator("body.dark").count() == (request.param == "dark")
    yield page
    context.close()


def _findings(page: Page, *sizes: tuple[int, int]) -> set[tuple[str, str, str]]:
    """Run axe on the page as it is: rule, selector and description of every violation.

    A light page is audited in the given sizes, by default wide and narrow. A dark page differs in its colours
    alone, so that their contrast is audited, once.
    """
    dark = page.locator("body.dark").count() > 0
    rules: dict[str, Any] = {"type": "tag", "values": LEVEL_AA}
    if dark:
        rules, sizes = {"type": "rule", "values": ["color-contrast"]}, sizes[:1] or (WIDE,)
    found = set()
    for size in sizes or (WIDE, NARROW):
        resize(page, size)
        page.wait_for_function(REACHED)  # set by the page's script a moment after a resize
        options = {"runOnly": rules, "resultTypes": ["violations"], "preload": False}
        report = Axe().run(page, options=options).response
        assert report["passes"]
        for rule in report["violations"]:
            found |= {(rule["id"], str(node["target"]), node["failureSummary"]) for node in rule["nodes"]}
    resize(page, WIDE)
    return {one for one in found if one[:2] not in EXCEPTIONS}


def test_axe_finds_nothing_in_any_tab(visitor: Page) -> None:
    page = visitor
    unfold(page)
    choose(page, "preset", "SVD quantile")
    expect(fold_button(page, "svd-filter")).to_have_class(re.compile("open"))
    for part in ("words", "model-choice"):
        fold_button(page, part).click()
    found = {"Story, new": _findings(page)}

    page.locator("#subject textarea").fill("")
    generate(page)
    expect(alert(page)).to_be_visible()
    found["Story, error"] = _findings(page, NARROW)

    page.locator("#record_svd input").check()
    generate_short_story(page)
    expect(page.locator("#scores .heat img")).to_have_count(4, timeout=STORY_MS)
    fold_button(page, "svd-plots").click()
    expect(page.locator("#svd-plots figure")).to_have_count(6)
    for part in ("export", "score-settings"):
        fold_button(page, part).click()
    page.locator("#show_masks input").check()
    expect(pictures(page).first).to_have_attribute("src", re.compile("marked"))
    found["Story, finished"] = _findings(page)
    pictures(page).first.click()
    expect(large_view(page)).to_be_visible()
    found["Story, large view"] = _findings(page, WIDE)
    page.keyboard.press("Escape")

    enter_tab(page, "Library")
    page.locator("#library-stories").get_by_role("button", name="a cat").click()
    expect(page.locator("#library-heading h2")).to_have_text("a cat")
    expect(page.locator("#library-story .heat")).to_be_visible()
    found["Library"] = _findings(page)
    enter_tab(page, "About")
    expect(page.locator("#about .part").first).to_be_visible()
    found["About"] = _findings(page)
    enter_tab(page, "Story")
    assert found == {state: set() for state in found}


def test_axe_finds_nothing_in_a_comparison(visitor: Page) -> None:
    page = visitor
    write_story(page, "a cat", ["in the forest", "on the beach"], steps=2)
    enter_tab(page, "Compare")
    expect(page.locator(".compare-story")).to_contain_text("a cat, 2 scenes")
    found = {"Compare, new": _findings(page, WIDE)}
    page.locator("#compare-go").click()
    expect(page.locator("#compare-status .progress")).to_be_visible(timeout=STORY_MS)
    found["Compare, running"] = _findings(page, NARROW)
    expect(page.locator("#compare-status .note-done")).to_contain_text("4 images in", timeout=STORY_MS)
    found["Compare, done"] = _findings(page)
    page.locator("#compare-grid button.large").first.click()
    expect(page.locator("#compare-large")).to_be_visible()
    found["Compare, large view"] = _findings(page, WIDE)
    page.keyboard.press("Escape")
    enter_tab(page, "Story")
    assert found == {state: set() for state in found}


def test_borders_of_boxes_have_contrast(visitor: Page) -> None:
    """WCAG 1.4.11, which axe does not measure: 3 to 1."""
    page = visitor
    if not page.locator("#random_anchors").count():
        unfold(page)
    for part in ("#subject textarea", "#seed input", "#random_anchors input", "#style .container > .wrap"):
        assert page.locator(part).evaluate(BORDER_CONTRAST) >= 3, part


# -- by keyboard -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(browser: Browser, address: str) -> Iterator[Page]:
    """The page of a visitor who uses the keyboard alone; announcements are recorded."""
    context = browser.new_context()
    context.add_init_script(LISTEN)
    page = context.new_page()
    resize(page, WIDE)
    page.goto(address)
    wait_for_model(page)
    yield page
    context.close()


def _tabbed(page: Page) -> list[str]:
    """Return the names of all elements that Tab reaches, in order; each must be outlined and visible."""
    names = []
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
    page.locator("h1").click()
    page.keyboard.press("Tab")
    while now := page.evaluate(FOCUSED):
        assert now["outlined"], f"{now['name']} is not outlined"
        if not now["seen"]:  # an open list above it closes in a moment
            page.wait_for_function(f"() => ({FOCUSED})().seen")
        names.append(now["name"])
        page.keyboard.press("Tab")
    return names


def _follow(names: list[str], wanted: list[str]) -> None:
    """Check that the wanted names come in this order, with any others between them."""
    rest = iter(names)
    for name in wanted:
        assert name in rest, f"{name!r} is not reached, or too early: {names}"


def test_tab_reaches_the_form_in_order(keys: Page) -> None:
    for size in (NARROW, WIDE):
        resize(keys, size)
        names = _tabbed(keys)
        _follow(names, ["Story", "Compare", "Library", "About", "Cat on a journey", "Subject"])
        _follow(names, ["Subject", "Scene 1 of 4", "Move scene 1 down", "Remove scene 1", "Scene 4 of 4"])
        _follow(names, ["Add scene", "Edit as text", "Scene seeds", "Style"])
        _follow(names, ["Seed", "New seed", "Lock the seed"])
        _follow(names, ["Preset", "Method settings", "SVD filter: off", "Advanced: prompt, size, sampling"])
        _follow(names, ["Open story.json or image", "Copy link", "Generate", "Use another model"])
        assert not {"Show subject masks", "Export", "Score settings"} & set(names)


def test_groups_fold_with_enter_and_space(keys: Page) -> None:
    for part, inside in (
        ("advanced", "#steps input[type=number]"),
        ("method-settings", "#sdsa input"),
        ("svd-filter", "#v_as_k input"),
    ):
        button = fold_button(keys, part)
        expect(button).to_have_attribute("aria-expanded", "false")
        button.press("Enter")
        expect(button).to_have_attribute("aria-expanded", "true")
        expect(keys.locator(inside)).to_be_visible()
        button.press("Space")
        expect(button).to_have_attribute("aria-expanded", "false")
        expect(keys.locator(inside)).to_be_hidden()


def test_story_is_generated_viewed_and_announced_by_keyboard(keys: Page) -> None:
    unfold(keys)
    write_story(keys, "a cat", ["in the forest", "on the beach"], steps=8)
    keys.evaluate("window.spoken = []")
    keys.get_by_role("button", name="Generate").press("Enter")
    expect(keys.locator("#status .note-done")).to_contain_text("2 images in", timeout=STORY_MS)
    expect(keys.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
    voice = keys.locator("#voice")
    expect(voice).to_contain_text("Scores: Identity agreement by the storybook reader")
    expect(voice).to_have_attribute("aria-live", "polite")
    spoken = keys.evaluate("window.spoken")
    assert any(re.fullmatch(r"2 images in .*\.", line) for line in spoken)
    progress = [line for line in spoken if re.match(r"Images? ", line)]
    assert 1 <= len(progress) <= 6  # a few of the 32 steps

    first, second = (picture_buttons(keys).nth(at) for at in (0, 1))
    expect(first).to_have_attribute("aria-label", "Image 1 of 2: a photo of a cat in the forest")
    first.press("Enter")
    large = large_picture(keys)
    expect(large).to_have_attribute("alt", "a photo of a cat in the forest")
    expect(keys.locator("#pictures .grid-wrap")).to_have_js_property("inert", True)
    keys.keyboard.press("ArrowRight")
    expect(large).to_have_attribute("alt", "a photo of a cat on the beach")
    keys.keyboard.press("Escape")
    expect(large).to_have_count(0)
    expect(second).to_be_focused()
    _follow(
        _tabbed(keys),
        [
            "Generate",
            "Image 1 of 2: a photo of a cat in the forest",
            "New scene",
            "Redo with a new seed",
        ],
    )


def test_error_is_shown_once_in_the_status(keys: Page) -> None:
    keys.locator("#subject textarea").fill("")
    keys.get_by_role("button", name="Generate").press("Enter")
    message = alert(keys)
    expect(message).to_contain_text("Subject")
    expect(keys.get_by_role("button", name="Generate")).to_be_enabled()
    expect(keys.locator(TOAST)).to_have_count(0)
    assert message.evaluate(SEEN_WHOLE)


def test_gradio_toast_folds_by_keyboard(keys: Page) -> None:
    keys.route("**/gradio_api/queue/join*", lambda route: route.fulfill(status=503, json={}))
    keys.get_by_role("button", name="Generate").press("Enter")
    title = keys.locator(TOAST_TITLE)
    expect(title).to_have_attribute("aria-expanded", "true")
    title.press("Enter")
    expect(keys.locator(TOAST_TEXT)).to_have_count(0)
    expect(title).to_have_attribute("aria-expanded", "false")
    keys.unroute("**/gradio_api/queue/join*")
    keys.locator(TOAST_CLOSE).click()


def test_tab_reaches_the_other_tabs(keys: Page) -> None:
    keys.locator("#subject textarea").fill("a cat")
    enter_tab(keys, "Compare")
    expect(keys.locator(".compare-story")).to_be_visible()
    names = _tabbed(keys)
    _follow(names, ["Compare", "Row 1", "Row 4", "Compare"])
    assert len({name for name in names if name.startswith("Compare: ")}) == 3
    enter_tab(keys, "Library")
    shelf = keys.locator("#library-stories").get_by_role("button", name="a cat")
    shelf.press("Enter")
    expect(keys.locator("#library-heading h2")).to_have_text("a cat")
    names = _tabbed(keys)
    _follow(names, ["Search", "Sort", "Settings", "Open in Story", "Compare …", "Delete", "Export"])
    assert "Image 1 of 2: in the forest" in names
    enter_tab(keys, "About")
    expect(keys.locator("#about .part").first).to_be_visible()
    assert "The paper" in _tabbed(keys)
