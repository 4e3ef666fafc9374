"""The wheel, in an environment of its own, and the Dockerfile."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import threading
import venv
import zipfile
from email import message_from_bytes
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from consistory_svd.metadata import read_story_json
from tests.packaging_helpers import HOUSE, files_under, parsed, requirements, run

BUILT_FROM = (
    *("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"),
    *("requirements.txt", "requirements-dev.txt", "consistory_svd", "assets"),
)
LEAVE = shutil.ignore_patterns("__pycache__", "*.pyi")


APP = requirements(HOUSE / "requirements.txt")


# -- the wheel ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive of this checkout, and the wheel that was built from it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in BUILT_FROM:
        if (HOUSE / name).is_dir():
            shutil.copytree(HOUSE / name, source / name, ignore=LEAVE)
        else:
            shutil.copyfile(HOUSE / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source), cwd=out)
    return out


def test_wheel_has_the_package_and_the_assets_alone(built: Path):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = {f"consistory_svd/{name}" for name in files_under(HOUSE / "consistory_svd")}
    assets = {f"consistory_svd/assets/{name}" for name in files_under(HOUSE / "assets")}
    assert inside == package | assets


def test_source_archive_has_the_files_of_the_build(built: Path):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "requirements.txt", "LICENSE"} <= inside
    assert {f"assets/{name}" for name in files_under(HOUSE / "assets")} <= inside


def test_wheel_requires_what_the_app_needs_and_does_not_pin_torch(built: Path):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    lines = message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist")
    required = parsed(line for line in lines if "extra ==" not in line)
    assert required.keys() == APP.keys()
    for name, wanted in APP.items():
        if name in ("torch", "torchvision"):
            pinned = next(iter(wanted.specifier)).version
            assert pinned in required[name].specifier
            assert "==" not in str(required[name].specifier)
        else:
            assert required[name].specifier == wanted.specifier


def test_the_installed_command_tells_a_story_from_any_folder(built: Path, tmp_path: Path):
    """In an environment that sees the libraries of this one, but not the checkout."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    wheel = str(next(built.glob("*.whl")))
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    )
    run(*pip, wheel, cwd=tmp_path)
    own = Path(run(str(python), "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path).strip())
    (own / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    run(
        *(str(home / "bin" / "consistory-svd"), "generate", "--subject", "a cat", "--scene", "in the snow"),
        *("--preset", "plain", "--steps", "1", "--device", "cpu", "--out", "story"),
        cwd=tmp_path,
    )
    assert read_story_json(tmp_path / "story").model == "the embedded storybook model"
    assert (own / "consistory_svd" / "__main__.py").is_file()


# -- the container -----------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions in order, as pairs of name and arguments."""
    text = re.sub(r"^#.*\n", "", (HOUSE / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def last(name: str) -> str:
    """Return the arguments of the last instruction with this name."""
    return [rest for kind, rest in instructions() if kind == name][-1]


def test_dockerfile_passes_its_linter():
    linter = Path(sys.executable).with_name("hadolint")
    assert run(str(linter), str(HOUSE / "Dockerfile"), cwd=HOUSE) == ""


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *line: object) -> None:
        """Log nothing."""


def test_health_check_uses_the_port_of_the_variable(tmp_path: Path):
    python, *rest = json.loads(re.fullmatch(r".*CMD (\[.*\])", last("HEALTHCHECK")).group(1))
    assert python == "python"
    assert "CONSISTORY_SVD_PORT=7860" in last("ENV")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = {**os.environ, "CONSISTORY_SVD_PORT": str(server.server_port), "no_proxy": "*"}
        check = partial(
            subprocess.run, [sys.executable, *rest], env=environ, capture_output=True, check=False
        )
        assert check().returncode == 0
        server.shutdown()
    assert check().returncode != 0


def test_container_writes_to_tmp_and_volumes_alone():
    folders = dict(
        pair.split("=", 1) for pair in " ".join(r for k, r in instructions() if k == "ENV").split()
    )
    for variable in ("HOME", "TMPDIR", "GRADIO_TEMP_DIR"):
        assert folders[variable].startswith("/tmp")
    volumes = yaml.safe_load(last("VOLUME"))
    for variable in ("HF_HOME", "CONSISTORY_SVD_CACHE", "CONSISTORY_SVD_LIBRARY"):
        assert any(folders[variable].startswith(volume) for volume in volumes)


def test_image_is_built_of_existing_files_and_no_secrets():
    kept = set((HOUSE / ".dockerignore").read_text().splitlines())
    assert "*" in kept
    for kind, rest in instructions():
        assert kind != "ADD"
        if kind == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (HOUSE / source).exists(), source
                assert f"!{source}" in kept, f"{source} is ignored, the image would lack it"
        if kind == "ARG":
            assert not re.search("token|secret|password", rest, re.IGNORECASE)


def test_container_and_app_pin_the_same_torch():
    for name in ("torch", "torchvision"):
        assert f"{name}{APP[name].specifier}" in (HOUSE / "Dockerfile").read_text()
