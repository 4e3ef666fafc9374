"""All metrics together, the storybook's own among them, and their settings."""

from pathlib import Path

import pytest
import torch

from consistory_svd.errors import FieldError
from consistory_svd.metrics.images import Embeddings
from consistory_svd.metrics.result import Frames, MetricUnavailable, MissingScore, Result
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.storybook import IdentityAgreement, StorybookClip
from consistory_svd.metrics.suite import Suite, harmonic_means

# isort: split


from tests.tiny_networks import PROMPTS, by_name, frames, model_cosines, number, picture


def test_storybook_clip_has_its_own_name(clip_folder: Path, tmp_path: Path):
    (result,) = StorybookClip(ScoreSettings(), Embeddings(), folder=clip_folder).measure(frames())
    assert result.name == "Storybook CLIP alignment"
    expected = model_cosines(clip_folder, frames().images, PROMPTS).diagonal()
    assert result.per_frame == pytest.approx(expected, abs=1e-5)
    with pytest.raises(MetricUnavailable, match="storybook CLIP is missing"):
        StorybookClip(ScoreSettings(), Embeddings(), folder=tmp_path / "none").measure(frames())


class Answers:
    """A reader whose answers are known."""

    def __init__(self, *answers: dict[str, str]) -> None:
        self._answers = list(answers)

    def read(self, images) -> list[dict[str, str]]:
        return self._answers


def test_identity_agreement_counts_equal_attributes():
    common = {"pattern": "plain", "accessory": "hat", "accessory_color": "blue"}
    score = IdentityAgreement()
    score._reader = Answers(
        {"subject": "cat", "color": "red", "scene": "forest", **common},
        {"subject": "cat", "color": "red", "scene": "beach", **common},
        {"subject": "dog", "color": "blue", "scene": "snow", **common},
    )
    (result,) = score.measure(frames())
    assert result.matrix[0] == pytest.approx((1, 1, 3 / 5))
    assert result.value == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)
    assert result.table[0] == ("subject", "cat", "cat", "dog", "33%")
    assert result.table[2] == ("pattern", "plain", "plain", "plain", "100%")
    assert "scene" not in {row[0] for row in result.table}


def test_identity_agreement_of_an_image_with_itself_is_1():
    (result,) = IdentityAgreement().measure(Frames([picture(0)] * 2, ["", ""]))
    assert (result.value, result.better) == (1.0, "higher")


def test_s_h_is_the_harmonic_mean_of_its_four_parts():
    parts = [number("CLIPScore", 0.8), number("CLIP-I", 0.9), number("DreamSim", 0.3)]
    (missing,) = harmonic_means({r.name: r for r in parts})
    assert isinstance(missing, MissingScore)
    assert "DINO similarity" in missing.why
    parts.append(number("DINO similarity", 0.6))
    (result,) = harmonic_means({r.name: r for r in parts})
    assert result.name == "S_H"
    assert result.value == pytest.approx(4 / (1 / 0.8 + 1 / 0.9 + 1 / (1 - 0.3) + 1 / 0.6))
    parts[0] = number("CLIPScore", 0.0)
    (missing,) = harmonic_means({r.name: r for r in parts})
    assert "not above zero" in missing.why


def test_without_weights_every_score_is_missing_with_a_reason(tmp_path: Path):
    entries = list(Suite(ScoreSettings(cache=tmp_path)).measure(frames(storybook=True)))
    lines = {entry.name: str(entry) for entry in entries if isinstance(entry, MissingScore)}
    assert {"DreamSim", "CLIP", "DINO similarity", "S_H"} <= set(lines)
    assert "fetch dreamsim --backbone ensemble" in lines["DreamSim"]
    assert "fetch clip" in lines["CLIP"]
    own = {"Identity agreement by the storybook reader", "Storybook CLIP alignment"}
    assert set(by_name(entries)) <= own
    assert "Identity agreement by the storybook reader" in by_name(entries)


def test_the_reader_does_not_score_images_of_other_models(tmp_path: Path):
    entries = list(Suite(ScoreSettings(cache=tmp_path)).measure(frames()))
    assert by_name(entries) == {}
    assert not any("torybook" in entry.name for entry in entries)


def test_a_failing_metric_stops_no_other(clip_folder: Path, tmp_path: Path):
    suite = Suite(ScoreSettings(clip=str(clip_folder), cache=tmp_path))

    class Broken:
        name = "Broken"

        def measure(self, frames: Frames) -> list[Result]:
            raise KeyError("lost")

    suite._scores = (Broken(), *suite._scores)
    first, *others = suite.measure(frames())
    assert first == MissingScore("Broken", "the computation failed (KeyError: 'lost')")
    assert "CLIP-T" in by_name(others)


def test_free_releases_weights_and_scores_stay_the_same(clip_folder: Path, tmp_path: Path):
    suite = Suite(ScoreSettings(clip=str(clip_folder), cache=tmp_path))
    before = by_name(suite.measure(frames()))
    suite.free()
    assert suite._scores[1]._clip._parts is None
    assert by_name(suite.measure(frames())) == before


class Hungry:
    """A score that needs more memory than there is beside the others, or than there is at all."""

    name = "Hungry"

    def __init__(self, others: list, error: Exception, always: bool) -> None:
        self.others, self.error, self.always = others, error, always

    def measure(self, frames: Frames) -> list[Result]:
        if self.always or any(other._clip._parts for other in self.others):
            raise self.error
        return [number("Hungry", 1.0)]

    def free(self) -> None:
        pass


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("too much"), MemoryError()])
def test_out_of_memory_releases_other_weights_and_tries_again(
    clip_folder: Path, tmp_path: Path, error: Exception
):
    suite = Suite(ScoreSettings(clip=str(clip_folder), cache=tmp_path))
    clip = suite._scores[1]
    suite._scores = (clip, Hungry([clip], error, always=False), Hungry([], error, always=True), clip)
    entries = list(suite.measure(frames()))
    assert by_name(entries)["Hungry"].value == 1.0
    assert "cpu has not enough memory" in next(e for e in entries if isinstance(e, MissingScore)).why
    assert [entry.name for entry in entries].count("CLIP-T") == 2, "the others are not lost"


@pytest.mark.parametrize("short", [True, False])
def test_weights_stay_while_memory_allows(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
):
    monkeypatch.setattr("consistory_svd.metrics.suite.memory_is_short", lambda device: short)
    suite = Suite(ScoreSettings(clip=str(clip_folder), cache=tmp_path))
    list(suite.measure(frames()))
    assert (suite._scores[1]._clip._parts is None) == short


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "resnet"),
        ("dino", "no/such/folder"),
        ("fill", "black"),
        ("clip", " "),
        ("seed", -1),
        ("batch", 0),
        ("device", "abacus"),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: object):
    with pytest.raises(FieldError, match=rf"^{field} must be "):
        ScoreSettings(**{field: value})


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"images": ()}, "images"), ({"prompts": ("a",)}, "prompts"), ({"masks": (None,)}, "masks")],
)
def test_frames_that_do_not_fit_are_named(changes: dict, field: str):
    with pytest.raises(ValueError, match=rf"^{field}: "):
        frames(**changes)
