"""The SVD filter where it acts: a recorded layer, whole stories, the anchor cache, and its log."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file

from consistory_svd import Model, Settings, Story, generate, preset
from consistory_svd.attention import FilterLog, FilterSummary
from consistory_svd.attention.svd_filter import FilterReport, filter_with_report
from consistory_svd.attention.svd_filter_log import AnchorFilter
from consistory_svd.events import Started
from consistory_svd.presets import PRESETS
from consistory_svd.settings import SVDFilter
from tests.test_attention import GivenMasks, layer_of_reference, run_layer  # noqa: F401 (a fixture)
from tests.test_pipeline import latents_of
from tests.tiny_models import denoise_together

LOG = SVDFilter(reweight="log")
FILTERED = Settings(
    steps=4, masking=False, k_filter=SVDFilter("quantile", 0.2), v_filter=SVDFilter("energy", 0.9)
)


@dataclass(frozen=True)
class Record:
    """Everything that is reported of one matrix."""

    matrix: str
    layer: str
    step: int
    anchor: int
    half: int
    kept: int
    energy: float
    before: torch.Tensor
    after: torch.Tensor


class FullLog(FilterLog):
    """Keeps a record of every matrix."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, matrix: str, layer: str, step: int, anchors: Sequence[int], report: FilterReport) -> None:
        for i, anchor in enumerate(anchors):
            for half in range(report.kept.shape[1]):
                values = report.singular_values[i, half].float(), report.filtered_values[i, half].float()
                kept, energy = int(report.kept[i, half]), float(report.energy[i, half])
                self.records.append(Record(matrix, layer, step, anchor, half, kept, energy, *values))


@pytest.fixture(scope="module")
def story() -> Story:
    return Story("a fox", ("in the forest", "on the beach", "in the snow", "with a hat"), seed=3)


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    return load_file(Path(__file__).parent / "data" / "unit_attention_svd.safetensors")


@pytest.mark.parametrize(
    ("name", "svd_filter", "anchors", "frames"),
    [
        ("y_none_a2", SVDFilter(), 2, 3),
        ("y_nnull_005_a2", SVDFilter("quantile", 0.05), 2, 3),
        ("y_nnull_005_a1", SVDFilter("quantile", 0.05), 1, 3),
        ("y_nnull_4_a2", SVDFilter("count", 4), 2, 3),
        # The recording takes one norm over all anchors together; anchors themselves filter one other alone.
        ("y_log_a2", LOG, 2, 2),
        ("y_log2_a2", SVDFilter(reweight="log2"), 2, 2),
    ],
)
def test_a_filtered_layer_equals_the_recorded_one(
    recorded: dict,
    layer_of_reference: Attention,  # noqa: F811
    name: str,
    svd_filter: SVDFilter,
    anchors: int,
    frames: int,
) -> None:
    groups = [(slice(i, i + 1), [j for j in range(anchors) if j != i]) for i in range(3)]
    given = GivenMasks(3, [None] * anchors, groups)
    given.anchor_filter = AnchorFilter(svd_filter, svd_filter)
    output = run_layer(layer_of_reference, given, recorded["hidden_states"]).unflatten(0, (2, 3))
    expected = recorded[name].unflatten(0, (2, 3))
    torch.testing.assert_close(output[:, :frames], expected[:, :frames], rtol=0, atol=1e-4)


def test_keys_and_values_have_settings_of_their_own(small_model: Model, story: Story) -> None:
    generated = [
        latents_of(generate(small_model, story, replace(FILTERED, **change)))
        for change in ({}, {"k_filter": SVDFilter()}, {"v_filter": SVDFilter()}, {"v_filter": LOG})
    ]
    for i, one in enumerate(generated):
        for other in generated[:i]:
            assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("masking", [False, True])
def test_cached_anchors_are_filtered_as_those_in_the_batch(model: Model, story: Story, masking: bool) -> None:
    settings = replace(FILTERED, masking=masking, mask_dropout=0.3, batch=1)
    generated = latents_of(generate(model, story, settings))
    torch.testing.assert_close(generated, denoise_together(model, story, settings), rtol=0, atol=1e-3)


def test_an_anchor_alone_is_never_filtered(small_model: Model, story: Story) -> None:
    plain, filtered = (
        latents_of(generate(small_model, story, replace(FILTERED, anchors=1, **change)))
        for change in ({"sdsa": False}, {})
    )
    torch.testing.assert_close(filtered[0], plain[0], rtol=0, atol=1e-4)
    assert (filtered[1] - plain[1]).abs().max() > 1e-3


def test_the_log_has_what_was_kept_and_changes_nothing(small_model: Model, story: Story) -> None:
    log = FullLog()
    logged = latents_of(generate(small_model, story, FILTERED, filter_log=log))
    assert torch.equal(logged, latents_of(generate(small_model, story, FILTERED)))
    assert {record.step for record in log.records} == {1, 2, 3}, "step 0 shares nothing"
    assert {record.matrix for record in log.records} == {"K", "V"}
    assert {record.anchor for record in log.records} == {0, 1}
    assert {record.half for record in log.records} == {0, 1}
    for record in log.records:
        squares = record.before.double().square()
        energy = (squares[: record.kept].sum() / squares.sum()).item()
        assert record.energy == pytest.approx(energy, rel=1e-4)
        assert (record.after > 0).sum() <= record.kept
        if record.matrix == "K":
            assert record.kept == int(0.2 * (len(squares) - 1)) + 1
        else:
            assert energy > 0.9 >= (squares[: record.kept - 1].sum() / squares.sum()).item()


