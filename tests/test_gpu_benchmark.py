"""The GPU benchmark runs, here with tiny shapes on the CPU, and says what it cannot do."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import CASES, app
from consistory_svd.cli.options import run


def test_a_table_is_made_for_every_case_and_plan(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "gpu.md"
    arguments = [
        "--tiny",
        "--device",
        "cpu",
        "--plans",
        "full,group-offload",
        "--steps",
        "3",
        "--frames",
        "3",
    ]
    assert run(app, [*arguments, "--out", str(out)]) == 0
    rows = [line for line in out.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 * len(CASES)
    assert not any("not finished" in row for row in rows)
    assert "tiny shapes, numbers mean nothing" in out.read_text()


def test_without_a_card_it_says_so(capsys: pytest.CaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    assert run(app, []) == 2
    assert "error: device: there is no CUDA device here" in capsys.readouterr().err
    assert run(app, ["--plans", "huge"]) == 2
    assert "error: memory: 'huge' is not allowed" in capsys.readouterr().err
