"""The Story tab in a browser: the list of scenes, continuing a story, files and links."""

import base64
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from consistory_svd.metadata import read_frame, write_story_json
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Story
from consistory_svd.studio.form import LINK_PARAMETER, decode_link, encode_link
from tests.browser import (
    NARROW,
    STORY_MS,
    WIDE,
    alert,
    cancel,
    captions,
    choose,
    expect_done,
    expect_fits_a_phone,
    expect_scene_seeds,
    expect_scenes,
    generate,
    generate_short_story,
    number_box,
    pictures,
    press,
    resize,
    scene_boxes,
    set_number,
    sources,
    visit,
    wait_for_model,
    wait_for_pictures,
    write_story,
)

GENERATED = Story(
    "a red fox",
    ("in the snow", ("on the beach", 91), "in a library"),
    style="a watercolor of",
    concepts=("fox",),
    negative="text",
    seed=77,
)
WITH = Settings(
    steps=9,
    guidance=3.5,
    width=192,
    height=256,
    masking=False,
    batch=2,
    k_filter=SVDFilter("count", 12),
    v_filter=SVDFilter("energy", 0.9, "exp", 0.5),
)


def scene(page: Page, number: int):
    return scene_boxes(page).nth(number - 1)


# -- the list of scenes --------------------------------------------------------------------------------------


@pytest.fixture
def scenes(form: Page) -> Page:
    """The form with four scenes."""
    press(form, "Owl at night")
    expect_scenes(form, "under the night sky", "in the forest", "in a library", "at the castle")
    press(form, "Cat on a journey")
    expect_scenes(form, "in the forest", "on the beach", "in the snow", "in a library")
    return form


def test_scenes_are_added_moved_and_removed_by_keyboard(scenes: Page) -> None:
    page = scenes
    page.get_by_role("button", name="Move scene 3 up").press("Enter")
    expect_scenes(page, "in the forest", "in the snow", "on the beach", "in a library")
    expect(page.get_by_role("button", name="Move scene 2 up")).to_be_focused()
    page.get_by_role("button", name="Remove scene 4").press("Space")
    expect_scenes(page, "in the forest", "in the snow", "on the beach")
    scene(page, 3).press("Enter")
    page.keyboard.type("at the castle")
    expect_scenes(page, "in the forest", "in the snow", "on the beach", "at the castle")
    page.keyboard.press("Alt+ArrowUp")
    expect_scenes(page, "in the forest", "in the snow", "at the castle", "on the beach")
    expect(page.get_by_role("button", name="Move scene 1 up")).to_be_disabled()
    expect(page.get_by_role("button", name="Move scene 4 down")).to_be_disabled()


def test_pasted_lines_become_scenes(scenes: Page) -> None:
    scene(scenes, 2).fill("")
    scene(scenes, 2).evaluate(
        """(line, text) => {
            const data = new DataTransfer();
            data.setData("text", text);
            const how = {clipboardData: data, bubbles: true, cancelable: true};
            line.dispatchEvent(new ClipboardEvent("paste", how));
        }""",
        "1. in a city street\n\n- in the desert\r\nin a cafe",
    )
    expect_scenes(
        scenes,
        "in the forest",
        "in a city street",
        "in the desert",
        "in a cafe",
        "in the snow",
        "in a library",
    )


def test_long_scene_is_fully_visible_and_stays_one_line_of_text(scenes: Page) -> None:
    def height(number: int) -> int:
        return scene(scenes, number).evaluate("line => line.offsetHeight")

    one_line, text = height(1), "under an old oak tree at dusk while the last light falls through the leaves"
    scene(scenes, 2).fill(f"{text}\nand a stream runs by")  # as dropped text comes
    expect_scenes(scenes, "in the forest", f"{text} and a stream runs by", "in the snow", "in a library")
    assert height(2) > one_line == height(1)
    wide = height(2)
    resize(scenes, NARROW)
    scenes.wait_for_function(
        "wide => document.querySelectorAll('#scenes li textarea')[1].offsetHeight > wide", arg=wide
    )
    for number in (1, 2):
        assert scene(scenes, number).evaluate("line => line.scrollHeight <= line.clientHeight")
    scene(scenes, 2).fill("on the beach")
    assert height(2) == one_line
    resize(scenes, WIDE)


