"""Start the studio: `python app.py`, then open http://localhost:7860."""

import sys

import typer

from consistory_svd.cli.options import run
from consistory_svd.cli.studio import studio

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(studio)

if __name__ == "__main__":
    sys.exit(run(app))
