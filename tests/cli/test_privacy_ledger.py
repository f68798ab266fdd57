"""`fedlens privacy ledger RUN` believes a ledger where it fits its run, and says what it proves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import fedlens

from fedlens.errors import RunError
from fedlens.experiment.config import parse_config
from fedlens.experiment.opened import load_run
from fedlens.experiment.reporting import report_content
from fedlens.experiment.run import resume_run, start_run
from fedlens.privacy.accounting import Release
from fedlens.privacy.ledger import Ledger

NOISE = 4.0
MODES = ("central", "dp-sgd", "dp-fedavg")


def values(mode: str, **changes) -> dict:
    central = mode == "central"
    content = {
        "mode": "central" if central else "federated",
        "dataset": {"name": "digits", "limit": 120},
        "model": {"name": "tanh-cnn"},
        "local": {"epochs": 2 if central else 1, "batch_size": 30 if central else 10, "lr": 0.1},
        "privacy": {
            "mechanism": "dp-fedavg" if mode == "dp-fedavg" else "dp-sgd",
            "noise_multiplier": NOISE,
            "sampling": "fixed",
        },
    }
    if not central:
        content["partition"] = {"scheme": "iid", "minimum": 5}
        content["federation"] = {"clients": 4, "rounds": 2, "workers": 1}
    return {**content, **changes}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {mode: start_run(parse_config(values(mode)), folder / mode).path for mode in MODES}


@pytest.fixture
def copied(finished, tmp_path: Path) -> Callable[[str], Path]:
    def copy(mode: str) -> Path:
        return Path(shutil.copytree(finished[mode], tmp_path / mode))

    return copy


def signed_anew(
    path: Path,
    *,
    terms: dict | None = None,
    units: dict[str, int] | None = None,
    releases: Callable[[str, list[Release]], list[Release]] = lambda _, made: made,
) -> None:
    """Put a ledger in the place of the run's that is signed with the right key."""
    old = Ledger.open(path / "ledger.json")
    names = old.units if units is None else units
    made = Ledger.create(path / "ledger.json", old.terms.model_copy(update=terms or {}), names)
    first = next(iter(old.units))
    made.charge({n: releases(n, old.releases(n if n in old.units else first)) for n in names})


CHANGES = {
    "another delta": ("central", {"terms": {"delta": 1e-6}}, "delta"),
    "another budget": ("central", {"terms": {"budget": 9.0}}, "budget"),
    "another unit": ("dp-fedavg", {"terms": {"unit": "example"}}, "unit"),
    "another relation": ("central", {"terms": {"relation": "none"}}, "relation"),
    "a guarantee": ("central", {"terms": {"guarantee": False}}, "guarantee"),
    "another account": ("dp-fedavg", {"units": {"all images": 120}}, "all images"),
    "too few accounts": ("dp-sgd", {"units": {"client 0": 30, "client 1": 30}}, "account"),
    "too little": ("central", {"releases": lambda _, made: [Release(NOISE)]}, "1 release"),
    "too much": ("central", {"releases": lambda _, made: [*made, *made]}, "4 release"),
    "less noise": (
        "central",
        {"releases": lambda _, made: [Release(NOISE / 2, 1.0, 2)]},
        "epsilon",
    ),
    "more noise": (
        "central",
        {"releases": lambda _, made: [Release(NOISE * 2, 1.0, 2)]},
        "epsilon",
    ),
    "one client less": (
        "dp-sgd",
        {"releases": lambda name, made: [] if name == "client 2" else made},
        "client 2",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_ledger_that_is_not_the_runs_is_a_finding(name: str, copied) -> None:
    mode, changes, word = CHANGES[name]
    path = copied(mode)
    signed_anew(path, **changes)
    for more in ((), ("--json",)):
        done = fedlens("privacy", "ledger", path, *more)
        assert done.returncode == 2 and done.stdout == "", done
        assert done.stderr.startswith("Error: ") and "ledger.json" in done.stderr
        assert word in done.stderr and "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1
    with pytest.raises(RunError, match=word):
        report_content(load_run(path), explained=False)


@pytest.mark.parametrize("mode", MODES)
def test_the_runs_own_ledger_is_verified(finished, mode: str) -> None:
    done = fedlens("privacy", "ledger", finished[mode])
    assert done.returncode == 0 and done.stderr == "", done
    assert "Verified" in done.stdout and "Not verified" not in done.stdout


@pytest.mark.parametrize("json_", [False, True])
def test_a_signature_of_another_key_is_said_and_is_no_success(
    finished, json_: bool, tmp_path: Path
) -> None:
    """Everything is printed, and a script that goes by the exit code does not take it for proof."""
    done = fedlens(
        "privacy", "ledger", finished["central"], *(["--json"] if json_ else []),
        FEDLENS_LEDGER_KEY=str(tmp_path / "another.key"),
    )  # fmt: skip
    assert done.returncode == 1
    assert "Not verified" in done.stderr and "another key" in done.stderr
    if json_:
        content = json.loads(done.stdout)
        assert content["verified"] is False and content["epsilon"] > 0
    else:
        assert "Spent: epsilon" in done.stdout


def test_a_seed_of_a_repeated_run_that_is_not_verified_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(parse_config(values("central", repeats=2)), tmp_path / "two")
    assert fedlens("privacy", "ledger", run.path).returncode == 0
    with monkeypatch.context() as patch:
        patch.setenv("FEDLENS_LEDGER_KEY", str(tmp_path / "another.key"))
        old = Ledger.open(run.path / "seed-43" / "ledger.json")
        made = Ledger.create(old.path, old.terms, old.units)
        made.charge({name: old.releases(name) for name in old.units})
    done = fedlens("privacy", "ledger", run.path)
    assert done.returncode == 1 and "seed-43" in done.stderr
    (run.path / "seed-43" / "ledger.json").write_bytes(
        (run.path / "seed-42" / "ledger.json").read_bytes()
    )
    assert fedlens("privacy", "ledger", run.path).returncode == 0  # alike in all that is known


@pytest.mark.parametrize("name", ["another delta", "another budget", "too little"])
def test_a_run_that_is_gone_on_with_compares_too(name: str, copied) -> None:
    mode, changes, word = CHANGES[name]
    path = copied(mode)
    (path / "result.json").unlink()
    signed_anew(path, **changes)
    with pytest.raises(RunError, match=word):
        resume_run(path)


def test_a_run_that_was_killed_may_have_been_charged_for_more_than_it_tells(copied) -> None:
    path = copied("central")
    (path / "result.json").unlink()
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text(lines[0])
    done = fedlens("privacy", "ledger", path, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["accounts"][0]["releases"] == 2


def test_of_damaged_files_beside_it_one_sentence(copied) -> None:
    path = copied("central")
    result = json.loads((path / "result.json").read_text())
    for value in ({"epsilon": "much"}, "no", None, {**result["privacy"], "account": 3}):
        (path / "result.json").write_text(json.dumps({**result, "privacy": value}))
        done = fedlens("privacy", "ledger", path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done
        assert "Traceback" not in done.stderr and "result.json" in done.stderr
