"""Imports: a torchvision built for another torch is fixed or hidden, and light modules load no torch."""

import ast
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
print(compat.cure_torchvision() or "cured", "|", importlib.util.find_spec("torchvision") is not None)
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
    fault = "RuntimeError: operator torchvision::nms is cursed"
    monkeypatch.setattr("consistory_svd.metrics.dreamsim.cure_torchvision", lambda: fault)
    with pytest.raises(MetricUnavailable, match=r"torchvision does not work here.*is cursed") as caught:
        DreamSim(ScoreSettings(cache=tmp_path, backbone="clip_vitb32"), Embeddings()).measure(frames())
    assert "pip install" in caught.value.remedy
    assert not dreamsim_folder("clip_vitb32", tmp_path).exists()


def test_the_workaround_is_imported_before_diffusers_and_transformers():
    package = Path(compat.__file__).parent
    for path in package.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        imported = [node.module for node in body if isinstance(node, ast.ImportFrom) and node.module]
        imported += [name.name for node in body if isinstance(node, ast.Import) for name in node.names]
        if {name.split(".")[0] for name in imported} & {"diffusers", "transformers"}:
            assert "consistory_svd.compat" in imported, path
