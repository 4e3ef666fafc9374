"""Matching and injection: the reference's recorded data, and identities."""

import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from consistory_svd.attention import AnchorCache, SharingState
from consistory_svd.attention.feature_injection import (
    FeatureInjection,
    Matches,
    blend_into,
    directions,
    match,
    nearest,
    smooth,
)
from consistory_svd.attention.schedule import Schedule
from consistory_svd.settings import Settings

GRID = (64, 64)


@pytest.fixture(scope="module")
def recorded() -> dict[str, torch.Tensor]:
    """Features, masks, nearest neighbours and injected values as the reference computed them."""
    return load_file(Path(__file__).parent / "data" / "unit_nn_injection.safetensors")


@pytest.fixture(scope="module")
def vectors(recorded: dict) -> torch.Tensor:
    return directions(recorded["smoothed"], GRID)


def test_smoothing_is_the_references(recorded: dict) -> None:
    torch.testing.assert_close(smooth(recorded["features"]), recorded["smoothed"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("target", "source"), [(0, 1), (1, 0), (2, 0), (2, 1)])
def test_neighbours_are_the_references(
    recorded: dict, vectors: torch.Tensor, target: int, source: int
) -> None:
    pixels = recorded["mask64"][source].nonzero().squeeze(-1)
    distance, index = nearest(vectors[target], vectors[source, pixels])
    torch.testing.assert_close(distance, recorded["nn_dist64"][target, source], rtol=0, atol=1e-6)
    same = pixels[index] == recorded["nn_map64"][target, source]
    assert same.float().mean() > 0.999  # exact ties may fall either way


def test_in_small_pieces_the_neighbours_are_the_same(
    vectors: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nearest(vectors[0], vectors[1])
    monkeypatch.setattr("consistory_svd.attention.feature_injection.CHUNK", 4096 * 5)
    for one, other in zip(nearest(vectors[0], vectors[1]), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def matched(anchors: int, recorded: dict, frames: slice, **cached: torch.Tensor) -> FeatureInjection:
    """The injection of some of the recorded frames, after the first pass."""
    features = recorded["features"][frames]
    injection = FeatureInjection(len(features), anchors, GRID, feature_step=14)
    injection.capture(14, torch.cat([torch.zeros_like(features), features]))
    injection.end_step()
    injection.find_matches(recorded["mask64"][frames], **cached)
    return injection


def injected(
    injection: FeatureInjection, recorded: dict, frames: slice, **cached: torch.Tensor
) -> torch.Tensor:
    values = recorded["inj_in"][frames].clone()
    injection.inject(values, **cached)
    return values


@pytest.mark.parametrize(("anchors", "expected"), [(1, "inj_out_a1"), (2, "inj_out_a2"), (3, "inj_out_all")])
def test_injection_one_frame_after_the_other_is_the_references(
    recorded: dict, anchors: int, expected: str
) -> None:
    output = injected(matched(anchors, recorded, slice(0, 3)), recorded, slice(0, 3))
    wrong = (output - recorded[expected]).abs().amax(-1) > 1e-5
    assert wrong.float().mean() < 1e-3  # exact ties may fall either way
    assert (output - recorded["inj_in"]).abs().max() > 0.1


def test_a_later_frame_takes_from_the_cache(recorded: dict) -> None:
    """Also: only the conditional half is injected, and only the subjects' pixels are cached."""
    anchors, cache = slice(0, 2), AnchorCache()
    state = types.SimpleNamespace(
        frames=2, step=1, read_cache=None, write_cache=cache, injection=matched(2, recorded, anchors)
    )
    output = torch.cat([torch.zeros_like(recorded["inj_in"][anchors]), recorded["inj_in"][anchors]])
    SharingState.inject(state, "layer", output)
    assert not output[:2].any()
    values = cache.get_injected("layer", 1, output)
    assert len(values) == recorded["mask64"][anchors].sum()
    features = directions(recorded["smoothed"], GRID)[anchors][recorded["mask64"][anchors]]

    extra = slice(2, 3)
    output = injected(matched(0, recorded, extra, cached=features), recorded, extra, cached=values)
    together = injected(matched(2, recorded, slice(0, 3)), recorded, slice(0, 3))
    torch.testing.assert_close(output, together[2:], rtol=0, atol=1e-6)


def test_without_donors_nothing_is_injected(recorded: dict, vectors: torch.Tensor) -> None:
    assert match(vectors[0], recorded["mask64"][0], vectors[1][:0]) is None
    empty = {**recorded, "mask64": torch.zeros_like(recorded["mask64"])}
    output = injected(matched(2, empty, slice(0, 3)), recorded, slice(0, 3))
    assert torch.equal(output, recorded["inj_in"])


def test_blending_leaves_a_fifth_of_the_frames_own() -> None:
    values = torch.zeros(3, 2)
    blend_into(values, Matches(torch.tensor([1]), torch.tensor([0])), torch.tensor([[10.0, 5.0]]))
    assert values.tolist() == [[0, 0], [8, 4], [0, 0]]


@pytest.mark.parametrize(
    ("steps", "weights", "injected"), [(19, 2, (1, 6)), (50, 6, (5, 16)), (30, 4, (3, 10)), (4, 2, (0, 1))]
)
def test_the_schedule_is_the_papers(steps: int, weights: int, injected: tuple[int, int]) -> None:
    settings = Settings(steps=steps, query_blending=True, injection=True)
    timesteps = [981 - k * (1000 // steps) for k in range(steps)]
    schedule = Schedule.of(timesteps, settings)
    assert len(schedule.blend_weights) == weights
    assert (schedule.injected[0], schedule.injected[-1]) == injected
    nearest_to = min(timesteps, key=lambda t: abs(t - 261))
    assert timesteps[schedule.feature_step] == nearest_to
    assert schedule.calls == steps + steps - injected[0]
    short = Schedule.of(timesteps, Settings(steps=steps, injection=True, short_first_pass=True))
    assert short.first_pass_end == schedule.feature_step + 1
    if steps == 30:
        recorded = [0.9, 0.8727891166666667, 0.8455782333333334, 0.81836735]
        assert schedule.blend_weights == pytest.approx(recorded)


def test_with_everything_off_the_schedule_is_one_pass() -> None:
    schedule = Schedule.of(range(981, 0, -20), Settings(sdsa=False))
    assert (schedule.blend_weights, list(schedule.injected), schedule.calls) == ((), [], 50)
