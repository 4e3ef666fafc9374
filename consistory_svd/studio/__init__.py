"""The studio: the Gradio app. `create_demo` builds it, `launch` serves it."""

import os

# Set before gradio is imported: it reads the variable at import, and the page must not call home.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from consistory_svd.studio.app import create_demo, launch

__all__ = ["create_demo", "launch"]
