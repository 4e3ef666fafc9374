"""The form's middle part: presets, switches, and the spectral filter with what it recorded."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from consistory_svd.attention import FilterSummary
from consistory_svd.attention.svd_filter_log import FilterStats, SingularValues
from consistory_svd.metadata import read_frame
from consistory_svd.presets import CUSTOM, PRESETS
from consistory_svd.settings import SVDFilter
from consistory_svd.studio.components.svd_filter_plots import (
    Axis,
    Polyline,
    chart,
    layer_label,
    nothing_recorded,
    plots,
)
from consistory_svd.studio.components.svd_filter_settings import AMOUNT_RANGES, FILTER_FIELDS, filter_title
from consistory_svd.studio.form import fill_method, parse
from consistory_svd.studio.tabs.story import StoryTab
from tests.test_studio import form
from tests.visitors import ANN, last

# -- presets, switches and the filter's boxes ------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "keys", "values"),
    [
        ({"k_count": None, "k_alpha": None, "v_keep": "junk"}, SVDFilter(), SVDFilter()),
        (
            {"k_keep": "count", "k_count": 4.0, "v_as_k": False, "v_keep": "energy", "v_energy": 0.9},
            SVDFilter("count", 4),
            SVDFilter("energy", 0.9),
        ),
        (
            {"k_keep": "quantile", "k_reweight": "exp", "k_alpha": 0.5, "v_keep": "count"},
            SVDFilter("quantile", 0.05, "exp", 0.5),
            SVDFilter("quantile", 0.05, "exp", 0.5),
        ),
        ({"v_as_k": False, "v_reweight": "log2"}, SVDFilter(), SVDFilter(reweight="log2")),
    ],
)
def test_the_spectra_are_read_where_they_matter(changes: dict, keys: SVDFilter, values: SVDFilter):
    """What is disabled on the page is not looked at: V's boxes while linked, a value where all is kept."""
    _, settings = parse(form(**changes))
    assert (settings.k_filter, settings.v_filter) == (keys, values)


CONSISTORY = fill_method(PRESETS["consistory"])
SVD_FILTERED = fill_method(PRESETS["svd-quantile"])
OWN_V = {"v_as_k": False, "v_keep": "energy", "v_energy": 0.9}


def refreshed(story_tab: StoryTab, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The updates of the method's components after a change, by name."""
    updates = story_tab.method.refresh(**values)
    return {name: updates[item] for name, item in story_tab.method.fields.items() if item in updates}


def disabled(updates: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, update in updates.items() if not update["interactive"]}


@pytest.mark.parametrize(
    ("changes", "idle", "why"),
    [
        ({}, set(), ""),
        ({"masking": False}, {"mask_dropout"}, "is off"),
        ({"injection": False}, {"short_first_pass"}, "is off"),
        ({"random_anchors": True}, {"anchors"}, "is on"),
    ],
)
def test_settings_without_effect_are_disabled_and_say_why(
    story_tab: StoryTab, changes: dict, idle: set, why: str
):
    updates = refreshed(story_tab, {**CONSISTORY, **changes})
    assert disabled(updates) == idle
    assert all("No effect while “" in updates[name]["info"] for name in idle)
    assert all(why in updates[name]["info"] for name in idle)


def test_without_sharing_nothing_of_it_can_be_set(story_tab: StoryTab):
    shared = {"query_blending", "masking", "mask_dropout", *FILTER_FIELDS, "record_svd"}
    updates = refreshed(story_tab, {**CONSISTORY, "sdsa": False})
    assert disabled(updates) == shared
    assert len({updates[name]["info"] for name in shared}) == 1
    updates = refreshed(story_tab, {**CONSISTORY, "sdsa": False, "injection": False})
    assert disabled(updates) == shared | {"anchors", "random_anchors", "short_first_pass"}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, {"k_quantile"}),
        ({"k_keep": "all"}, set()),
        ({"k_keep": "count", "k_reweight": "exp"}, {"k_count", "k_alpha"}),
        ({**OWN_V, "v_reweight": "exp"}, {"k_quantile", "v_energy", "v_alpha"}),
    ],
)
def test_a_filter_shows_what_its_strategy_needs(story_tab: StoryTab, changes: dict, shown: set):
    values = {**SVD_FILTERED, "v_keep": "all", **changes}
    updates = refreshed(story_tab, values)
    assert {name for name, update in updates.items() if update.get("visible")} == shown
    column = story_tab.method.refresh(**values)[story_tab.method.svd_filter.columns["v"]]
    assert column["visible"] is not values["v_as_k"]


