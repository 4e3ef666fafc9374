"""Where pictures that are being drawn are, until they are finished: nobody keeps them."""

import shutil
import tempfile
import weakref
from pathlib import Path

# Removed when the process ends.
_HOME = tempfile.TemporaryDirectory(prefix="previews-")
HOME = Path(_HOME.name)


def drafts_of(owner: object) -> Path:
    """A new folder that goes with its owner."""
    folder = Path(tempfile.mkdtemp(dir=HOME))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
