"""The Story room in a browser, flow by flow: the list of scenes, going on with a story, files and links."""

import base64
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from consistory_svd.metadata import read_frame, write_story_json
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Story
from consistory_svd.studio import links
from tests.browser import (
    STORY_MS,
    captions,
    expect_done,
    generate_short_story,
    pictures,
    set_dial,
    sources,
    visit,
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
    return page.locator("#scene-list li textarea").nth(number - 1)


def expect_scenes(page: Page, *scenes: str) -> None:
    """In the list, and in the box that carries the form's value."""
    expect(page.locator("#scenes textarea")).to_have_value("\n".join(scenes))
    expect(page.locator("#scene-list li textarea")).to_have_count(len(scenes))
    for number, text in enumerate(scenes, start=1):
        expect(scene(page, number)).to_have_value(text)


# -- the list of scenes ----------------------------------------------------------------------------------


def test_scenes_are_added_moved_and_removed_by_keyboard(page: Page) -> None:
    expect_scenes(page, "in the forest", "on the beach", "in the snow", "in a library")
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


def test_pasted_lines_become_scenes(page: Page) -> None:
    scene(page, 2).fill("")
    scene(page, 2).evaluate(
        """(line, text) => {
            const data = new DataTransfer();
            data.setData("text", text);
            const how = {clipboardData: data, bubbles: true, cancelable: true};
            line.dispatchEvent(new ClipboardEvent("paste", how));
        }""",
        "1. in a city street\n\n- in the desert\r\nin a cafe",
    )
    expect_scenes(
        page, "in the forest", "in a city street", "in the desert", "in a cafe", "in the snow", "in a library"
    )


def test_a_long_scene_is_seen_whole_and_stays_one_line(page: Page) -> None:
    def height(number: int) -> int:
        return scene(page, number).evaluate("line => line.offsetHeight")

    one_line, text = height(1), "under an old oak tree at dusk while the last light falls through the leaves"
    scene(page, 2).fill(f"{text}\nand a stream runs by")  # as dropped text comes
    expect_scenes(page, "in the forest", f"{text} and a stream runs by", "in the snow", "in a library")
    assert height(2) > one_line == height(1)
    wide = height(2)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(
        "wide => document.querySelectorAll('#scene-list li textarea')[1].offsetHeight > wide", arg=wide
    )
    for number in (1, 2):
        assert scene(page, number).evaluate("line => line.scrollHeight <= line.clientHeight")
    scene(page, 2).fill("on the beach")
    assert height(2) == one_line


def test_scenes_can_be_written_as_text_and_follow_examples(page: Page) -> None:
    page.get_by_role("button", name="Edit as text").click()
    expect(page.locator("#scene-list ol")).to_be_hidden()
    page.locator("#scenes textarea").fill("in a kitchen\non a meadow")
    page.get_by_role("button", name="Edit as list").click()
    expect_scenes(page, "in a kitchen", "on a meadow")
    page.get_by_role("button", name="Owl at night").click()
    expect_scenes(page, "under the night sky", "in the forest", "in a library", "at the castle")


# -- seed, size, what is folded --------------------------------------------------------------------------


def test_a_newcomer_sees_little(browser: Browser, address: str) -> None:
    page = visit(browser, address, folded=True)
    expect(page.locator("#preset")).to_be_visible()
    for name in ("sdsa", "steps", "negative", "width", "k_keep"):
        expect(page.locator(f"#{name}")).to_have_count(0)
    page.context.close()


def test_an_unlocked_seed_is_rolled_before_each_story(page: Page) -> None:
    generate_short_story(page)
    expect(page.locator("#seed input")).to_have_value("7")
    page.get_by_label("Lock the seed").uncheck()
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#seed input")).not_to_have_value("7")
    expect_done(page, re.compile(r"^2 pictures in "))


def test_a_size_fills_width_and_height(page: Page) -> None:
    page.locator("#size input").click()
    page.get_by_role("option", name=re.compile("Landscape")).click()
    expect(page.locator("#width textarea")).not_to_have_value("")
    page.locator("#width textarea").fill("192")
    expect(page.locator("#size input")).to_have_value("your own")
    page.locator("#height textarea").fill("250")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#status").get_by_role("alert")).to_contain_text(
        "Height must be a multiple of 8, got 250"
    )