@pytest.mark.parametrize("masking", [False, True])
def test_the_log_distinguishes_anchors(small_model: Model, story: Story, masking: bool) -> None:
    """Also where their masks leave them different numbers of tokens, and where they are cached."""
    log, generated = FullLog(), replace(FILTERED, masking=masking, batch=1)
    list(generate(small_model, story, generated, filter_log=log))
    assert {record.anchor for record in log.records} == {0, 1}


@pytest.mark.parametrize(
    "select", [SVDFilter("count", 3), SVDFilter("quantile", 0.2, "log"), SVDFilter(reweight="log")]
)
def test_a_summary_agrees_with_a_full_log(small_model: Model, story: Story, select: SVDFilter) -> None:
    settings = replace(FILTERED, k_filter=select, v_filter=select)
    log, summary = FullLog(), FilterSummary(settings.steps)
    for one in (log, summary):
        list(generate(small_model, story, settings, filter_log=one))
    assert summary.logged_curve_steps == [1, 2, 3], "step 0 shares nothing"
    last = {(r.matrix, r.layer, r.step, r.anchor): r for r in log.records if r.half == 1}
    assert {(*at, anchor) for at, found in summary.stats.items() for anchor in found} == set(last)
    for (*at, anchor), record in last.items():
        one = summary.stats[tuple(at)][anchor]
        assert (one.kept, one.energy, one.rank) == (record.kept, record.energy, len(record.before))
        gone = (record.before > 0) & (record.after == 0)
        assert one.zeroed == (0 if one.unchanged else gone[: one.kept].sum())
        assert one.curve.ranks[0] == 1
        assert one.curve.ranks[-1] == one.rank
        edge = {one.kept, min(one.kept + 1, one.rank)}
        assert edge <= set(one.curve.ranks), "the edge of what is kept is seen"
        places = torch.tensor(one.curve.ranks) - 1
        torch.testing.assert_close(torch.tensor(one.curve.before), record.before[places])
        torch.testing.assert_close(torch.tensor(one.curve.after), record.after[places])


def test_a_summary_stays_small() -> None:
    many = torch.rand(20, 2, 64, 1280, dtype=torch.float64)
    summary = FilterSummary(steps=50)
    _, report = filter_with_report(many, SVDFilter("quantile", 0.5))
    for step in range(1, 50):
        summary.add("K", "layer", step, range(20), report)
    assert len(summary.stats) == 49
    assert len(summary.logged_curve_steps) == 10
    assert (summary.logged_curve_steps[0], summary.logged_curve_steps[-1]) == (1, 49)
    for found in summary.stats.values():
        assert len(found) == 8
    (at,) = (at for at in summary.stats if at[2] == 49)
    assert all(len(one.curve.ranks) <= 75 for one in summary.stats[at].values())


def test_a_story_can_be_logged_without_a_filter(small_model: Model, story: Story) -> None:
    log, settings = FullLog(), Settings(steps=3)
    logged = latents_of(generate(small_model, story, settings, filter_log=log))
    torch.testing.assert_close(logged, latents_of(generate(small_model, story, settings)), rtol=0, atol=1e-4)
    assert all(record.energy == pytest.approx(1) for record in log.records if record.kept)
    assert log.records


def test_the_presets_have_the_published_filters(small_model: Model, story: Story) -> None:
    for name in ("svd-quantile", "svd-energy", "svd-log", "svd-log2", "svd-log2-quantile", "svd-ours"):
        settings = preset(name)
        assert settings.filters
        assert not settings.masking
        assert settings.k_filter == settings.v_filter
        latents = latents_of(generate(small_model, story, replace(settings, steps=2)))
        assert latents.isfinite().all()
    assert preset("svd-quantile").k_filter == SVDFilter("quantile", 0.05)
    assert preset("svd-energy").v_filter == SVDFilter("energy", 0.95)
    assert not any(PRESETS[name].filters for name in ("plain", "sdsa", "consistory"))


def test_a_filter_without_sharing_is_noted_as_without_effect(small_model: Model, story: Story) -> None:
    started = next(iter(generate(small_model, story, replace(FILTERED, sdsa=False))))
    assert isinstance(started, Started)
    assert started.notes[0].startswith("SVD filters have no effect")


def test_a_filter_is_read_from_a_record() -> None:
    recorded = {"keep": "quantile", "amount": 0.05}
    assert Settings(k_filter=recorded).k_filter == SVDFilter("quantile", 0.05)
    with pytest.raises(ValueError, match=r"^v_filter\.amount must be .*, got 2$"):
        Settings(v_filter={"keep": "quantile", "amount": 2})
    with pytest.raises(ValueError, match=r"^v_filter.selects must be a field of SVDFilter"):
        Settings(v_filter={"selects": "all"})
