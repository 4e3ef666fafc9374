"""Load another model on one page, in a browser: the forms of all pages follow."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import MODEL_MS, cancel, generate, number_box, open_group, serve, set_number, unfold, visit


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Iterator[str]:
    """The address of a studio on a tiny model."""
    with serve(str(tiny_folder)) as address:
        yield address


def choose(page: Page, folder: Path) -> None:
    open_group(page, "model-choice", "#model-source input")
    box = page.locator("#model-source input")
    box.fill(str(folder))
    box.press("Enter")
    page.locator("#model-load").click()


def test_few_step_model_sets_the_forms_of_all_pages(
    browser: Browser, tiny: str, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    few = shutil.copytree(tiny_folders["sdxl"], tmp_path / "toy-lightning-2step")
    one, other = visit(browser, tiny, folded=True), visit(browser, tiny)
    expect(other.locator("#size input")).to_have_value("Model default: 32 × 32")
    other.locator("#size input").click()
    other.get_by_role("option", name=re.compile("^Wide")).click()
    expect(other.locator("#width textarea, #width input")).to_have_value(re.compile(r"\d"))
    choose(one, few)
    expect(one.locator("#model-status")).to_contain_text(
        "Loaded. Lightning needs few steps", timeout=MODEL_MS
    )
    generate(other)  # another visitor's page follows the model when it is used
    for page in (one, other):
        expect(page.locator("#model")).to_contain_text("toy-lightning-2step", timeout=MODEL_MS)
        expect(page.locator("#model")).to_contain_text("the form starts with steps 2, guidance 0")
    unfold(one)
    for page in (one, other):
        expect(page.locator("#size input")).to_have_value("Model default: 64 × 64")
        expect(page.locator("#width textarea, #width input")).to_have_value("")
        expect(page.locator("#scheduler input")).to_have_value("euler")
        expect(number_box(page, "steps")).to_have_value("2")
    late = visit(browser, tiny)
    expect(number_box(late, "steps")).to_have_value("2")
    one.locator("#model-load").click()
    expect(one.locator("#model-status")).to_contain_text("This model is already loaded")
    for page in (one, other, late):
        page.context.close()


def test_memory_plan_stays_unfolded_during_generation(browser: Browser, tiny: str) -> None:
    page = visit(browser, tiny)
    set_number(page, "steps", 200)  # long enough for a browser on busy cores
    generate(page)
    plan = page.locator("#status details.plan")
    plan.locator("summary").press("Enter", timeout=MODEL_MS)
    expect(plan.locator("p")).to_contain_text("Memory mode full")
    shown = page.locator("#status .progress-words strong").inner_text()
    expect(page.locator("#status .progress-words strong")).not_to_have_text(shown)
    expect(plan).to_have_attribute("open", "")
    expect(plan.locator("summary")).to_be_focused()
    # Gradio resets the attribute with every update; the page sets it again before it is painted.
    assert plan.evaluate("async plan => { plan.removeAttribute('open'); await null; return plan.open; }")
    plan.locator("summary").click()
    expect(plan).not_to_have_attribute("open", "")
    cancel(page)
    page.context.close()
