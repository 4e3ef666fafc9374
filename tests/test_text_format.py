"""Sizes, durations and errors as text."""

import pytest

from consistory_svd.text_format import first_line, format_bytes, format_duration, format_progress


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "1 kB"),
        (340_000, "340 kB"),
        (1_500_000, "1.5 MB"),
        (48_300_000, "48 MB"),
        (1_500_000_000, "1.5 GB"),
    ],
)
def test_sizes(count: int, text: str):
    assert format_bytes(count) == text


def test_progress_of_a_download():
    assert format_progress(120_000_000, 605_000_000) == "120 of 605 MB"
    assert format_progress(120_000_000, None) == "120 MB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (39.4, "40 s"),
        (130, "2 min 10 s"),
        (180, "3 min"),
        (2700, "45 min"),
        (3 * 3600, "3 h"),
        (5 * 86400, "5 days"),
    ],
)
def test_durations(seconds: float, text: str):
    assert format_duration(seconds) == text


def test_errors_have_one_line():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
