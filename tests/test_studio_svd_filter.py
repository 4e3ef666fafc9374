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
from consistory_svd.attention.svd_filter_summary import FilterStats, SingularValues
from consistory_svd.metadata import read_frame
from consistory_svd.presets import CUSTOM, PRESETS
from consistory_svd.settings import SVDFilter
from consistory_svd.studio.components import svd_filter_plots as curves
from consistory_svd.studio.components.charts import Axis, Polyline, chart
from consistory_svd.studio.components.fields import NO_EFFECT_SDSA
from consistory_svd.studio.components.method_settings import (
    DEPENDENT_FIELDS,
    METHOD_FIELDS,
    method_values,
    preset_values,
    switches,
)
from consistory_svd.studio.components.svd_filter_settings import SCALES, SVD_FILTER, follow, start_value
from consistory_svd.studio.form import read_form
from consistory_svd.studio.handlers import Handlers
from tests.test_studio import form
from tests.visitors import ANN

# -- presets, switches and the filter's boxes ------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "keys", "values"),
    [
        ({"k_amount": None, "k_alpha": None, "v_keep": "junk"}, SVDFilter(), SVDFilter()),
        (
            {"k_keep": "count", "k_amount": 4.0, "v_as_k": False, "v_keep": "energy", "v_amount": 0.9},
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
    _, settings = read_form(form(**changes))
    assert (settings.k_filter, settings.v_filter) == (keys, values)


ALIKE = method_values(PRESETS["consistory"])
SVD_FILTERED = method_values(PRESETS["svd-quantile"])
OWN_V = {"v_as_k": False, "v_keep": "energy", "v_amount": 0.9}
IDLE_IN_ALL = {"k_amount", "k_alpha", "v_keep", "v_amount", "v_reweight", "v_alpha"}


def looks_of(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    *updates, _, _ = switches(*values.values())
    return dict(zip(DEPENDENT_FIELDS, updates, strict=True))


def idle_in(values: dict[str, Any]) -> set[str]:
    return {name for name, look in looks_of(values).items() if not look["interactive"]}


@pytest.mark.parametrize(
    ("changes", "idle", "why"),
    [
        ({}, set(), ""),
        ({"masking": False}, {"mask_dropout"}, "masking is off"),
        ({"injection": False}, {"short_first_pass"}, "without feature injection"),
        ({"random_anchors": True}, {"anchors"}, "anchors are random"),
    ],
)
def test_switches_without_effect_are_disabled_and_say_why(changes: dict, idle: set, why: str):
    looks = looks_of({**ALIKE, **changes})
    assert {name for name, look in looks.items() if not look["interactive"]} == idle | IDLE_IN_ALL
    assert all(why in looks[name]["info"] for name in idle)


def test_without_sharing_nothing_of_it_can_be_set():
    shared = {"query_blending", "masking", "mask_dropout", *SVD_FILTER, "record_svd"}
    looks = looks_of({**ALIKE, "sdsa": False})
    assert {name for name, look in looks.items() if not look["interactive"]} == shared
    assert {looks[name]["info"] for name in shared} == {NO_EFFECT_SDSA}
    assert idle_in({**ALIKE, "sdsa": False, "injection": False}) == set(DEPENDENT_FIELDS)


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({}, {"k_alpha", "v_keep", "v_amount", "v_reweight", "v_alpha"}),
        ({"v_as_k": False}, {"k_alpha", "v_alpha"}),
        ({"v_as_k": False, "k_keep": "all"}, {"k_amount", "k_alpha", "v_alpha"}),
        ({**OWN_V, "v_reweight": "exp"}, {"k_alpha"}),
    ],
)
def test_a_filters_boxes_without_effect_are_disabled(changes: dict, idle: set):
    assert idle_in({**SVD_FILTERED, **changes}) == idle | {"mask_dropout", "short_first_pass"}


def test_v_follows_k_while_they_are_linked():
    values = {**SVD_FILTERED, "k_keep": "count", "k_amount": 7, "k_reweight": "log"}
    updates = follow(*(values[name] for name in SVD_FILTER), most=160)
    assert [update["value"] for update in updates] == ["count", 7, "log", 1.0]
    assert updates[1]["maximum"] == 160
    values["v_as_k"] = False
    assert all(update == gr.skip() for update in follow(*(values[name] for name in SVD_FILTER)))
    assert (updates[1]["label"], updates[1]["step"]) == ("V count", 1)
    assert not any("value" in look for look in looks_of({**SVD_FILTERED, **OWN_V}).values())


@pytest.mark.parametrize("select", SCALES)
def test_a_strategys_scale_holds_only_what_it_allows(select: str):
    update = start_value("k", select)
    for value in (update["minimum"], update["value"], update["maximum"]):
        assert SVDFilter(select, value).amount == value
    assert start_value("k", "all") == gr.skip()


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "Spectrum: K and V quantile 0.05"),
        (OWN_V, "Spectrum: K quantile 0.05; V energy 0.9"),
        ({"k_reweight": "exp"}, "Spectrum: K and V quantile 0.05, exp 1"),
        ({"k_keep": "all"}, "Spectrum: off"),
        ({"sdsa": False}, "Spectrum: off"),
        ({"k_amount": None}, "Spectrum"),
    ],
)
def test_the_folded_spectrum_says_what_it_does(changes: dict, title: str):
    *_, group, _ = switches(*{**SVD_FILTERED, **changes}.values())
    assert group["label"] == title