def test_v_starts_as_k_is(story_tab: StoryTab):
    values = {**SVD_FILTERED, **OWN_V, "k_keep": "count", "k_count": 7, "k_reweight": "log"}
    linked = story_tab.method.svd_filter.link(**values)
    updates = {name: linked[item] for name, item in story_tab.method.fields.items() if item in linked}
    assert updates == {
        "v_keep": "count",
        "v_count": 7,
        "v_quantile": 0.05,
        "v_energy": 0.95,
        "v_reweight": "log",
        "v_alpha": 1.0,
    }


@pytest.mark.parametrize("strategy", AMOUNT_RANGES)
def test_a_strategys_range_holds_only_what_it_allows(strategy: str):
    lowest, highest, *_ = AMOUNT_RANGES[strategy]
    for value in (lowest, highest):
        assert SVDFilter(strategy, value).amount == value


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "SVD filter: K and V quantile 0.05"),
        (OWN_V, "SVD filter: K quantile 0.05; V energy 0.9"),
        ({"k_reweight": "exp"}, "SVD filter: K and V quantile 0.05, exp 1"),
        ({"k_keep": "all"}, "SVD filter: off"),
        ({"sdsa": False}, "SVD filter: off"),
        ({"k_quantile": None}, "SVD filter"),
    ],
)
def test_the_folded_filter_says_what_it_does(changes: dict, title: str):
    assert filter_title({**SVD_FILTERED, **changes}) == title


def test_the_preset_follows_the_settings_and_fills_them(story_tab: StoryTab):
    method = story_tab.method

    def preset_of(values: dict[str, Any]) -> str:
        return method.refresh(**values)[method.preset]["value"]

    assert preset_of(CONSISTORY) == "consistory"
    for changes in ({"mask_dropout": 0.2}, {"k_reweight": "log"}, {"k_keep": "count", "k_count": None}):
        assert preset_of({**CONSISTORY, **changes}) == CUSTOM
    for name, preset in PRESETS.items():
        updates = method.fill_preset(name)
        values = {field: updates[item] for field, item in method.fields.items() if item in updates}
        assert preset_of(values) == name
        assert parse(form(**values, scenes="one\ntwo"))[1] == replace(preset, steps=2)
        assert (method.svd_filter.group in updates) == preset.filters
    assert method.fill_preset(CUSTOM) == gr.skip()


# -- what the filter did ---------------------------------------------------------------------------------

LAYERS = [f"up_blocks.{k}.attentions.0.transformer_blocks.0.attn1.processor" for k in (0, 1)]


def filter_summary_of(kept: int, rank: int = 4, unchanged: bool = False) -> FilterStats:
    before = tuple(10.0**-k for k in range(rank))
    after = tuple(value if k < kept else 0.0 for k, value in enumerate(before))
    return FilterStats(kept, rank, 0.5, unchanged, SingularValues(tuple(range(1, rank + 1)), before, after))


@pytest.fixture
def log() -> FilterSummary:
    """Two anchors, of which the second lends nothing to the second layer."""
    log = FilterSummary(steps=3)
    for matrix, kept in (("K", 2), ("V", 3)):
        for step in (1, 2):
            log.stats[matrix, LAYERS[0], step] = {
                0: filter_summary_of(kept),
                1: filter_summary_of(1, unchanged=True),
            }
            log.stats[matrix, LAYERS[1], step] = {0: filter_summary_of(kept)}
    return log


def lines_of(html: str, looks: str) -> list[int]:
    """How many points each line of these looks has; the legend's have two."""
    found = re.findall(rf'<g class="{looks}"><title>.*?</title><polyline points="(.*?)"', html)
    return [len(points.split()) for points in found]


