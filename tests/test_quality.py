"""The numbers of the model's card: they are what they say of readers and features that are known."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.attributes import accuracies, frechet, rendered, truths
from training.reader import save_weights
from training.second_reader import PlainNetwork, load_second_reader


def test_held_out_truths_are_always_the_same():
    assert truths(5) == truths(8)[:5]
    assert {"subject", "accessory", "action"} <= set(truths(1)[0])


def test_a_truth_is_rendered_anew_by_another_seed():
    first, again, other = (rendered(truths(1), seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_frechet_distance_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(400, 3))
    # Moved by 2 in one direction and twice as wide in another: 2² + (2 - 1)² times the deviation.
    assert frechet(first, first) == pytest.approx(0, abs=1e-9)
    moved = first + np.array([2.0, 0, 0])
    assert frechet(first, moved) == pytest.approx(4)
    wide = first * np.array([1.0, 2, 1])
    expected = np.var(first[:, 1], ddof=1) + first[:, 1].mean() ** 2
    # Correlations by chance make the exact value a little smaller than that of independent directions.
    assert frechet(first, wide) == pytest.approx(expected, rel=0.02)


class Fixed:
    """A reader that gives answers in turn."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def read(self, pictures):
        return self._answers.pop(0)


def test_accuracies_count_only_what_is_named():
    some = truths(40)
    wrong = [truth | {"subject": "nothing"} for truth in some[:10]] + some[10:]
    found = accuracies(Fixed(wrong, some), some, some, some)
    assert found["subject"].value == pytest.approx(0.75)
    assert found["subject"].ceiling == 1
    low, high = found["subject"].interval
    assert 0.5 < low < 0.75 < high < 0.95
    assert found["accessory"].counted == sum(truth["accessory"] != "none" for truth in some)
    assert found["pattern"].counted == sum(truth["pattern"] != "plain" for truth in some)


def test_the_second_reader_is_read_from_its_folder(tmp_path):
    network = PlainNetwork().eval()
    save_weights(tmp_path, network)
    picture = Image.fromarray(np.full((256, 256, 3), 200, np.uint8))
    assert set(load_second_reader(tmp_path).read([picture])[0]) == set(network.heads)
