"""Package data and requirements of the wheel: it contains `assets/` and does not pin torch."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# `requirements.txt` pins torch for one tested environment. A wheel that pinned it would replace the torch
# that a user has installed for their card. transformers needs at least 2.6; 0.21 is its torchvision.
LOOSE = {"torch": "torch>=2.6,<3", "torchvision": "torchvision>=0.21,<1"}


def dependencies() -> list[str]:
    """Return the lines of `requirements.txt`, without its pins of torch."""
    text = (Path(__file__).parent / "requirements.txt").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    return [LOOSE.get(re.match(r"[\w.-]+", line).group(), line) for line in wanted]


setup(
    packages=[*find_packages(include=["consistory_svd*"]), "consistory_svd.assets"],
    package_dir={"consistory_svd.assets": "assets"},
    package_data={
        "": ["*.css", "*.js", "*.html", "*.json"],
        "consistory_svd.studio": ["static/*", "templates/*"],
        "consistory_svd.assets": ["**/*"],
    },
    include_package_data=False,
    install_requires=dependencies(),
)
