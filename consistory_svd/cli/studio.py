"""The studio as a command: `python app.py` in a checkout, `consistory-svd studio` where it is installed."""

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from consistory_svd.cli.model_options import CONFIG, DEVICE, DTYPE, HIDE_SEXUAL, LORA, MEMORY, MODEL
from consistory_svd.cli.options import wrong_values
from consistory_svd.compat import quiet_libraries
from consistory_svd.errors import FieldError
from consistory_svd.fields import field_of
from consistory_svd.library import VARIABLE, Library, open_library
from consistory_svd.limits import (
    PUBLIC,
    Limits,
    hides_sexual_pictures,
    limits_of,
    public,
    read_auth,
    warnings,
)
from consistory_svd.models.request import ModelRequest

# A Hugging Face Space reaches its app from outside; on a person's machine only the person should.
DEFAULT_HOST = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"

log = logging.getLogger("studio")


def _limit(name: str) -> Any:
    """The flag of a field of Limits."""
    known = field_of(Limits, name)
    return typer.Option(
        f"--max-{name}",
        min=known.minimum,
        max=known.maximum,
        help=f"{known.help} Open by default, {getattr(PUBLIC, name)} where strangers reach the studio.",
        metavar="NUMBER",
    )


def chosen_library(folder: Path | None, private: bool) -> Library | None:
    """The library that all see, or None where each visitor has their own.

    ValueError, naming `library`, for a folder that nobody would see.
    """
    if not private:
        library = open_library(folder)
        log.info(library.note or f"Stories are kept in {library.root}")
        return library
    if folder is not None:
        raise FieldError("library", str(folder), "left out, or given with --common-stories")
    return None


def studio(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 lets other machines in.", envvar="CONSISTORY_SVD_HOST"
        ),
    ] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port to listen on.", envvar="CONSISTORY_SVD_PORT")
    ] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Also open a public link, for which Gradio's servers are asked.")
    ] = False,
    auth: Annotated[
        list[str] | None,
        typer.Option(
            help="user:password of someone who may come in; again, or parted by commas, for more. "
            "In the variable it is not seen by other users of this machine.",
            metavar="USER:PASSWORD",
            envvar="CONSISTORY_SVD_AUTH",
            show_default=False,
        ),
    ] = None,
    max_frames: Annotated[int | None, _limit("frames")] = None,
    max_steps: Annotated[int | None, _limit("steps")] = None,
    max_size: Annotated[int | None, _limit("size")] = None,
    max_queue: Annotated[int | None, _limit("queue")] = None,
    max_batch: Annotated[int | None, _limit("batch")] = None,
    source: Annotated[str | None, MODEL] = None,
    lora: Annotated[list[str] | None, LORA] = None,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    memory: Annotated[str, MEMORY] = "auto",
    config: Annotated[Path | None, CONFIG] = None,
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
    hide_sexual: Annotated[bool, HIDE_SEXUAL] = False,
) -> None:
    """Tell stories in the browser.

    Where others than this machine reach the studio (--share, a --host that is not this machine alone, a
    Hugging Face Space), limits are on, each visitor sees only their own stories, and nobody loads another
    model.
    """
    # Gradio and torch take seconds that no other command needs.
    from consistory_svd.content_filter import load_content_filter
    from consistory_svd.studio import create_demo, launch

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    quiet_libraries()
    with wrong_values():
        exposed = public(host, share, os.environ)
        users = read_auth(auth or ())
        limits = limits_of(
            exposed, frames=max_frames, steps=max_steps, size=max_size, queue=max_queue, batch=max_batch
        )
        for line in warnings(exposed, users, os.environ):
            log.warning(line)
        # Without its weights the studio does not start: never a demo that only seems to be filtered.
        content_filter = (
            load_content_filter() if hides_sexual_pictures(os.environ, asked=hide_sexual) else None
        )
        library = chosen_library(folder, exposed if private is None else private)
        if content_filter and library and (generated := len(library.stories())):
            log.warning(
                f"The filter looks at what is told from now on, not at {generated} stories in the library"
            )
        request = ModelRequest.parse(source, device, dtype, lora or (), memory, config)
        demo = create_demo(
            request, limits=limits, library=library, may_switch=not exposed, content_filter=content_filter
        )
        try:
            launch(demo, host=host, port=port, share=share, auth=users, public=exposed, library=library)
        except OSError as error:
            raise ValueError(f"port: nothing can listen on {port} at {host}; it may be taken") from error
