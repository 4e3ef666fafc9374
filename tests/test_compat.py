"""A torchvision that does not fit its torch is cured, or hidden with the reason kept."""

import subprocess
import sys
from pathlib import Path

import pytest

from consistory_svd import compat
from consistory_svd.metrics.dreamsim import DreamSim
from consistory_svd.metrics.dreamsim_weights import dreamsim_folder
from consistory_svd.metrics.images import Embeddings
from consistory_svd.metrics.result import MetricUnavailable
from consistory_svd.metrics.settings import ScoreSettings
from tests.tiny_networks import frames

# What torchvision does at import: it describes operators that its compiled part has registered.
FOREIGN_WHEEL = """
import torch
torch.library.register_fake("torchvision::nms")(lambda boxes, scores, limit: boxes)
"""
# The module alone: the package's own import would load diffusers, which a test of this need not wait for.
PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("compat", sys.argv[1])
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
assert compat.cure_torchvision() == compat.torchvision_fault()
print(compat.torchvision_fault() or "cured", "|", importlib.util.find_spec("torchvision") is not None)
"""


def cured(folder: Path, content: str) -> list[str]:
    """The fault and whether torchvision can be found, in a process whose torchvision is `content`."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(content)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, compat.__file__],
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().split(" | ")


def test_missing_operators_are_declared(tmp_path: Path):
    without = subprocess.run(
        [sys.executable, "-c", FOREIGN_WHEEL], capture_output=True, text=True, check=False
    )
    assert "operator torchvision::nms does not exist" in without.stderr
    assert cured(tmp_path, FOREIGN_WHEEL) == ["cured", "True"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("raise RuntimeError('operator torchvision::nms is cursed')", "torchvision::nms is cursed"),
        ("raise ImportError('libcudart.so: no such file')", "ImportError: libcudart.so: no such file"),
    ],
)
def test_what_cannot_be_cured_is_hidden_and_said(tmp_path: Path, content: str, fault: str):
    said, found = cured(tmp_path, content)
    assert fault in said
    assert found == "False", "transformers would import it, and fail"


def test_dreamsim_says_why_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compat, "_fault", "RuntimeError: operator torchvision::nms is cursed")
    with pytest.raises(MetricUnavailable, match=r"torchvision does not work here.*is cursed") as caught:
        DreamSim(ScoreSettings(cache=tmp_path, backbone="clip_vitb32"), Embeddings()).measure(frames())
    assert "pip install" in caught.value.remedy
    assert not dreamsim_folder("clip_vitb32", tmp_path).exists()
