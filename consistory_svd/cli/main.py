"""The command line. Commands import what they run when they run, so that help and errors appear at once."""

import typer

from consistory_svd.cli.export import export
from consistory_svd.cli.generate import generate
from consistory_svd.cli.options import run
from consistory_svd.cli.score import fetch, score
from consistory_svd.cli.studio import studio

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
for command in (generate, export, fetch, score, studio):
    app.command()(command)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Generate stories: images of several scenes with a consistent subject."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> int:
    """Run the command line of the process and return its exit code."""
    return run(app)
