"""The command line: parse, call, print."""

import sys
from typing import Annotated

import typer

from fedlens import __version__
from fedlens.cli.datasets import datasets
from fedlens.cli.display import errors
from fedlens.cli.explain import explain
from fedlens.cli.partition import partition
from fedlens.cli.personalise import personalise
from fedlens.cli.privacy import privacy
from fedlens.cli.review import review
from fedlens.cli.run import report, resume, run
from fedlens.cli.study import study
from fedlens.errors import FedlensError

app = typer.Typer(
    name="fedlens",
    help="Train image classifiers together without moving the images, and see why they decide.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(resume)
app.command()(report)
app.command()(explain)
app.command()(partition)
app.command()(personalise)
app.command()(study)
app.add_typer(datasets, name="datasets")
app.add_typer(privacy, name="privacy")
app.add_typer(review, name="review")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and stop.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    return


def main() -> None:
    """Run the command line; a person's mistake is one sentence and exit code 2."""
    try:
        app()
    except FedlensError as error:
        errors.print(f"Error: {error}", style="red", highlight=False, soft_wrap=True)
        sys.exit(2)