def test_a_negative_prompt_without_guidance_says_that_it_has_no_effect(page: Page) -> None:
    set_dial(page, "guidance", 1)
    expect(page.locator("#negative textarea")).to_be_disabled()
    expect(page.locator("#negative")).to_contain_text("no effect while guidance is 1 or less")


# -- going on with a story -------------------------------------------------------------------------------


def test_a_story_goes_on_scene_by_scene(page: Page) -> None:
    first = generate_short_story(page)
    expect(page.locator("#go-on-how")).to_contain_text("kept anchors (pictures 1 to 2")
    page.get_by_label("A scene more").fill("in the snow")
    page.get_by_role("button", name="Add the scene").click()
    expect_done(page, "1 picture of 3 in")
    expect(pictures(page)).to_have_count(3)
    assert sources(page)[:2] == first
    assert captions(page)[2] == "in the snow"
    expect_scenes(page, "in the forest", "on the beach", "in the snow")
    third = sources(page)[2]

    expect(page.get_by_role("textbox", name=re.compile("^Its scene"))).to_have_value("in the snow")
    page.get_by_role("button", name="Redo with another seed").click()
    expect(pictures(page).nth(2)).not_to_have_attribute("src", third, timeout=STORY_MS)
    expect(page.get_by_role("button", name="Take the former back")).to_be_enabled(timeout=STORY_MS)
    assert sources(page)[:2] == first
    expect(page.locator("#seeds textarea")).to_have_value(re.compile(r"^3=\d+$"))
    page.get_by_role("button", name="Take the former back").click()
    expect(pictures(page).nth(2)).to_have_attribute("src", third)
    expect(page.locator("#seeds textarea")).to_have_value("")

    page.get_by_role("textbox", name=re.compile("^Its scene")).fill("in a library")
    page.get_by_role("button", name="Change the scene").click()
    expect(pictures(page).nth(2)).not_to_have_attribute("src", third, timeout=STORY_MS)
    expect_done(page, "1 picture of 3 in")
    assert captions(page)[2] == "in a library"
    assert sources(page)[:2] == first
    expect_scenes(page, "in the forest", "on the beach", "in a library")


def test_a_stopped_story_is_scored_and_continued(page: Page) -> None:
    page.get_by_label("Random anchors").uncheck()
    write_story(page, "a cat", [f"in the forest number {number}" for number in range(1, 9)], steps=8)
    set_dial(page, "batch", 1)
    page.get_by_role("button", name="Generate").click()
    page.wait_for_function(
        "[...document.querySelectorAll('#pictures .caption-label')]"
        ".filter(one => !one.innerText.includes('being drawn')).length >= 3",
        timeout=STORY_MS,
    )
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_contain_text("of 8 pictures made and kept", timeout=STORY_MS)
    expect(page.locator("#scores .heat")).to_be_visible(timeout=STORY_MS)
    kept = sources(page)
    page.get_by_role("button", name="Continue: ").click()
    expect_done(page, "of 8 in")
    expect(pictures(page)).to_have_count(8)
    assert sources(page)[: len(kept)] == kept


def test_pictures_are_foreseen_while_they_are_drawn(page: Page) -> None:
    write_story(page, "a cat", ["in the forest", "on the beach"], steps=20)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#pictures .caption-label").first).to_contain_text("(being drawn)", timeout=STORY_MS)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_contain_text("Stopped", timeout=STORY_MS)
    expect(pictures(page)).to_have_count(0)


# -- files and links -------------------------------------------------------------------------------------