def test_scenes_can_be_edited_as_text(scenes: Page) -> None:
    press(scenes, "Edit as text")
    expect(scenes.locator("#scenes ol")).to_be_hidden()
    scenes.locator("#scenes .scene-text").fill("in a kitchen\non a meadow")
    press(scenes, "Edit as list")
    expect_scenes(scenes, "in a kitchen", "on a meadow")


# -- seed, size, folded groups -------------------------------------------------------------------------------


def test_new_visitor_sees_the_basics_alone(browser: Browser, address: str) -> None:
    page = visit(browser, address, folded=True)
    expect(page.locator("#preset")).to_be_visible()
    for name in ("sdsa", "steps", "negative", "width", "k_keep"):
        expect(page.locator(f"#{name}")).to_have_count(0)
    for part in ("#show_masks", "#export", "#score-settings", "#scores", "#fetch-status"):
        expect(page.locator(part)).to_be_hidden()
    expect_fits_a_phone(page)
    resize(page, NARROW)
    expect(page.get_by_role("button", name="Generate")).to_be_in_viewport()
    page.context.close()


def test_size_fills_width_and_height(form: Page) -> None:
    choose(form, "size", re.compile("Landscape"))
    width, height = form.locator("#width textarea"), form.locator("#height textarea")
    expect(width).not_to_have_value("")
    preset = form.locator("#size input").input_value()
    width.fill("192")
    expect(form.locator("#size input")).not_to_have_value(preset)
    height.fill("250")
    generate(form)
    expect(alert(form)).to_contain_text(re.compile("Height .*multiple of 8.*250"))


def test_negative_prompt_without_guidance_has_no_effect(form: Page) -> None:
    set_number(form, "guidance", 1)
    expect(form.locator("#negative textarea")).to_be_disabled()
    expect(form.locator("#negative")).to_contain_text("No effect while guidance is 1 or less")


# -- generating and continuing -------------------------------------------------------------------------------


def test_story_is_continued_scene_by_scene(page: Page) -> None:
    first = generate_short_story(page)
    expect(page.locator("#continue-note")).to_contain_text("images 1 to 2")
    page.locator("#new-scene textarea").fill("in the snow")
    page.locator("#add-scene").click()
    expect_done(page, "1 image of 3 in")
    expect(pictures(page)).to_have_count(3)
    assert sources(page)[:2] == first
    assert captions(page)[2] == "in the snow"
    expect_scenes(page, "in the forest", "on the beach", "in the snow")
    third = sources(page)[2]

    changed, undo = page.locator("#redo-scene textarea"), page.locator("#undo")
    expect(changed).to_have_value("in the snow")
    page.locator("#redo").click()
    expect(pictures(page).nth(2)).not_to_have_attribute("src", third, timeout=STORY_MS)
    expect(undo).to_be_enabled(timeout=STORY_MS)
    assert sources(page)[:2] == first
    expect_scene_seeds(page, "", "", re.compile(r"^\d+$"))
    undo.click()
    expect(pictures(page).nth(2)).to_have_attribute("src", third)
    expect_scene_seeds(page, "", "", "")

    changed.fill("in a library")
    page.locator("#change-scene").click()
    expect(pictures(page).nth(2)).not_to_have_attribute("src", third, timeout=STORY_MS)
    expect_done(page, "1 image of 3 in")
    assert captions(page)[2] == "in a library"
    assert sources(page)[:2] == first
    expect_scenes(page, "in the forest", "on the beach", "in a library")

    expect(page.locator("#seed input")).to_have_value("7")
    page.locator("#lock input").uncheck()
    generate(page)
    expect(page.locator("#seed input")).not_to_have_value("7")
    expect_done(page, re.compile(r"^3 images in "))


