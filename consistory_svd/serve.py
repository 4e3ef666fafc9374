"""The studio as a command: `python app.py` in a checkout, `consistory-svd studio` where it is installed."""

import logging
import os
from typing import Annotated

import typer

from consistory_svd.compat import quiet_libraries
from consistory_svd.flags import wrong_values

# A Hugging Face Space reaches its app from outside; on a person's machine only the person should.
DEFAULT_HOST = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"


def studio(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 lets other machines in.", envvar="CONSISTORY_SVD_HOST"
        ),
    ] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Also open a public link.")] = False,
    source: Annotated[
        str | None,
        typer.Option("--model", help="Folder or hub id of an SDXL; by default the storybook model."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Torch device; the best there is by default.")] = None,
) -> None:
    """Tell stories in the browser."""
    from consistory_svd.studio import create_demo, launch  # Gradio takes seconds that no other command needs

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    quiet_libraries()
    with wrong_values():
        try:
            launch(create_demo(source, device), host=host, port=port, share=share)
        except OSError as error:
            raise ValueError(f"port: nothing can listen on {port} at {host}; it may be taken") from error
