"""The folder of the files that come with the package and are not code."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# In a wheel `assets/` is inside the package, in a checkout (also installed with -e) beside it.
ASSETS = next(
    (folder for folder in (_PACKAGE / "assets", _PACKAGE.parent / "assets") if folder.is_dir()),
    _PACKAGE / "assets",
)