def test_the_preset_follows_the_switches_and_fills_them():
    assert switches(*ALIKE.values())[-1]["value"] == "consistory"
    for changes in ({"mask_dropout": 0.2}, {"k_reweight": "log"}, {"k_keep": "count", "k_amount": None}):
        assert switches(*{**ALIKE, **changes}.values())[-1]["value"] == CUSTOM
    for name, preset in PRESETS.items():
        *updates, group = preset_values(name)
        values = {field: update["value"] for field, update in zip(METHOD_FIELDS, updates, strict=True)}
        assert switches(*values.values())[-1]["value"] == name
        assert read_form(form(**values, scenes="one\ntwo"))[1] == replace(preset, steps=2)
        assert group == (gr.update(open=True) if preset.filters else gr.skip())
    assert all(update == gr.skip() for update in preset_values(CUSTOM))


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
            log.filter_summaries[matrix, LAYERS[0], step] = {
                0: filter_summary_of(kept),
                1: filter_summary_of(1, unchanged=True),
            }
            log.filter_summaries[matrix, LAYERS[1], step] = {0: filter_summary_of(kept)}
    return log


def lines_of(html: str, looks: str) -> list[int]:
    """How many points each line of these looks has; the legend's have two."""
    found = re.findall(rf'<g class="{looks}"><title>.*?</title><polyline points="(.*?)"', html)
    return [len(points.split()) for points in found]


def test_the_figures_show_spectra_before_and_after_of_each_anchor(log: FilterSummary):
    html = curves.figures(log, LAYERS[0], 1)
    assert lines_of(html, "before anchor-0") == lines_of(html, "before anchor-1") == [4, 4]
    # Of K and of V: the spectrum without what was dropped, then kept and energy at two steps.
    assert lines_of(html, "after anchor-0") == [2, 2, 2, 3, 2, 2]
    assert lines_of(html, "after anchor-1") == [1, 2, 2, 1, 2, 2]
    for label in ("Singular value (log)", "Rank of the singular value (log)", "Share of squared energy"):
        assert html.count(f">{label}</text>") == 2
    assert "Singular values of K at step 2" in html
    assert "Anchor 1: 2 of 4 kept, with 50.0% of the energy</li>" in html
    assert "Anchor 2: 1 of 4 kept, with 50.0% of the energy; nothing was left to reweight" in html


def test_what_the_logarithm_makes_zero_is_said_below_the_curve(log: FilterSummary):
    assert "Not drawn" not in curves.figures(log, LAYERS[0], 1)
    found = log.filter_summaries["K", LAYERS[0], 1]
    found[0], found[1] = replace(found[0], zeroed=48), replace(found[1], zeroed=7)
    said = "Not drawn, though kept: 48 of anchor 1, 7 of anchor 2 become zero"
    assert curves.figures(log, LAYERS[0], 1).count(said) == 1


def test_the_figures_are_of_the_chosen_layer(log: FilterSummary):
    assert "Anchor 2" not in curves.figures(log, LAYERS[1], 1)
    assert "were not recorded at step 1" in curves.figures(log, LAYERS[1], 0)
    assert curves.figures(log, "<elsewhere>", 1) == curves.nothing_recorded()
    assert curves.layer_in_words(LAYERS[1]) == "up block 1, attention 0, layer 0"
    middle = "mid_block.attentions.0.transformer_blocks.2.attn1.processor"
    assert curves.layer_in_words(middle) == "middle block, attention 0, layer 2"


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


def test_a_storys_spectra_are_shown_when_they_were_asked_for(handlers: Handlers):
    generated = form(**SVD_FILTERED | {"record_svd": True, "masking": True, "k_reweight": "log"}, steps=4)
    assert handlers.show_svd_plots(ANN)[0] == gr.update(visible=False), "there is no story yet"
    *_, (pictures, _) = handlers.generate(ANN, **generated)
    part, layer, step, html = handlers.show_svd_plots(ANN)
    assert part["visible"]
    assert layer["value"] in [name for _, name in layer["choices"]]
    assert step["choices"] == [("2", 1), ("3", 2), ("4", 3)], "step 1 shares nothing"
    assert "Anchor 2" in html
    other = handlers.draw_svd_plots(layer["choices"][0][1], 3, ANN)
    assert "Singular values of K at step 4" in other
    recorded = read_frame(Path(pictures[0][0])).settings
    assert recorded.v_filter == recorded.k_filter == SVDFilter("quantile", 0.05, "log")


def test_nothing_is_recorded_unasked_and_an_empty_record_says_why(handlers: Handlers):
    list(handlers.generate(ANN, **form(**SVD_FILTERED)))
    assert handlers.story_of(ANN).filter_log is None
    assert handlers.show_svd_plots(ANN)[0] == gr.update(visible=False)
    assert handlers.draw_svd_plots(LAYERS[0], 1, ANN) == gr.skip()
    list(handlers.generate(ANN, **form(sdsa=False, record_svd=True)))
    part, *_, html = handlers.show_svd_plots(ANN)
    assert part["visible"]
    assert html == curves.nothing_recorded()
