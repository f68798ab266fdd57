"""What all tests share: where real images and temporary files are, and that CI skips none silently."""

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
MEMORY, ENOUGH = Path("/dev/shm"), 2 << 30  # a folder in memory, and the bytes that suffice


def pytest_configure() -> None:
    """Keep the tests' files in memory where there is room.

    Runs and stores wait for the disk at every step, thousands of times in all tests together.
    """
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread here and in every process that a test starts: more of them only wait.

    The networks of the tests are small, and several test processes share the processors. What each
    of them would have to import is imported before any is forked.
    """
    importlib.import_module("torch._dynamo")  # a process's first optimiser does, for two seconds
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images that FEDLENS_DATA names."""
    folder = os.environ.get("FEDLENS_DATA")
    if not folder:
        pytest.skip("FEDLENS_DATA is not set: it names the folder of real images")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def ledger_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sign privacy ledgers with a key of the tests' own, and never touch the user's."""
    path = tmp_path_factory.mktemp("ledger-key") / "ledger.key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDLENS_LEDGER_KEY", str(path))
        yield path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """In CI a skipped test is a failed one: nothing is left out in silence."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