def test_stopped_story_is_scored_and_continued(page: Page) -> None:
    write_story(page, "a cat", [f"in the forest number {number}" for number in range(1, 7)], steps=5)
    set_number(page, "batch", 1)
    generate(page)
    expect(page.locator("#pictures .caption-label").first).to_contain_text(
        "(being generated)", timeout=STORY_MS
    )
    wait_for_pictures(page, 3)
    cancel(page)
    expect(page.locator("#status")).to_contain_text("of 6 images kept", timeout=STORY_MS)
    expect(page.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
    finished = sources(page)
    page.locator("#resume").click()
    expect_done(page, "of 6 in")
    expect(pictures(page)).to_have_count(6)
    assert sources(page)[: len(finished)] == finished


# -- files and links -----------------------------------------------------------------------------------------


def expect_restored(page: Page) -> None:
    expect(page.locator("#subject textarea")).to_have_value("a red fox")
    expect_scenes(page, *GENERATED.scene_texts)
    boxes = {
        "#concepts textarea": "fox",
        "#style input": "a watercolor of",
        "#negative textarea": "text",
        "#seed input": "77",
        "#width textarea": "192",
        "#height textarea": "256",
    }
    for box, value in boxes.items():
        expect(page.locator(box)).to_have_value(value)
    for name, value in (("steps", "9"), ("guidance", "3.5"), ("batch", "2")):
        expect(number_box(page, name)).to_have_value(value)
    expect(page.locator("#masking input")).not_to_be_checked()
    expect_scene_seeds(page, "", "91")
    expect(page.locator("#svd-filter")).to_contain_text("K count 12; V energy 0.9, exp 0.5")


def drop(page: Page, path: Path) -> None:
    """Drop a file on the page's heading."""
    data = page.evaluate_handle(
        """([name, code]) => {
            const bytes = Uint8Array.from(atob(code), letter => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name));
            return data;
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )
    page.locator("#masthead h1").dispatch_event("drop", {"dataTransfer": data})


def test_files_are_refused_or_restore_every_control(page: Page, tmp_path: Path) -> None:
    for name, content, reason in (
        ("story.json", b"{", "JSON"),
        ("story.json", b'{"version": 1}', "model"),
        ("one.png", b"no picture", "PNG"),
        ("notes.txt", b"hello", "story.json"),
    ):
        (tmp_path / name).write_bytes(content)
        drop(page, tmp_path / name)
        expect(alert(page)).to_contain_text(reason)
        expect(page.locator("#subject textarea")).to_have_value("a cat")
    page.locator("#open-and-share input[type=file]").set_input_files(
        write_story_json(tmp_path, GENERATED, WITH, "another model", [])
    )
    expect(page.locator("#status")).to_contain_text("another model")
    expect_restored(page)


def test_dropped_picture_restores_its_story(page: Page, tmp_path: Path) -> None:
    generate_short_story(page)
    with page.expect_download() as download:
        page.evaluate(
            "() => { const a = document.createElement('a');"
            " a.href = document.querySelector('#pictures img').src; a.download = 'one.png'; a.click(); }"
        )
    picture = tmp_path / "one.png"
    download.value.save_as(picture)
    assert read_frame(picture).story.subject == "a cat"
    write_story(page, "an owl", ["in the snow"], steps=5)
    drop(page, picture)
    expect(page.locator("#status")).to_contain_text("one.png")
    expect_scenes(page, "in the forest", "on the beach")
    expect(number_box(page, "steps")).to_have_value("2")


def test_link_restores_every_control_and_is_copied(browser: Browser, address: str) -> None:
    page = visit(browser, f"{address}?{LINK_PARAMETER}={encode_link(GENERATED, WITH)}")
    expect(page.locator("#status")).to_contain_text("a red fox, 3 images")
    expect_restored(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#copy-link").click()
    expect(page.locator("#copy-link")).to_have_text("Copied")
    expect(page.locator("#voice")).to_contain_text("Copied.")
    expect(page.locator("#copy-link")).to_have_text("Copy link")
    expect(page.locator("#link textarea")).to_have_value(re.compile(rf"^{re.escape(address)}/?\?story="))
    code = page.locator("#link textarea").input_value().partition("story=")[2]
    assert decode_link(code) == (GENERATED, WITH)
    page.context.close()


def test_broken_links_are_refused_with_the_reason(browser: Browser, address: str) -> None:
    wrong = {"story": {"subject": "a cat", "scenes": ["here"]}, "settings": {"steps": 10**9}}
    page = visit(browser, address, folded=True)
    for content, reason in (
        (None, "link"),
        (b"[]", "link"),
        (json.dumps(wrong).encode(), "Steps.*1000000000"),
    ):
        code = "%%%" if content is None else base64.urlsafe_b64encode(content).decode()
        page.goto(f"{address}?story={code}")
        wait_for_model(page)
        expect(alert(page)).to_contain_text(re.compile(reason))
        expect(page.locator("#subject textarea")).to_have_value("a cat")
    page.context.close()
