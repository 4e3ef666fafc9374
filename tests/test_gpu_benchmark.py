"""The GPU benchmarks: tiny shapes on the CPU, and errors without a card."""

from pathlib import Path

import pytest
import torch

from benchmarks import memory_table
from benchmarks.gpu import CASES, app
from consistory_svd.cli.options import run


def test_the_table_has_a_row_per_case(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "gpu.md"
    arguments = ["--tiny", "--device=cpu", "--plans=full", "--steps=2", "--frames=2", f"--out={out}"]
    assert run(app, arguments) == 0
    rows = [line for line in out.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(CASES)
    assert not any("not finished" in row for row in rows)
    assert "tiny shapes, numbers mean nothing" in out.read_text()


def test_without_a_card_there_is_an_error(capsys: pytest.CaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    assert run(app, []) == 2
    assert "error: device: no CUDA device is available" in capsys.readouterr().err
    assert run(memory_table.app, []) == 2
    assert "error: device must be a CUDA device" in capsys.readouterr().err
    assert run(app, ["--plans", "huge"]) == 2
    assert "error: memory must be one of auto, full" in capsys.readouterr().err
