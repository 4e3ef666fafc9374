"""Helpers for tests of the wheel, the container and the Space."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SECONDS = 300


def parsed(lines: Iterable[str]) -> dict[str, Requirement]:
    """Parse requirements; return them by package name."""
    return {found.name.lower(): found for found in map(Requirement, lines)}


def requirements(path: Path) -> dict[str, Requirement]:
    """Read a requirements file; return the requirements by package name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return parsed(line for line in lines if line.strip() and not line.startswith("#"))


def files_under(folder: Path) -> set[str]:
    """Return the relative paths of a folder's files, without caches."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if path.suffix != ".pyi" and "__pycache__" not in path.parts}


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Run a command without the checkout on its path; return what it prints. Fails with its output."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **environment}, timeout=SECONDS, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
