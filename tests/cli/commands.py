"""The command line run in the tests' own process or a fork of it, and what a refusal looks like."""

import contextlib
import io
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TypeVar
from unittest import mock

from fedlens.cli import main

Result = TypeVar("Result")


def fedlens(
    *arguments: str | int | Path, where: Path | None = None, typed: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as ``main`` would be run in a process of its own."""
    output, errors = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "200", **environment}),
        mock.patch.object(sys, "argv", ["fedlens", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO(typed)),
        contextlib.chdir(where or Path.cwd()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def started(call: Callable[..., object], *arguments: object) -> ForkProcess:
    """Start ``call`` in a process of its own, which a test may kill at any moment.

    It is forked: it has a number, locks and limits of its own, and need not import all anew.
    """
    process = multiprocessing.get_context("fork").Process(target=call, args=arguments)
    process.start()
    return process


def elsewhere(call: Callable[[], Result]) -> Result:
    """Return what ``call`` returns in a process of its own; EOFError if that ends before."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = started(lambda: there.send(call()))
    there.close()
    result: Result = here.recv()
    process.join()
    return result


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert exit code 2 and one sentence that has ``words``, without a traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr, done.stderr
