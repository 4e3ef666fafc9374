"""Start the studio: `python app.py`, then open http://localhost:7860."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from consistory_svd.compat import quiet_libraries
from consistory_svd.flags import run, wrong_values
from consistory_svd.library import VARIABLE, Library, open_library
from consistory_svd.studio import create_demo, launch

# A Hugging Face Space reaches its app from outside; on a person's machine only the person should.
DEFAULT_HOST = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"
OWN_MACHINE = ("127.0.0.1", "localhost", "::1")

log = logging.getLogger("studio")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Also open a public link.")] = False,
    source: Annotated[
        str | None,
        typer.Option("--model", help="Folder or hub id of an SDXL; by default the storybook model."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Torch device; the best there is by default.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--library",
            help=f"Folder that stories are kept in; {VARIABLE} or a folder among the user's data by default.",
        ),
    ] = None,
    private: Annotated[
        bool | None,
        typer.Option(
            "--private-stories/--common-stories",
            help="Whether each visitor sees only the stories of their own visit, which go when it ends. "
            "So it is by default where others than this machine reach the studio.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Tell stories in the browser."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    quiet_libraries()
    with wrong_values():
        library = chosen_library(folder, private, host, share)
        try:
            launch(create_demo(source, device, library), host, port, share, library)
        except OSError as error:
            raise ValueError(f"port: nothing can listen on {port} at {host}; it may be taken") from error


def chosen_library(folder: Path | None, private: bool | None, host: str, share: bool) -> Library | None:
    """The library that all see, or None where each visitor has their own.

    ValueError, naming `library`, for a folder that nobody would see.
    """
    if private is None:
        private = share or host not in OWN_MACHINE or "SPACE_ID" in os.environ
    if not private:
        library = open_library(folder)
        log.info(library.note or f"Stories are kept in {library.root}")
        return library
    if folder is not None:
        raise ValueError(
            f"library: {str(folder)!r} is not allowed where each visitor has their own stories; leave it "
            "out, or add --common-stories to show it to all who come"
        )
    return None


if __name__ == "__main__":
    sys.exit(run(app))
