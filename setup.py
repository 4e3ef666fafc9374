"""What `pyproject.toml` cannot say: the wheel carries `assets/`, and leaves torch to whoever installs it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# `requirements.txt` pins torch, for one environment known to work. A wheel that did so would replace the
# torch that was chosen for somebody's card. 2.6 is the oldest that transformers takes, 0.21 its torchvision.
LOOSE = {"torch": "torch>=2.6,<3", "torchvision": "torchvision>=0.21,<1"}


def dependencies() -> list[str]:
    """The lines of `requirements.txt`, without its pins of torch."""
    text = (Path(__file__).parent / "requirements.txt").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    return [LOOSE.get(re.match(r"[\w.-]+", line).group(), line) for line in wanted]


setup(
    packages=[*find_packages(include=["consistory_svd*"]), "consistory_svd.assets"],
    package_dir={"consistory_svd.assets": "assets"},
    package_data={
        "": ["*.css", "*.js", "*.html", "*.json"],
        "consistory_svd.studio": ["static/*"],
        "consistory_svd.assets": ["**/*"],
    },
    include_package_data=False,
    install_requires=dependencies(),
)
