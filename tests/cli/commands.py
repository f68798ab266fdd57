"""The command line run in the tests' own process, and what a refusal looks like."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from fedlens.cli import main


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


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert exit code 2 and one sentence that has ``words``, without a traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr, done.stderr
