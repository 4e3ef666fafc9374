"""The documentation matches the repository: files, links, commands and options exist."""

import importlib.util
import os
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import typer

from consistory_svd.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/method.md", "docs/svd-study.md", "docs/gpu.md", "docs/deploy.md")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def commands_of(page: str) -> list[list[str]]:
    """Return the commands in a page's shell blocks, as lists of arguments."""
    blocks = re.findall(r"```bash\n(.*?)```", text_of(page), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines]


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):(?!=)", text_of("Makefile"), flags=re.MULTILINE))


def options_of(name: str) -> set[str]:
    """Return all option names of a command. KeyError if the command does not exist."""
    command = typer.main.get_command(app).commands[name]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def check_own_command(arguments: list[str]) -> None:
    """Check that a command of the package exists with the options that are used."""
    name, *rest = arguments
    used = {argument.partition("=")[0] for argument in rest if argument.startswith("--")}
    assert used <= options_of(name), arguments


def check_command(command: list[str]) -> None:
    match command:
        case ["make", target, *_]:
            assert target in makefile_targets()
        case [python, "-m", "consistory_svd", *rest] if python.endswith("python"):
            check_own_command(rest)
        case [python, "-m", module, *_] if python.endswith("python"):
            assert importlib.util.find_spec(module), module
        case [python, "app.py", *rest] if python.endswith("python"):
            check_own_command(["studio", *rest])
        case ["consistory-svd", *rest]:
            check_own_command(rest)
        case ["docker", "run", *rest]:
            image = next(i for i, part in enumerate(rest) if part.startswith("consistory-svd"))
            if rest[image + 1 :]:
                check_own_command(rest[image + 1 :])
        case ["pip" | "docker", *_]:
            pass
        case _:
            pytest.fail(f"unknown command: {shlex.join(command)}")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_documentation_exist(page: str):
    for command in commands_of(page):
        check_command(command)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_images_of_the_documentation_exist(page: str):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not target.startswith(("http://", "https://")):
            path, _, anchor = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists(), target
            headings = (
                re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.M) if anchor else []
            )
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not anchor or anchor in anchors, target


def test_everything_in_the_tree_of_the_readme_exists():
    tree = re.search(r"```text\n(.*?)```", text_of("README.md"), flags=re.DOTALL)
    stack: list[str] = []
    for line in tree.group(1).splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        stack[len(indent) // 2 :] = [name.rstrip("/")]
        path = ROOT.joinpath(*stack)
        assert path.is_dir() if name.endswith("/") else path.is_file(), f"{path} is in the README only"


def test_everything_of_the_package_is_in_the_tree_of_the_readme():
    tree = re.search(r"^consistory_svd/\n((?:  .*\n)*)", text_of("README.md"), flags=re.MULTILINE).group(1)
    named = {name.rstrip("/") for name in re.findall(r"^  (\S+)", tree, flags=re.MULTILINE)}
    files = {path.name for path in (ROOT / "consistory_svd").iterdir() if not path.name.startswith("_")}
    assert named == files


def test_sections_of_the_method_that_docstrings_cite_exist():
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", text_of("docs/method.md"), flags=re.MULTILINE))
    for folder in ("consistory_svd", "benchmarks", "training", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            source = re.sub(r"\s+#?\s*", " ", path.read_text(encoding="utf-8"))
            for cited in re.findall(r"method\.md,? \(?sections? ([\d., and]+)", source):
                assert set(re.findall(r"\d+(?:\.\d+)?", cited)) <= sections, f"{path.name}: {cited}"


def test_ci_runs_the_tests():
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    lines = [line for line in run.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "make test"


def test_names_that_the_readme_uses_can_be_imported():
    readme = text_of("README.md")
    used = re.findall(r"^from (consistory_svd[\w.]*) import (.+)$", readme, flags=re.MULTILINE)
    assert "`Suite().measure(Frames(images, prompts, masks))` of `consistory_svd.metrics`" in readme
    for module, names in [*used, ("consistory_svd.metrics", "Suite, Frames, Result, MissingScore")]:
        for name in names.split(", "):
            assert getattr(import_module(module), name), f"{module}.{name}"
