"""What a private run tells on the command line: that it is at work, and at the end what was spent."""

import io
import json
import math
from pathlib import Path

import pytest
import tomli_w
from commands import fedlens
from rich.console import Console

from fedlens.cli import display
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.releases import Release

NOISE = 4.0


def config(tmp_path: Path, **privacy) -> Path:
    content = {
        "mode": "central",
        "dataset": {"name": "digits", "limit": 120},
        "model": {"name": "tanh-cnn"},
        "local": {"epochs": 2, "batch_size": 30, "lr": 0.1},
        "privacy": {"mechanism": "dp-sgd", "sampling": "fixed", **privacy},
        "report": {"cases": 1},
    }
    file = tmp_path / "private.toml"
    file.write_text(tomli_w.dumps(content))
    return file


def cells(stdout: str) -> dict[str, str]:
    """Return the rows of the tables: first cell -> second."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in stdout.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def rounded_up(value: float) -> str:
    return f"{math.ceil(round(value * 100, 6)) / 100:.2f}"


def test_a_run_ends_with_what_it_spent(tmp_path: Path) -> None:
    cost = epsilon_of([Release(NOISE, 1.0, 2)], 1e-5)
    done = fedlens("run", config(tmp_path, noise_multiplier=NOISE), "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    rows = cells(done.stdout)
    assert rows["epsilon (PLD)"] == rounded_up(cost) and rows["delta"] == "1e-5"
    assert rows["unit"] == "one example" and rows["budget"] == "none was set"
    assert rows["neighbours"].startswith("one replaced by nothing")
    # no noise has to be found: it was named
    assert "noise" not in done.stderr
    again = fedlens("report", tmp_path / "run", "--json")
    (spent,) = json.loads(again.stdout)["privacy"]
    assert spent == {
        "epsilon": pytest.approx(cost), "delta": 1e-5, "unit": "example",
        "relation": "one replaced by nothing, the number of units being public",
        "budget": None, "used_up": None, "guarantee": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("epsilon", "words"),
    # what two epochs cost at most; one epoch alone fits; both leave much
    [(None, "2, used up"), (1.2, "1.2, used up: training ended early"), (9.0, "9, not used up")],
)
def test_whether_the_budget_is_used_up(epsilon: float | None, words: str, tmp_path: Path) -> None:
    named = {} if epsilon is None else {"noise_multiplier": NOISE}
    file = config(tmp_path, epsilon=epsilon or 2.0, **named)
    done = fedlens("run", file, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert cells(done.stdout)["budget"] == words
    spent = json.loads(fedlens("report", tmp_path / "run", "--json").stdout)["privacy"][0]
    assert spent["used_up"] is ("not" not in words)
    # while the noise is found, which may take long, something is said
    lines = done.stderr.splitlines()
    assert ("noise" in lines[0] and "epsilon 2" in lines[0]) == (epsilon is None)


def test_seeded_noise_and_several_seeds(tmp_path: Path) -> None:
    file = config(tmp_path, noise_multiplier=NOISE, seeded=True)
    done = fedlens("run", file, "--set", "repeats=2", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    rows = cells(done.stdout)
    assert rows["guarantee"] == "none: seeded"
    assert "each of the 2 seeds" in done.stdout and "fedlens privacy ledger" in done.stdout
    report = json.loads(fedlens("report", tmp_path / "run", "--json").stdout)
    assert [one["guarantee"] for one in report["privacy"]] == [False, False]


def test_a_run_without_privacy_says_nothing_of_it(tmp_path: Path) -> None:
    file = config(tmp_path, mechanism="none")
    file.write_text(file.read_text().replace('sampling = "fixed"', ""))
    done = fedlens("run", file, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "epsilon" not in done.stdout and "delta" not in done.stdout
    assert "privacy" not in json.loads(fedlens("report", tmp_path / "run", "--json").stdout)


def test_going_on_says_that_the_noise_is_being_found(tmp_path: Path) -> None:
    done = fedlens("run", config(tmp_path, epsilon=2.0), "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (tmp_path / "run" / "result.json").unlink()
    again = fedlens("resume", tmp_path / "run")
    assert again.returncode == 0 and "noise" in again.stderr.splitlines()[0]


def test_on_a_terminal_work_of_unknown_length_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(display, "errors", Console(file=seen, force_terminal=True))
    plan = ("--units", "1000", "--expected", "1000", "--periods", "2")
    for command in (("epsilon", "--noise", "4"), ("calibrate", "--epsilon", "2")):
        seen.truncate(0)
        assert fedlens("privacy", *command, *plan).returncode == 0
        assert "working out" in seen.getvalue()
        seen.truncate(0)
        assert fedlens("privacy", *command, *plan, "--json").returncode == 0
        assert seen.getvalue().strip("\0") == ""
