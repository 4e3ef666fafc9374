"""The studio in a browser, end to end: a real model, a real server, headless Chromium."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from consistory_svd.downloads import DownloadError
from consistory_svd.studio.components import scores_fetching as fetching
from tests.browser import MODEL_MS, STORY_MS, captions, pictures, set_dial, sources, visit, write_story


def _generate(page: Page) -> None:
    page.get_by_role("button", name="Generate").click()


def _wait_until_pictures_are_drawn(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => { const all = [...document.querySelectorAll('#pictures .thumbnail-item')]"
        ".filter(item => !item.innerText.includes('being drawn'))"
        ".map(item => item.querySelector('img'));"
        " return all.length >= count && all.slice(0, count).every(image => image.naturalWidth > 0); }",
        arg=count,
        timeout=STORY_MS,
    )


def _generate_short_story(page: Page) -> list[str]:
    write_story(page, "a cat", ["in the forest", "on the beach"], steps=2)
    _generate(page)
    expect(page.locator("#status .note-done")).to_have_text(re.compile(r"^2 pictures in "), timeout=STORY_MS)
    _wait_until_pictures_are_drawn(page, 2)
    return sources(page)


def test_a_story_arrives_with_its_scenes_as_captions(page: Page) -> None:
    write_story(page, "a brown dog with a hat", ["in the snow", "in a library", "on the beach"], steps=4)
    expect(page.locator("#concepts textarea")).to_have_value("dog")
    _generate(page)
    said = re.compile(r"Pictures? \d.* of 3, step \d of 4")
    expect(page.locator("#status .progress")).to_contain_text(said, timeout=STORY_MS)
    _wait_until_pictures_are_drawn(page, 3)
    expect(page.locator("#status .note-done")).to_contain_text("3 pictures", timeout=STORY_MS)
    assert captions(page) == ["in the snow", "in a library", "on the beach"]
    whole = "a photo of a brown dog with a hat in a library"
    expect(pictures(page).nth(1)).to_have_attribute("title", whole)
    pictures(page).nth(1).click()
    large = page.locator("#pictures .preview")
    expect(large.get_by_test_id("detailed-image")).to_have_attribute("alt", whole)
    expect(large.locator(".caption")).to_have_attribute("data-subject", "a photo of a brown dog with a hat")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()


def test_cancel_keeps_the_pictures_already_made(page: Page) -> None:
    write_story(page, "a cat", [f"in the forest number {number}" for number in range(1, 13)], steps=10)
    _generate(page)
    _wait_until_pictures_are_drawn(page, 1)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_contain_text(
        re.compile(r"Stopped\. \d+ of 12 pictures made and kept"), timeout=STORY_MS
    )
    kept = int(re.search(r"Stopped\. (\d+)", page.locator("#status").inner_text()).group(1))
    assert 1 <= kept < 12
    expect(pictures(page)).to_have_count(kept)
    _wait_until_pictures_are_drawn(page, kept)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()


@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("Subject", lambda page: page.locator("#subject textarea").fill("")),
        ("Scenes", lambda page: page.locator("#scenes textarea").fill("  \n ")),
        ("Steps", lambda page: set_dial(page, "steps", 1)),
        ("Concept words", lambda page: page.locator("#concepts textarea").fill("teapot")),
        ("Seed", lambda page: page.locator("#seed input").fill("-5")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_field_is_named_and_pictures_stay(
    page: Page, field: str, spoil: Callable[[Page], None]
) -> None:
    before = _generate_short_story(page)
    spoil(page)
    _generate(page)
    expect(page.locator("#status").get_by_role("alert")).to_contain_text(f"{field}:")
    assert sources(page) == before
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_a_concept_word_written_by_hand_is_not_overwritten(page: Page) -> None:
    concept = page.locator("#concepts textarea")
    page.locator("#subject textarea").fill("a red fox")
    expect(concept).to_have_value("fox")
    concept.fill("red fox")
    with page.expect_response(lambda response: "/gradio_api/" in response.url):
        page.locator("#subject textarea").fill("a red fox with a scarf")
    expect(concept).to_have_value("red fox")


def test_examples_fill_the_form(page: Page) -> None:
    page.get_by_role("button", name="Rabbit in watercolor").click()
    expect(page.locator("#subject textarea")).to_have_value("a rabbit with a scarf")
    expect(page.locator("#concepts textarea")).to_have_value("rabbit")
    expect(page.locator("#style input")).to_have_value("a watercolor of")
    expect(page.locator("#scenes textarea")).to_have_value(re.compile(r"sitting on a meadow\n"))


def test_what_has_no_effect_is_disabled_and_says_why(page: Page) -> None:
    dropout = page.locator("#mask_dropout input[type=range]")
    page.get_by_label("Subject masks").uncheck()
    expect(dropout).to_be_disabled()
    expect(page.locator("#mask_dropout")).to_contain_text("no effect while masking is off")
    expect(page.locator("#anchors input[type=range]")).to_be_enabled()
    page.get_by_label("Shared attention (SDSA)").uncheck()
    expect(page.get_by_label("Subject masks")).to_be_disabled()
    page.get_by_label("Feature injection").uncheck()
    expect(page.locator("#anchors input[type=range]")).to_be_disabled()
    page.get_by_label("Shared attention (SDSA)").check()
    expect(page.locator("#anchors input[type=range]")).to_be_enabled()
    expect(dropout).to_be_disabled()


def test_a_preset_sets_the_switches_and_follows_them(page: Page) -> None:
    chosen = page.locator("#preset input")
    expect(chosen).to_have_value("ConsiStory")
    chosen.click()
    page.get_by_role("option", name="Shared attention").click()
    expect(page.get_by_label("Feature injection")).not_to_be_checked()
    expect(page.get_by_label("Short first pass")).to_be_disabled()
    page.get_by_label("Random anchors").check()
    expect(chosen).to_have_value("custom")
    expect(page.locator("#anchors")).to_contain_text("no effect while anchors are random")


def test_passing_a_list_by_keyboard_changes_nothing(page: Page) -> None:
    page.locator("#preset input").click()
    page.get_by_role("option", name="SVD quantile", exact=True).click()
    k, v = (page.locator(f"#{name} input[type=number]") for name in ("k_amount", "v_amount"))
    expect(v).to_have_value("0.05")
    set_dial(page, "k_amount", 0.2)
    expect(v).to_have_value("0.2")  # as K, by the server: it has answered
    for name in ("preset", "k_keep", "k_reweight"):
        page.locator(f"#{name} input").focus()
        page.keyboard.press("Tab")
    page.get_by_label("V as K").press("Enter")  # toggles it, as Space does
    expect(page.locator("#v_amount input[type=range]")).to_be_enabled()
    set_dial(page, "k_amount", 0.3)
    expect(page.locator("#spectrum")).to_contain_text("Spectrum: K quantile 0.3; V quantile 0.2")
    page.get_by_label("V as K").press("Enter")
    expect(v).to_have_value("0.3")
    expect(k).to_have_value("0.3")


def test_a_filtered_story_shows_what_the_filter_did(page: Page) -> None:
    page.locator("#preset input").click()
    page.get_by_role("option", name="SVD quantile", exact=True).click()
    expect(page.locator("#spectrum")).to_contain_text("Spectrum: K and V quantile 0.05")
    for value in ("k_amount", "v_amount"):
        expect(page.locator(f"#{value} input[type=number]")).to_have_value("0.05")
    expect(page.locator("#v_amount input[type=range]")).to_be_disabled()
    page.get_by_label("V as K").uncheck()
    expect(page.locator("#v_amount input[type=range]")).to_be_enabled()
    page.locator("#v_keep input").click()
    page.get_by_role("option", name="count", exact=True).click()
    expect(page.locator("#v_amount")).to_contain_text("V count")
    expect(page.locator("#v_amount input[type=number]")).to_have_value("8")
    expect(page.locator("#preset input")).to_have_value("custom")
    page.get_by_label("Record the spectra").check()
    _generate_short_story(page)
    filter_log = page.locator("#spectra")
    filter_log.get_by_role("button", name="Spectra").click()
    expect(filter_log.locator("figure")).to_have_count(6)
    expect(filter_log).to_contain_text("Anchor 2: 8 of")
    before = filter_log.locator("section").inner_html()
    filter_log.locator("#layer input").click()
    page.get_by_role("option").first.click()
    expect(filter_log.locator("section")).not_to_have_text(re.compile("^$"))
    page.wait_for_function(
        "before => document.querySelector('#spectra section').innerHTML !== before", arg=before
    )


def test_the_subjects_masks_can_be_shown_over_the_pictures(page: Page) -> None:
    before = _generate_short_story(page)
    page.get_by_label("Show the subject masks").check()
    expect(pictures(page).first).not_to_have_attribute("src", before[0])
    _wait_until_pictures_are_drawn(page, len(before))
    assert all("marked" in source for source in sources(page))
    page.get_by_label("Show the subject masks").uncheck()
    expect(pictures(page).first).to_have_attribute("src", before[0])


def test_scores_come_after_the_pictures_and_say_what_they_lack(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object) -> None:
        raise DownloadError("weights: the server did not answer")

    monkeypatch.setattr(fetching, "fetch_weights", no_network)
    before = _generate_short_story(page)
    fetch = page.locator("#fetch")
    expect(fetch).to_contain_text("Fetch DreamSim", timeout=STORY_MS)
    expect(page.locator("#scores .heat")).to_contain_text("Identity agreement by the storybook reader")
    expect(page.locator("#scores .heat img")).to_have_count(4)
    expect(page.locator("#scores .bars .bar")).to_have_count(2)
    expect(page.locator("#scores")).to_contain_text("DreamSim unavailable")
    fetch.click()
    expect(page.locator("#fetched").get_by_role("alert")).to_contain_text("the server did not answer")
    expect(fetch).to_be_enabled()
    assert sources(page) == before
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_dice_rolls_another_seed(page: Page) -> None:
    seed = page.locator("#seed input")
    before = seed.input_value()
    page.get_by_role("button", name="dice").click()
    expect(seed).not_to_have_value(before)


def test_two_visitors_get_their_own_stories(browser: Browser, address: str) -> None:
    first, second = visit(browser, address), visit(browser, address)
    write_story(first, "a cat", ["in the forest", "on the beach"], steps=20)
    write_story(second, "an owl", ["in the snow", "in a library"], steps=2)
    _generate(first)
    expect(first.locator("#status .progress")).to_contain_text("step", timeout=STORY_MS)
    _generate(second)
    expect(second.locator("#status")).to_contain_text("Waiting for your turn")
    _wait_until_pictures_are_drawn(first, 2)
    _wait_until_pictures_are_drawn(second, 2)
    assert captions(first) == ["in the forest", "on the beach"]
    assert captions(second) == ["in the snow", "in a library"]
    for page in (first, second):
        page.context.close()


def test_closing_the_tab_frees_the_model(browser: Browser, address: str) -> None:
    leaving = visit(browser, address)
    write_story(leaving, "a cat", [f"in the forest number {number}" for number in range(1, 101)], steps=200)
    _generate(leaving)
    expect(leaving.locator("#status .progress")).to_contain_text("step", timeout=STORY_MS)
    leaving.context.close()
    staying = visit(browser, address)
    _generate_short_story(staying)  # would wait for twenty thousand steps if the first story went on
    staying.context.close()


def test_the_page_asks_no_other_host(browser: Browser, address: str) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            asked.append(request.url)

    page = browser.new_context().new_page()
    page.on("request", note)
    page.goto(address)
    expect(page.locator("#model .dot-ready")).to_be_visible(timeout=MODEL_MS)
    assert asked == []
    page.context.close()
