"""What the README promises is what the house does."""

import os
import re
import tomllib
from pathlib import Path

HOUSE = Path(__file__).parents[1]


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):(?!=)", (HOUSE / "Makefile").read_text(), flags=re.MULTILINE))


def test_readme_commands_are_the_makefiles():
    commands = re.findall(r"^make (\w+)$", (HOUSE / "README.md").read_text(), flags=re.MULTILINE)
    assert commands == ["app", "test"]
    assert set(commands) <= makefile_targets()


def test_makefile_has_the_promised_targets():
    assert {"setup", "app", "test", "lint", "train", "space"} <= makefile_targets()


def test_ci_calls_make_test_and_nothing_else():
    run = HOUSE / ".ci" / "run"
    assert os.access(run, os.X_OK)
    commands = [
        line for line in run.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))
    ]
    assert commands == ["make test"]


def test_everything_in_the_readmes_tree_exists():
    tree = re.search(r"```text\n(.*?)```", (HOUSE / "README.md").read_text(), flags=re.DOTALL)
    stack: list[str] = []
    for line in tree.group(1).splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        stack[len(indent) // 2 :] = [name.rstrip("/")]
        path = HOUSE.joinpath(*stack)
        assert path.is_dir() if name.endswith("/") else path.is_file(), f"{path} is in the README only"


def test_pictures_of_the_readme_exist():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", (HOUSE / "README.md").read_text()):
        assert (HOUSE / picture).is_file(), picture


def test_licence_is_stated_once_and_in_full():
    assert "Version 2.0, January 2004" in (HOUSE / "LICENSE").read_text()
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["requires-python"]) == ("Apache-2.0", ">=3.11")
