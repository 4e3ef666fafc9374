"""The command `studio`; `python app.py` runs it in a checkout."""

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from consistory_svd.cli.options import CONFIG, DEVICE, DTYPE, HIDE_SEXUAL, LORA, MEMORY, MODEL, wrong_values
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

# A Hugging Face Space is reached from outside; elsewhere only this machine should reach the studio by
# default.
DEFAULT_HOST = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"

log = logging.getLogger("studio")


def _limit(name: str) -> Any:
    """Return the option of a field of Limits."""
    known = field_of(Limits, name)
    return typer.Option(
        f"--max-{name}",
        min=known.minimum,
        max=known.maximum,
        help=f"{known.help} Default: no limit; {getattr(PUBLIC, name)} on a public server.",
        metavar="NUMBER",
    )


def choose_library(folder: Path | None, private: bool) -> Library | None:
    """Return the shared library, or None if each visitor has a private one.

    Raises:
        FieldError: a folder is given that nobody would see.
    """
    if not private:
        library = open_library(folder)
        log.info(library.note or f"Stories are saved in {library.root}")
        return library
    if folder is not None:
        raise FieldError("library", str(folder), "left out, or given with --common-stories")
    return None


def studio(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 accepts other machines.", envvar="CONSISTORY_SVD_HOST"
        ),
    ] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port to listen on.", envvar="CONSISTORY_SVD_PORT")
    ] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Also open a public link through Gradio's servers.")
    ] = False,
    auth: Annotated[
        list[str] | None,
        typer.Option(
            help="user:password required to log in; repeat, or separate by commas, for several users. "
            "Other users of this machine cannot see it in the environment variable.",
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
            help=f"Folder of saved stories. Default: {VARIABLE}, or a folder in the user's data.",
        ),
    ] = None,
    private: Annotated[
        bool | None,
        typer.Option(
            "--private-stories/--common-stories",
            help="Private: each visitor sees only their own stories, deleted at the end of the visit. "
            "Default when other machines can reach the server.",
            show_default=False,
        ),
    ] = None,
    hide_sexual: Annotated[bool, HIDE_SEXUAL] = False,
) -> None:
    """Start the studio, to generate stories in the browser.

    On a public server (--share, a --host other than this machine, a Hugging Face Space), limits apply,
    stories are private, and visitors cannot load another model.
    """
    from consistory_svd.compat import quiet_libraries

    from consistory_svd.content_filter import load_content_filter
    from consistory_svd.models.request import ModelRequest
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
        # The studio does not start without its weights: never a demo that only seems to be filtered.
        content_filter = (
            load_content_filter() if hides_sexual_pictures(os.environ, asked=hide_sexual) else None
        )
        library = choose_library(folder, exposed if private is None else private)
        if content_filter and library and (generated := len(library.stories())):
            log.warning(
                f"The content filter checks new images only, not the {generated} stories in the library"
            )
        request = ModelRequest.parse(source, device, dtype, lora or (), memory, config)
        demo = create_demo(
            request, limits=limits, library=library, may_switch=not exposed, content_filter=content_filter
        )
        try:
            launch(demo, host=host, port=port, share=share, auth=users, public=exposed, library=library)
        except OSError as error:
            raise ValueError(f"port: cannot listen on {host}:{port}; it may be in use") from error
