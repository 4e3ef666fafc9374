"""Whether everybody can use the studio: every room audited by axe-core, in light and dark, wide and narrow;
by keyboard alone; and what a screen reader is told."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser import MODEL_MS, STORY_MS, generate_short_story, pictures, unfold, write_story

LEVEL_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
WIDE, NARROW = (1440, 900), (390, 844)
# What cannot be cured, as (rule, selector) and a reason each. There is nothing.
EXCEPTIONS: dict[tuple[str, str], str] = {}
# What the page says aloud is kept from the beginning on.
LISTEN = """window.spoken = [];
addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
  for (const change of changes)
    for (const line of change.addedNodes)
      if (line.parentElement && line.parentElement.id === "voice") window.spoken.push(line.textContent);
}).observe(document.body, {childList: true, subtree: true}));"""
# The element with the focus: what it is called, whether it is outlined, and whether something lies over it.
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
# Whether nothing lies over an element's corners or its middle.
SEEN_WHOLE = """(element) => {
  const box = element.getBoundingClientRect();
  return [0.02, 0.5, 0.98].every((share) => element.contains(
    document.elementFromPoint(box.x + share * box.width, box.y + box.height / 2)));
}"""
# Whether all that scrolls within its own frame can be reached by keyboard.
REACHED = """() => [...document.querySelectorAll(".wide, .compare-wide, .about-card pre")]
  .every((frame) => frame.scrollWidth <= frame.clientWidth || frame.tabIndex === 0)"""
# Contrast of an element's border with what lies behind it, by WCAG's relative luminance.
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


def _enter(page: Page, room: str) -> None:
    page.get_by_role("tab", name=room).click()


@pytest.fixture(scope="module", params=["light", "dark"])
def visitor(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """A visitor of a light and of a dark page, before any story. Colours do not fade: they would be measured
    half-way."""
    context = browser.new_context(reduced_motion="reduce")
    context.add_init_script(LISTEN)
    page = context.new_page()
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    page.goto(f"{address}?__theme={request.param}")
    expect(page.locator("#model .dot-ready")).to_be_visible(timeout=MODEL_MS)
    assert page.locator("body.dark").count() == (request.param == "dark")
    yield page
    context.close()


def _findings(page: Page, *sizes: tuple[int, int]) -> set[tuple[str, str, str]]:
    """What axe finds in the page as it is, by default wide and narrow: rule, selector, what is wrong."""
    found = set()
    rules: dict[str, Any] = {"type": "tag", "values": LEVEL_AA}
    for width, height in sizes or (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(REACHED)  # the page's script looks at its scrollers a moment after a resize
        report = (
            Axe()
            .run(page, options={"runOnly": rules, "resultTypes": ["violations"], "preload": False})
            .response
        )
        assert len(report["passes"]) > 10
        for rule in report["violations"]:
            found |= {(rule["id"], str(node["target"]), node["failureSummary"]) for node in rule["nodes"]}
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    return {one for one in found if one[:2] not in EXCEPTIONS}


def test_axe_finds_nothing_in_any_room(visitor: Page) -> None:
    page = visitor
    unfold(page)
    page.locator("#preset input").click()
    page.get_by_role("option", name="SVD quantile", exact=True).click()
    expect(page.locator("#spectrum > .label-wrap")).to_have_class(re.compile("open"))
    for part in ("words", "model-choice"):
        page.locator(f"#{part} > .label-wrap").click()
    found = {"Story, new": _findings(page)}

    page.locator("#subject textarea").fill("")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status [role=alert]")).to_be_visible()
    found["Story, a wrong field"] = _findings(page, NARROW)

    page.get_by_label("Record the spectra").check()
    generate_short_story(page)
    expect(page.locator("#scores .heat img")).to_have_count(4, timeout=STORY_MS)
    page.locator("#spectra > .label-wrap").click()
    expect(page.locator("#spectra figure")).to_have_count(6)
    for part in ("export", "scoring"):
        page.locator(f"#{part} > .label-wrap").click()
    page.get_by_label("Show the subject masks").check()
    expect(pictures(page).first).to_have_attribute("src", re.compile("marked"))
    found["Story, told"] = _findings(page)
    pictures(page).first.click()
    expect(page.locator("#pictures .preview")).to_be_visible()
    found["Story, a picture large"] = _findings(page, WIDE)
    page.keyboard.press("Escape")

    _enter(page, "Library")
    page.locator("#shelf").get_by_role("button", name="a cat").click()
    expect(page.locator("#library-heading h2")).to_have_text("a cat")
    expect(page.locator("#library-story .heat")).to_be_visible()
    found["Library"] = _findings(page)
    _enter(page, "About")
    expect(page.locator("#about .part").first).to_be_visible()
    found["About"] = _findings(page)
    _enter(page, "Story")
    assert found == {room: set() for room in found}


def test_axe_finds_nothing_in_a_comparison(visitor: Page) -> None:
    page = visitor
    write_story(page, "a cat", ["in the forest", "on the beach"], steps=2)
    _enter(page, "Compare")
    expect(page.locator(".compare-story")).to_contain_text("a cat, 2 scenes")
    found = {"Compare, new": _findings(page, WIDE)}
    page.locator("#compare-go").click()
    expect(page.locator("#compare-status .progress")).to_be_visible(timeout=STORY_MS)
    found["Compare, at work"] = _findings(page, NARROW)
    expect(page.locator("#compare-status .note-done")).to_contain_text("4 pictures in", timeout=STORY_MS)
    found["Compare, done"] = _findings(page)
    page.locator("#compare-grid button.large").first.click()
    expect(page.locator("#compare-large")).to_be_visible()
    found["Compare, a picture large"] = _findings(page, WIDE)
    page.keyboard.press("Escape")
    _enter(page, "Story")
    assert found == {room: set() for room in found}


def test_boxes_are_known_by_their_lines(visitor: Page) -> None:
    """WCAG 1.4.11, which axe does not measure: 3 to 1."""
    page = visitor
    if not page.locator("#random_anchors").count():
        unfold(page)
    for part in ("#subject textarea", "#seed input", "#random_anchors input", "#style .container > .wrap"):
        assert page.locator(part).evaluate(BORDER_CONTRAST) >= 3, part


# -- by keyboard -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(browser: Browser, address: str) -> Iterator[Page]:
    """A visitor who uses the keyboard alone, and listens."""
    context = browser.new_context()
    context.add_init_script(LISTEN)
    page = context.new_page()
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    page.goto(address)
    expect(page.locator("#model .dot-ready")).to_be_visible(timeout=MODEL_MS)
    yield page
    context.close()


def _tabbed(page: Page) -> list[str]:
    """The names of all that Tab reaches, from the page's first to its last; each has to be seen."""
    names = []
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
    page.locator("h1").click()
    page.keyboard.press("Tab")
    while now := page.evaluate(FOCUSED):
        assert now["outlined"], f"{now['name']} is not outlined"
        if not now["seen"]:  # a list that was open above it goes in a moment
            page.wait_for_function(f"() => ({FOCUSED})().seen")
        names.append(now["name"])
        page.keyboard.press("Tab")
    return names


