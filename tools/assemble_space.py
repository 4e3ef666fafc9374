#!/usr/bin/env python3
"""Assemble a Hugging Face Space: `python tools/assemble_space.py FOLDER`, or `make space DIR=FOLDER`.

The folder may be new, a clone of the Space, or one that was assembled before. It gets the files that the
Space needs and no others of this repository. Push it with git and git-lfs, or with `hf upload`.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPACE = ROOT / "deploy" / "space"
FOLDERS = ("consistory_svd", "assets")
FILES = {
    SPACE / "app.py": "app.py",
    SPACE / "README.md": "README.md",
    SPACE / "gitattributes": ".gitattributes",
    ROOT / "LICENSE": "LICENSE",
}
# The Space installs Gradio itself, in the version that its README names.
PREINSTALLED = {"gradio"}
UNWANTED = shutil.ignore_patterns("__pycache__", "*.pyi")


def lines_of(path: Path) -> list[str]:
    """Read the lines of a requirements file, without comments."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def name_of(line: str) -> str:
    """Return the package name in a line of a requirements file."""
    return re.match(r"[\w.-]+", line).group()


def requirements() -> list[str]:
    """Return the Space's own requirements, and those of the app that they do not replace."""
    own = lines_of(SPACE / "requirements.txt")
    replaced = PREINSTALLED | {name_of(line) for line in own}
    return own + [line for line in lines_of(ROOT / "requirements.txt") if name_of(line) not in replaced]


def assemble(folder: Path) -> None:
    """Write the Space to a folder. ValueError if it holds other files."""
    known = {*FOLDERS, *FILES.values(), "requirements.txt", ".git"}
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or not found <= known:
        other = folder.name if folder.is_file() else ", ".join(sorted(found - known))
        raise ValueError(f"DIR: {folder} holds {other}; give a new folder or a clone of the Space")
    folder.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(ROOT / name, folder / name, ignore=UNWANTED)
    for source, name in FILES.items():
        shutil.copyfile(source, folder / name)
    (folder / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Assemble the Space in the folder that is the only argument; return the exit code."""
    if len(arguments) != 1 or not arguments[0]:
        print("error: DIR: is missing; give a folder, as in make space DIR=../space", file=sys.stderr)  # noqa: T201
        return 2
    try:
        assemble(Path(arguments[0]))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
