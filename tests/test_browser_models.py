"""Another model is chosen on one page: all pages and their forms go along, seen in a browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from consistory_svd.studio import create_demo, launch
from tests.browser import MODEL_MS, open_part, unfold, visit


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Iterator[str]:
    """Where a studio on a tiny model answers, which others may be chosen in place of."""
    demo = create_demo(str(tiny_folder), device="cpu")
    launch(demo, port=None, prevent_thread_lock=True, quiet=True)
    yield demo.local_url
    demo.close()


def choose(page: Page, folder: Path) -> None:
    open_part(page, "model-choice", "#model-source input")
    box = page.locator("#model-source input")
    box.fill(str(folder))
    box.press("Enter")
    page.get_by_role("button", name="Load this model").click()


def steps(page: Page) -> str:
    return page.locator("#steps input[type=number]").input_value()


def test_a_few_step_model_sets_the_forms_of_all_pages(
    browser: Browser, tiny: str, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    few = shutil.copytree(tiny_folders["sdxl"], tmp_path / "toy-lightning-2step")
    one, other = visit(browser, tiny, folded=True), visit(browser, tiny)
    expect(other.locator("#size input")).to_have_value("The model's own: 32 × 32")
    other.locator("#size input").click()
    other.get_by_role("option", name=re.compile("^Wide")).click()
    expect(other.locator("#width textarea, #width input")).to_have_value(re.compile(r"\d"))
    choose(one, few)
    expect(one.locator("#model-said")).to_contain_text(
        "Loaded. Lightning is made for few steps", timeout=MODEL_MS
    )
    for page in (one, other):
        expect(page.locator("#model")).to_contain_text("toy-lightning-2step", timeout=MODEL_MS)
        expect(page.locator("#model")).to_contain_text("the form begins with steps 2, guidance 0")
    unfold(one)
    for page in (one, other):
        expect(page.locator("#size input")).to_have_value("The model's own: 64 × 64")
        expect(page.locator("#width textarea, #width input")).to_have_value("")
        expect(page.locator("#scheduler input")).to_have_value("euler")
        assert steps(page) == "2"
    late = visit(browser, tiny)
    expect(late.locator("#steps input[type=number]")).to_have_value("2")
    one.get_by_role("button", name="Load this model").click()
    expect(one.locator("#model-said")).to_contain_text("This model is loaded already")
    for page in (one, other, late):
        page.context.close()


def test_the_memory_plan_stays_unfolded_while_steps_are_told(browser: Browser, tiny: str) -> None:
    page = visit(browser, tiny)
    box = page.locator("#steps input[type=number]")
    box.fill("200")  # long enough for a browser on busy cores
    box.blur()
    page.get_by_role("button", name="Generate").click()
    plan = page.locator("#status details.plan")
    plan.locator("summary").press("Enter", timeout=MODEL_MS)
    expect(plan.locator("p")).to_contain_text("Memory plan full")
    shown = page.locator("#status .progress-words strong").inner_text()
    expect(page.locator("#status .progress-words strong")).not_to_have_text(shown)
    expect(plan).to_have_attribute("open", "")
    expect(plan.locator("summary")).to_be_focused()
    # As Gradio does where nothing but words has changed; unfolded again before the page is painted.
    assert plan.evaluate("async plan => { plan.removeAttribute('open'); await null; return plan.open; }")
    plan.locator("summary").click()
    expect(plan).not_to_have_attribute("open", "")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.context.close()