def test_the_figures_show_spectra_before_and_after_of_each_anchor(log: FilterSummary):
    html = plots(log, LAYERS[0], 1)
    assert lines_of(html, "before anchor-0") == lines_of(html, "before anchor-1") == [4, 4]
    # Of K and of V: the spectrum without what was dropped, then kept and energy at two steps.
    assert lines_of(html, "after anchor-0") == [2, 2, 2, 3, 2, 2]
    assert lines_of(html, "after anchor-1") == [1, 2, 2, 1, 2, 2]
    for label in ("Singular value (log)", "Rank (log)", "Share of the energy"):
        assert html.count(f">{label}</text>") == 2
    assert "Singular values of K at step 2" in html
    assert "Anchor 1: 2 of 4 kept, 50.0% of the energy</li>" in html
    assert "Anchor 2: 1 of 4 kept, 50.0% of the energy; reweighting would leave nothing" in html


def test_what_the_logarithm_makes_zero_is_said_below_the_curve(log: FilterSummary):
    assert "Not drawn" not in plots(log, LAYERS[0], 1)
    found = log.stats["K", LAYERS[0], 1]
    found[0], found[1] = replace(found[0], zeroed=48), replace(found[1], zeroed=7)
    said = "Not drawn: 48 of anchor 1, 7 of anchor 2 are kept but become zero"
    assert plots(log, LAYERS[0], 1).count(said) == 1


def test_the_figures_are_of_the_chosen_layer(log: FilterSummary):
    assert "Anchor 2" not in plots(log, LAYERS[1], 1)
    assert "were not recorded at step 1" in plots(log, LAYERS[1], 0)
    assert plots(log, "<elsewhere>", 1) == nothing_recorded()
    assert layer_label(LAYERS[1]) == "up block 1, attention 0, layer 0"
    middle = "mid_block.attentions.0.transformer_blocks.2.attn1.processor"
    assert layer_label(middle) == "middle block, attention 0, layer 2"


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("", 0.02, 3, log=True), [0.1, 1.0]),
        (Axis("", 1, 50, log=True), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]),
        (Axis("", 0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Axis("", 1, 3, whole=True), [1.0, 2.0, 3.0]),
        (Axis("", 1, 1), [1.0]),
    ],
)
def test_ticks_are_round_and_few(axis: Axis, ticks: list[float]):
    assert axis.ticks() == pytest.approx(ticks)


def test_what_is_off_the_axes_is_not_drawn():
    axis = Axis("<x>", 1, 10, log=True)
    html = chart("<title>", axis, axis, [Polyline([(1, 0), (1, 1), (10, 10), (11, 1)], "after", "<line>")])
    assert lines_of(html, "after") == [2]
    assert "<x>" not in html
    assert "<line>" not in html


def test_a_storys_singular_values_are_shown_when_they_were_asked_for(story_tab: StoryTab):
    filtered = form(**SVD_FILTERED | {"record_svd": True, "masking": True, "k_reweight": "log"}, steps=4)
    panel = story_tab.svd_plots
    assert not panel.show(ANN)[panel.part]["visible"], "there is no story yet"
    pictures = last(story_tab.generate(ANN, **filtered), story_tab.pictures)
    shown = panel.show(ANN)
    assert shown[panel.part]["visible"]
    layers = [name for _, name in shown[panel.layer]["choices"]]
    assert shown[panel.layer]["value"] in layers
    assert shown[panel.step]["choices"] == [("2", 1), ("3", 2), ("4", 3)], "step 1 shares nothing"
    assert "Anchor 2" in shown[panel.plots]
    assert "Singular values of K at step 4" in panel.draw(layers[0], 3, ANN)
    recorded = read_frame(Path(pictures[0][0])).settings
    assert recorded.v_filter == recorded.k_filter == SVDFilter("quantile", 0.05, "log")


def test_nothing_is_recorded_unasked_and_an_empty_record_says_why(story_tab: StoryTab):
    panel = story_tab.svd_plots
    list(story_tab.generate(ANN, **form(**SVD_FILTERED)))
    assert not panel.show(ANN)[panel.part]["visible"]
    assert panel.draw(LAYERS[0], 1, ANN) == gr.skip()
    list(story_tab.generate(ANN, **form(sdsa=False, record_svd=True)))
    shown = panel.show(ANN)
    assert shown[panel.part]["visible"]
    assert shown[panel.plots] == nothing_recorded()