def _follow(names: list[str], wanted: list[str]) -> None:
    """Assert that the wanted names come in this order, whatever stands between them."""
    rest = iter(names)
    for name in wanted:
        assert name in rest, f"{name!r} is not reached, or too early: {names}"


def test_tab_reaches_the_form_in_its_order(keys: Page) -> None:
    for width, height in (NARROW, WIDE):
        keys.set_viewport_size({"width": width, "height": height})
        names = _tabbed(keys)
        _follow(names, ["Story", "Compare", "Library", "About", "Cat on a journey", "Subject"])
        _follow(names, ["Subject", "Scene 1 of 4", "Move scene 1 down", "Remove scene 1", "Scene 4 of 4"])
        _follow(names, ["Add a scene", "Edit as text", "Style", "Seed", "Roll the dice", "Lock the seed"])
        _follow(names, ["Preset", "Fine switches", "Spectrum: off", "Advanced: words, size, sampling"])
        _follow(names, ["Open a story.json or picture", "Copy link", "Generate", "Use another model"])
        assert not {"Show the subject masks", "Take it along", "How scores are computed"} & set(names)


def test_groups_are_folded_by_enter_and_space(keys: Page) -> None:
    for part, inside in (
        ("advanced", "#steps input[type=number]"),
        ("fine-switches", "#sdsa input"),
        ("spectrum", "#v_as_k input"),
    ):
        button = keys.locator(f"#{part} > .label-wrap")
        expect(button).to_have_attribute("aria-expanded", "false")
        button.press("Enter")
        expect(button).to_have_attribute("aria-expanded", "true")
        expect(keys.locator(inside)).to_be_visible()
        button.press("Space")
        expect(button).to_have_attribute("aria-expanded", "false")
        expect(keys.locator(inside)).to_be_hidden()


