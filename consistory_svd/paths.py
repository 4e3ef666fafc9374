"""Where the files lie that come with the package and are not code."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries `assets/` inside of the package; a checkout, also one installed with -e, has it beside.
ASSETS = next(
    (folder for folder in (_PACKAGE / "assets", _PACKAGE.parent / "assets") if folder.is_dir()),
    _PACKAGE / "assets",
)
