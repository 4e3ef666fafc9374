"""Start the studio: `python app.py`, then open http://localhost:7860."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from consistory_svd.__main__ import CONFIG, DEVICE, DTYPE, LORA, MEMORY, MODEL
from consistory_svd.compat import quiet_libraries
from consistory_svd.flags import run, wrong_values
from consistory_svd.loading import ModelRequest
from consistory_svd.studio import create_demo, launch

# A Hugging Face Space reaches its app from outside; on a person's machine only the person should.
DEFAULT_HOST = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Also open a public link.")] = False,
    source: Annotated[str | None, MODEL] = None,
    lora: Annotated[list[str] | None, LORA] = None,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    memory: Annotated[str, MEMORY] = "auto",
    config: Annotated[Path | None, CONFIG] = None,
) -> None:
    """Tell stories in the browser."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    quiet_libraries()
    with wrong_values():
        request = ModelRequest.of(source, device, dtype, lora or (), memory, config)
        try:
            launch(create_demo(request), host=host, port=port, share=share)
        except OSError as error:
            raise ValueError(f"port: nothing can listen on {port} at {host}; it may be taken") from error


if __name__ == "__main__":
    sys.exit(run(app))