def expect_restored(page: Page) -> None:
    expect(page.locator("#subject textarea")).to_have_value("a red fox")
    expect_scenes(page, *GENERATED.scene_texts)
    boxes = {
        "#concepts textarea": "fox",
        "#style input": "a watercolor of",
        "#negative textarea": "text",
        "#seed input": "77",
        "#seeds textarea": "2=91",
        "#steps input[type=number]": "9",
        "#guidance input[type=number]": "3.5",
        "#width textarea": "192",
        "#height textarea": "256",
        "#batch input[type=number]": "2",
        "#preset input": "custom",
    }
    for box, value in boxes.items():
        expect(page.locator(box)).to_have_value(value)
    expect(page.get_by_label("Subject masks")).not_to_be_checked()
    expect(page.locator("#spectrum")).to_contain_text("K count 12; V energy 0.9, exp 0.5")


def test_a_story_json_restores_every_control(page: Page, tmp_path: Path) -> None:
    page.locator("#carriers input[type=file]").set_input_files(
        write_story_json(tmp_path, GENERATED, WITH, "another model", [])
    )
    expect(page.locator("#status")).to_contain_text("It was told with another model")
    expect_restored(page)


def test_a_picture_dropped_on_the_page_restores_its_story(page: Page, tmp_path: Path) -> None:
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
    expect(page.locator("#status")).to_contain_text("one.png is open: a cat, 2 pictures")
    expect_scenes(page, "in the forest", "on the beach")
    expect(page.locator("#steps input[type=number]")).to_have_value("2")


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


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("story.json", b"{", "holds no JSON"),
        ("story.json", b'{"version": 1}', "is missing"),
        ("one.png", b"no picture", "cannot be read as PNG"),
        ("notes.txt", b"hello", "give a story.json"),
    ],
    ids=["half", "foreign", "no picture", "text"],
)
def test_a_wrong_file_gets_words(page: Page, tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    drop(page, tmp_path / name)
    expect(page.locator("#status").get_by_role("alert")).to_contain_text(words)
    expect(page.locator("#subject textarea")).to_have_value("a cat")


def test_a_link_carries_everything_there_and_back(browser: Browser, address: str) -> None:
    page = visit(browser, f"{address}?{links.PARAMETER}={links.encode(GENERATED, WITH)}")
    expect(page.locator("#status")).to_contain_text("The link's story: a red fox, 3 pictures")
    expect_restored(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#copy-link").click()
    expect(page.locator("#copy-link")).to_have_text("Copied")
    expect(page.locator("#voice")).to_contain_text("The link. Copied.")
    expect(page.locator("#copy-link")).to_have_text("Copy link")
    expect(page.locator("#link textarea")).to_have_value(re.compile(rf"^{re.escape(address)}/?\?story="))
    code = page.locator("#link textarea").input_value().partition("story=")[2]
    assert links.decode(code) == (GENERATED, WITH)
    page.context.close()


@pytest.mark.parametrize("code", ["%%%", "aGVsbG8", base64.urlsafe_b64encode(b"[]").decode()])
def test_a_broken_link_gets_words(browser: Browser, address: str, code: str) -> None:
    page = visit(browser, f"{address}?story={code}", folded=True)
    expect(page.locator("#status").get_by_role("alert")).to_contain_text("The link")
    expect(page.locator("#subject textarea")).to_have_value("a cat")
    page.context.close()


def test_a_link_with_wrong_values_names_the_field(browser: Browser, address: str) -> None:
    wrong = {"story": {"subject": "a cat", "scenes": ["here"]}, "settings": {"steps": 10**9}}
    code = base64.urlsafe_b64encode(json.dumps(wrong).encode()).decode()
    page = visit(browser, f"{address}?story={code}", folded=True)
    expect(page.locator("#status").get_by_role("alert")).to_contain_text(
        "Steps must be a whole number from 1 to 200, got 1000000000"
    )
    page.context.close()


# -- looks -----------------------------------------------------------------------------------------------


def test_the_page_fits_a_phone(browser: Browser, address: str) -> None:
    page = visit(browser, address)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.get_by_role("button", name="Generate")).to_be_in_viewport()
    page.context.close()
