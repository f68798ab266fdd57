from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sign the tests' ledgers with a key of their own."""
    path = tmp_path_factory.mktemp("key") / "ledger.key"
    monkeypatch.setenv("FEDLENS_LEDGER_KEY", str(path))
    return path
