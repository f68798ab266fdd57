"""How the command line shows progress, tables and results."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fedlens.experiment.modes import Event, Watcher

# Names of classes, clients and files are printed as they are: none is taken for markup.
out = Console(markup=False)
errors = Console(stderr=True, markup=False)


@contextmanager
def watching(quiet: bool = False) -> Iterator[Watcher]:
    """Yield a watcher that shows a bar with the time left on a terminal, else lines on stderr."""
    if quiet:
        yield lambda _: None
        return
    if not errors.is_terminal:
        yield _print_message
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def watch(event: Event) -> None:
            bar.update(task, completed=event.done, total=event.total)
            if event.message:
                bar.update(task, description=event.message.partition(":")[0])
                bar.console.print(event.message, highlight=False)

        yield watch


@contextmanager
def waiting(what: str, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that work of unknown length goes on."""
    if quiet or not errors.is_terminal:
        yield
        return
    with errors.status(Text(what)):
        yield


def print_json(content: Any) -> None:
    """Print ``content`` as JSON on standard output."""
    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def table(
    title: str, columns: list[str], rows: list[list[str]], more: list[list[str]] | None = None
) -> None:
    """Print a table; all columns but the first are numbers, set to the right.

    ``more`` are rows that stand apart from the others, under a line.
    """
    grid = Table(title=title, title_justify="left", title_style="bold")
    for position, name in enumerate(columns):
        grid.add_column(name, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    if more:
        grid.add_section()
        for row in more:
            grid.add_row(*row)
    out.print(grid)


def _print_message(event: Event) -> None:
    if event.message:
        errors.print(event.message, highlight=False, soft_wrap=True)
