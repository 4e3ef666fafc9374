"""What the tests of the wheel, the container and the Space have in common."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

HOUSE = Path(__file__).parents[1]
SECONDS = 300


def parsed(lines: Iterable[str]) -> dict[str, Requirement]:
    """Requirements by the package's name."""
    return {found.name.lower(): found for found in map(Requirement, lines)}


def requirements(path: Path) -> dict[str, Requirement]:
    """What a requirements file asks for, by name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return parsed(line for line in lines if line.strip() and not line.startswith("#"))


def files_under(folder: Path) -> set[str]:
    """The files of a folder, without what programs leave there, by their place in it."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if path.suffix != ".pyi" and "__pycache__" not in path.parts}


def run(*command: str, cwd: Path, **environment: str) -> str:
    """What a command prints, without the checkout on its path; fails with all it said where it fails."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **environment}, timeout=SECONDS, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