def test_a_story_is_told_looked_at_and_heard_by_keyboard(keys: Page) -> None:
    unfold(keys)
    write_story(keys, "a cat", ["in the forest", "on the beach"], steps=8)
    keys.evaluate("window.spoken = []")
    keys.get_by_role("button", name="Generate").press("Enter")
    expect(keys.locator("#status .note-done")).to_contain_text("2 pictures in", timeout=STORY_MS)
    expect(keys.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
    voice = keys.locator("#voice")
    expect(voice).to_contain_text("Scores: Identity agreement by the storybook reader")
    expect(voice).to_have_attribute("aria-live", "polite")
    spoken = keys.evaluate("window.spoken")
    assert any(re.fullmatch(r"2 pictures in .*\.", line) for line in spoken)
    on_the_way = [line for line in spoken if re.match(r"Pictures? ", line)]
    assert 1 <= len(on_the_way) <= 6  # of two passes of 16 steps each

    first, second = (keys.locator("#pictures .thumbnail-lg").nth(at) for at in (0, 1))
    expect(first).to_have_attribute("aria-label", "Picture 1 of 2: a photo of a cat in the forest")
    first.press("Enter")
    large = keys.locator("#pictures .preview [data-testid=detailed-image]")
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
            "Picture 1 of 2: a photo of a cat in the forest",
            "A scene more",
            "Redo with another seed",
        ],
    )


def test_an_error_is_said_once_where_the_status_stands(keys: Page) -> None:
    keys.locator("#subject textarea").fill("")
    keys.get_by_role("button", name="Generate").press("Enter")
    alert = keys.locator("#status [role=alert]")
    expect(alert).to_contain_text("Subject:")
    expect(keys.get_by_role("button", name="Generate")).to_be_enabled()
    expect(keys.locator(".toast-body")).to_have_count(0)
    assert alert.evaluate(SEEN_WHOLE)


def test_a_message_of_gradios_own_is_folded_by_keyboard(keys: Page) -> None:
    keys.route("**/gradio_api/queue/join*", lambda route: route.fulfill(status=503, json={}))
    keys.get_by_role("button", name="Generate").press("Enter")
    title = keys.locator(".toast-title-row")
    expect(title).to_have_attribute("aria-expanded", "true")
    title.press("Enter")
    expect(keys.locator(".toast-text")).to_have_count(0)
    expect(title).to_have_attribute("aria-expanded", "false")
    keys.unroute("**/gradio_api/queue/join*")
    keys.locator(".toast-close").click()


def test_the_other_rooms_are_reached_by_tab(keys: Page) -> None:
    keys.locator("#subject textarea").fill("a cat")
    _enter(keys, "Compare")
    expect(keys.locator(".compare-story")).to_be_visible()
    names = _tabbed(keys)
    _follow(names, ["Compare", "Setting 1", "Setting 4", "Compare"])
    assert len({name for name in names if name.startswith("Make this figure: ")}) == 3
    _enter(keys, "Library")
    shelf = keys.locator("#shelf").get_by_role("button", name="a cat")
    shelf.press("Enter")
    expect(keys.locator("#library-heading h2")).to_have_text("a cat")
    names = _tabbed(keys)
    _follow(names, ["Search", "Sort", "Settings", "Open in Story", "Compare …", "Delete", "Take it along"])
    assert "Picture 1 of 2: in the forest" in names
    _enter(keys, "About")
    expect(keys.locator("#about .part").first).to_be_visible()
    assert "The paper" in _tabbed(keys)
