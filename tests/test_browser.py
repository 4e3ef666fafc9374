"""Generate in a browser, end to end: a real model, a real server, headless Chromium."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from consistory_svd.downloads import DownloadError
from consistory_svd.studio.components import scores_panel
from tests.browser import (
    STORY_MS,
    alert,
    cancel,
    captions,
    choose,
    expect_done,
    expect_fits_a_phone,
    fold_button,
    generate,
    generate_short_story,
    large_picture,
    large_view,
    number_box,
    pictures,
    press,
    scene_boxes,
    set_number,
    slider,
    sources,
    visit,
    wait_for_pictures,
    write_story,
)


@pytest.fixture(scope="module")
def finished(browser: Browser, address: str) -> Iterator[Page]:
    """A page with a generated story of two images."""
    page = visit(browser, address)
    generate_short_story(page)
    yield page
    page.context.close()


def test_images_arrive_with_their_scenes_as_captions(page: Page) -> None:
    write_story(page, "a brown dog with a hat", ["in the snow", "in a library", "on the beach"], steps=4)
    expect(page.locator("#concepts textarea")).to_have_value("dog")
    generate(page)
    progress = re.compile(r"Images? \d.* of 3, step \d of 4")
    expect(page.locator("#status .progress")).to_contain_text(progress, timeout=STORY_MS)
    expect_done(page, "3 images")
    wait_for_pictures(page, 3)
    assert captions(page) == ["in the snow", "in a library", "on the beach"]
    prompt = "a photo of a brown dog with a hat in a library"
    expect(pictures(page).nth(1)).to_have_attribute("title", prompt)
    pictures(page).nth(1).click()
    expect(large_picture(page)).to_have_attribute("alt", prompt)
    expect(large_view(page).locator(".caption")).to_have_attribute(
        "data-subject", "a photo of a brown dog with a hat"
    )
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    expect(page.get_by_role("button", name="Cancel")).to_be_disabled()


def test_cancel_keeps_finished_images(page: Page) -> None:
    write_story(page, "a cat", [f"in the forest number {number}" for number in range(1, 8)], steps=6)
    generate(page)
    wait_for_pictures(page, 1)
    cancel(page)
    stopped = re.compile(r"Stopped\. (\d+) of 7 images")
    expect(page.locator("#status")).to_contain_text(stopped, timeout=STORY_MS)
    count = int(stopped.search(page.locator("#status").inner_text()).group(1))
    assert 1 <= count < 7
    expect(pictures(page)).to_have_count(count)
    wait_for_pictures(page, count)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_error_names_the_field_and_images_stay(finished: Page) -> None:
    before = sources(finished)
    subject, scenes = finished.locator("#subject textarea"), finished.locator("#scenes .scene-text")
    press(finished, "Edit as text")
    concepts, seed = finished.locator("#concepts textarea"), finished.locator("#seed input")
    for field, wrong, right in (
        ("Subject", lambda: subject.fill(""), lambda: subject.fill("a cat")),
        ("Scenes", lambda: scenes.fill("  \n "), lambda: scenes.fill("in the forest\non the beach")),
        ("Steps", lambda: set_number(finished, "steps", 1), lambda: set_number(finished, "steps", 2)),
        ("Concept words", lambda: concepts.fill("teapot"), lambda: concepts.fill("cat")),
        ("Seed", lambda: seed.fill("-5"), lambda: seed.fill("7")),
    ):
        wrong()
        generate(finished)
        expect(alert(finished)).to_contain_text(re.compile(rf"^{field}\b"))
        assert sources(finished) == before
        expect(finished.get_by_role("button", name="Generate")).to_be_enabled()
        right()


def test_scores_follow_the_images_and_show_what_is_missing(
    finished: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object) -> None:
        raise DownloadError("weights: the server cannot be reached")

    monkeypatch.setattr(scores_panel, "fetch_weights", no_network)
    before = sources(finished)
    fetch = finished.locator("#fetch")
    expect(fetch).to_contain_text("DreamSim", timeout=STORY_MS)
    expect(finished.locator("#scores .heat")).to_contain_text("Identity agreement by the storybook reader")
    expect(finished.locator("#scores .heat img")).to_have_count(4)
    expect(finished.locator("#scores .bars .bar")).to_have_count(2)
    expect(finished.locator("#scores")).to_contain_text("DreamSim")
    fetch.click()
    expect(alert(finished, "fetch-status")).to_contain_text("the server cannot be reached")
    expect(fetch).to_be_enabled()
    assert sources(finished) == before
    expect_fits_a_phone(finished)


def test_subject_masks_are_shown_over_the_images(finished: Page) -> None:
    before = sources(finished)
    switch = finished.locator("#show_masks input")
    switch.check()
    expect(pictures(finished).first).not_to_have_attribute("src", before[0])
    wait_for_pictures(finished, len(before))
    assert all("marked" in source for source in sources(finished))
    switch.uncheck()
    expect(pictures(finished).first).to_have_attribute("src", before[0])


def test_filtered_story_shows_what_the_filter_did(page: Page) -> None:
    choose(page, "preset", "SVD quantile")
    expect(page.locator("#svd-filter")).to_contain_text("K and V quantile 0.05")
    expect(number_box(page, "k_quantile")).to_have_value("0.05")
    expect(page.locator("#v_keep")).to_be_hidden()
    page.locator("#v_as_k input").uncheck()
    expect(number_box(page, "v_quantile")).to_have_value("0.05")
    choose(page, "v_keep", "count")
    expect(page.locator("#v_count")).to_contain_text("V count")
    expect(number_box(page, "v_count")).to_have_value("8")
    expect(page.locator("#v_quantile")).to_have_count(0)
    expect(page.locator("#preset input")).not_to_have_value("SVD quantile")
    page.locator("#record_svd input").check()
    generate_short_story(page)
    log = page.locator("#svd-plots")
    fold_button(page, "svd-plots").click()
    expect(log.locator("figure")).to_have_count(6)
    expect(log).to_contain_text("Anchor 2: 8 of")
    before = log.locator("section").inner_html()
    log.locator("#layer input").click()
    page.get_by_role("option").first.click()
    page.wait_for_function(
        "before => { const now = document.querySelector('#svd-plots section').innerHTML;"
        " return now && now !== before; }",
        arg=before,
    )


# -- the form ------------------------------------------------------------------------------------------------


def test_concept_word_written_by_hand_is_kept(form: Page) -> None:
    with form.expect_response(lambda response: "/gradio_api/" in response.url):
        press(form, "Cat on a journey")
    concept = form.locator("#concepts textarea")
    expect(concept).to_have_value("cat")
    form.locator("#subject textarea").fill("a red fox")
    expect(concept).to_have_value("fox")
    concept.fill("red fox")
    with form.expect_response(lambda response: "/gradio_api/" in response.url):
        form.locator("#subject textarea").fill("a red fox with a scarf")
    expect(concept).to_have_value("red fox")


def test_examples_fill_the_form(form: Page) -> None:
    press(form, "Rabbit in watercolor")
    expect(form.locator("#subject textarea")).to_have_value("a rabbit with a scarf")
    expect(form.locator("#concepts textarea")).to_have_value("rabbit")
    expect(form.locator("#style input")).to_have_value("a watercolor of")
    expect(scene_boxes(form).first).to_have_value("sitting on a meadow")


def test_settings_without_effect_are_disabled_with_the_reason(form: Page) -> None:
    dropout, masking = slider(form, "mask_dropout"), form.locator("#masking input")
    choose(form, "preset", "Plain")
    expect(masking).to_be_disabled()
    choose(form, "preset", "ConsiStory")
    expect(masking).to_be_enabled()
    masking.uncheck()
    expect(dropout).to_be_disabled()
    expect(form.locator("#mask_dropout")).to_contain_text(re.compile("No effect while .* is off"))
    expect(slider(form, "anchors")).to_be_enabled()
    form.locator("#sdsa input").uncheck()
    expect(masking).to_be_disabled()
    form.locator("#injection input").uncheck()
    expect(slider(form, "anchors")).to_be_disabled()
    form.locator("#sdsa input").check()
    expect(slider(form, "anchors")).to_be_enabled()
    expect(dropout).to_be_disabled()


def test_preset_sets_the_switches_and_follows_them(form: Page) -> None:
    choose(form, "preset", "ConsiStory")
    expect(form.locator("#injection input")).to_be_checked()
    choose(form, "preset", "Shared attention")
    expect(form.locator("#injection input")).not_to_be_checked()
    expect(form.locator("#short_first_pass input")).to_be_disabled()
    form.locator("#random_anchors input").check()
    expect(form.locator("#preset input")).not_to_have_value("Shared attention")
    expect(form.locator("#anchors")).to_contain_text(re.compile("No effect while .* is on"))
    form.locator("#random_anchors input").uncheck()
    expect(form.locator("#preset input")).to_have_value("Shared attention")


def test_tabbing_through_a_list_changes_nothing(form: Page) -> None:
    choose(form, "preset", "SVD quantile")
    k, v = (number_box(form, name) for name in ("k_quantile", "v_quantile"))
    set_number(form, "k_quantile", 0.2)
    expect(form.locator("#svd-filter")).to_contain_text("K and V quantile 0.2")
    for name in ("preset", "k_keep", "k_reweight"):
        form.locator(f"#{name} input").focus()
        form.keyboard.press("Tab")
    form.locator("#v_as_k input").press("Enter")  # toggles, as Space does
    expect(v).to_have_value("0.2")  # as K, set by the server
    set_number(form, "k_quantile", 0.3)
    expect(form.locator("#svd-filter")).to_contain_text("K quantile 0.3; V quantile 0.2")
    form.locator("#v_as_k input").press("Enter")
    expect(v).to_be_hidden()
    expect(k).to_have_value("0.3")


def test_dice_rolls_another_seed(form: Page) -> None:
    seed = form.locator("#seed input")
    before = seed.input_value()
    press(form, "New seed")
    expect(seed).not_to_have_value(before)


def test_closing_the_page_stops_its_story(browser: Browser, address: str) -> None:
    leaving = visit(browser, address)
    write_story(leaving, "a cat", [f"in the forest number {number}" for number in range(1, 101)], steps=200)
    generate(leaving)
    expect(leaving.locator("#status .progress")).to_contain_text("step", timeout=STORY_MS)
    leaving.context.close()
    staying = visit(browser, address)
    generate_short_story(staying)  # would wait for twenty thousand steps if the first story went on
    staying.context.close()
