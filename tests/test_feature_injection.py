"""Matching and injection: the reference's recorded data, and identities."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from consistory_svd.attention import AnchorCache, SharingState
from consistory_svd.attention.feature_injection import Matches, blend_into, directions, match, nearest, smooth
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


class Injecting(SharingState):
    """A state with features and masks that a test gives, without a U-Net."""

    def __init__(
        self, frames: int, anchors: int, vectors: torch.Tensor, masks: torch.Tensor, **anchor_caches
    ):
        self.frames, self.halves, self.latent_size = frames, 2, (128, 128)
        self.read_cache, self.write_cache = anchor_caches.get("reading"), anchor_caches.get("filling")
        self.schedule = Schedule.of(range(937, 0, -52), Settings(steps=19, injection=True))
        self.step, self.keeping = 1, False
        self._anchors = range(anchors)
        self._features = vectors
        self._given = masks

    @property
    def finest_grid(self) -> tuple[int, int]:
        return GRID

    def masks(self, grid: tuple[int, int]) -> torch.Tensor:
        return self._given


def injected(state: SharingState, recorded: dict, frames: slice) -> torch.Tensor:
    state.find_matches()
    assert state.injects()
    unconditional = torch.zeros_like(recorded["inj_in"][frames])
    output = torch.cat([unconditional, recorded["inj_in"][frames]])
    state.inject("layer", output)
    assert torch.equal(output[: len(unconditional)], unconditional), "only the conditional half is injected"
    return output[len(unconditional) :]


@pytest.mark.parametrize(("anchors", "expected"), [(1, "inj_out_a1"), (2, "inj_out_a2"), (3, "inj_out_all")])
def test_injection_one_frame_after_the_other_is_the_references(
    recorded: dict, anchors: int, expected: str
) -> None:
    state = Injecting(3, anchors, recorded["smoothed"], recorded["mask64"])
    output = injected(state, recorded, slice(0, 3))
    wrong = (output - recorded[expected]).abs().amax(-1) > 1e-5
    assert wrong.float().mean() < 1e-3  # exact ties may fall either way
    assert (output - recorded["inj_in"]).abs().max() > 0.1


def test_an_extra_frame_takes_what_the_bank_kept(recorded: dict) -> None:
    anchor_cache = AnchorCache()
    anchors = Injecting(2, 2, recorded["smoothed"][:2], recorded["mask64"][:2], filling=anchor_cache)
    injected(anchors, recorded, slice(0, 2))
    masks = recorded["mask64"]
    assert len(anchor_cache.features) == masks[:2].sum(), "only the subject's pixels are kept"
    extra = Injecting(1, 0, recorded["smoothed"][2:], masks[2:], reading=anchor_cache)
    output = injected(extra, recorded, slice(2, 3))
    together = injected(Injecting(3, 2, recorded["smoothed"], masks), recorded, slice(0, 3))
    torch.testing.assert_close(output, together[2:], rtol=0, atol=1e-6)


def test_nothing_is_taken_where_nobody_gives(recorded: dict, vectors: torch.Tensor) -> None:
    assert match(vectors[0], recorded["mask64"][0], vectors[1][:0]) is None
    nobody = torch.zeros_like(recorded["mask64"])
    state = Injecting(3, 2, recorded["smoothed"], nobody)
    assert torch.equal(injected(state, recorded, slice(0, 3)), recorded["inj_in"])


def test_blending_keeps_a_fifth_of_its_own() -> None:
    values = torch.zeros(3, 2)
    blend_into(values, Matches(torch.tensor([1]), torch.tensor([0])), torch.tensor([[10.0, 5.0]]))
    assert values.tolist() == [[0, 0], [8, 4], [0, 0]]


@pytest.mark.parametrize(
    ("steps", "weights", "injected"), [(19, 2, (1, 6)), (50, 6, (5, 16)), (30, 4, (3, 10)), (4, 2, (0, 1))]
)
def test_the_schedule_is_that_of_the_spec(steps: int, weights: int, injected: tuple[int, int]) -> None:
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
