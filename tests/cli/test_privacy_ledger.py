"""`fedlens privacy ledger RUN` believes a ledger where it fits its run, and says what it proves."""

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import fedlens

from fedlens.errors import RunError
from fedlens.experiment.config import parse_config
from fedlens.experiment.opened import load_run
from fedlens.experiment.reporting import report_content
from fedlens.experiment.run import resume_run, start_run
from fedlens.privacy.accounting import calibrate, epsilon_of
from fedlens.privacy.ledger import Ledger, epsilon_of_all
from fedlens.privacy.releases import Release

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


KINDS = {
    "all images": ("central", {}),
    "all images, falling noise": ("central", {"schedule": "linear"}),
    "all images, Poisson": ("central", {"sampling": "poisson"}),
    "all images, calibrated": ("central", {"noise_multiplier": None, "epsilon": 3.0}),
    "examples": ("dp-sgd", {}),
    "examples, Poisson": ("dp-sgd", {"sampling": "poisson", "schedule": "step"}),
    "examples, calibrated": (
        "dp-sgd",
        {"noise_multiplier": None, "epsilon": 3.0, "schedule": "exponential"},
    ),
    "clients": ("dp-fedavg", {"schedule": "cosine"}),
    "clients, Poisson": ("dp-fedavg", {"sampling": "poisson"}),
    "clients, own noise": ("dp-fedavg", {"placement": "local"}),
    "clients, own calibrated noise": (
        "dp-fedavg",
        {"placement": "local", "noise_multiplier": None, "epsilon": 9.0},
    ),
    "clients, a clip norm that follows": (
        "dp-fedavg",
        {"clip_quantile": 0.5, "count_noise": 5.0},
    ),
}


def trained(name: str, path: Path) -> Path:
    mode, changes = KINDS[name]
    content = values(mode)
    privacy = {**content["privacy"], **changes}
    content["privacy"] = {key: one for key, one in privacy.items() if one is not None}
    return start_run(parse_config(content), path).path


def times(factor: float) -> Callable[[str, list[Release]], list[Release]]:
    return lambda _, made: [
        Release(one.noise_multiplier * factor, one.rate, one.count) for one in made
    ]


@pytest.mark.parametrize("name", KINDS)
def test_before_the_result_too_the_noise_is_what_the_configuration_says(
    name: str, tmp_path: Path
) -> None:
    """The same terms, accounts and counts are not enough: what a run goes on from would be too low."""
    path = trained(name, tmp_path / "run")
    assert fedlens("privacy", "ledger", path).returncode == 0
    (path / "result.json").unlink()
    assert fedlens("privacy", "ledger", path).returncode == 0
    own, metrics = (path / "ledger.json").read_bytes(), (path / "metrics.jsonl").read_bytes()
    for factor in (5.0, 1.05, 0.9):
        for lines in (metrics, b""):  # killed before its first line: nothing tells of an epsilon
            (path / "ledger.json").write_bytes(own)
            (path / "metrics.jsonl").write_bytes(lines)
            signed_anew(path, releases=times(factor))
            done = fedlens("privacy", "ledger", path)
            assert done.returncode == 2 and "ledger.json" in done.stderr, (factor, done)
            assert "nois" in done.stderr and done.stderr.count("\n") == 1
    (path / "metrics.jsonl").write_bytes(metrics)
    with pytest.raises(RunError, match="nois"):
        resume_run(path)


@pytest.mark.parametrize("name", ["examples", "examples, calibrated", "clients, own noise"])
def test_of_a_finished_run_every_account_has_its_noise(name: str, tmp_path: Path) -> None:
    path = trained(name, tmp_path / "run")
    signed_anew(
        path, releases=lambda who, made: times(500.0)(who, made) if who == "client 2" else made
    )
    done = fedlens("privacy", "ledger", path)
    assert done.returncode == 2 and "client 2" in done.stderr and "nois" in done.stderr, done


def test_more_amplification_than_the_run_has_is_a_finding(tmp_path: Path) -> None:
    path = trained("examples, Poisson", tmp_path / "run")
    signed_anew(
        path,
        releases=lambda who, made: [
            Release(one.noise_multiplier, one.rate / (9 if who == "client 2" else 1), one.count)
            for one in made
        ],
    )
    done = fedlens("privacy", "ledger", path)
    assert done.returncode == 2 and "sampling rate" in done.stderr, done


def test_each_period_that_the_metrics_tell_of_has_its_releases(tmp_path: Path) -> None:
    """Two releases of the first round's noise are not one of each round's, which costs more."""
    path = trained("clients", tmp_path / "run")
    (path / "result.json").unlink()
    signed_anew(path, releases=lambda _, made: [Release(made[0].noise_multiplier, 1.0, 2)])
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    lines[-1]["privacy"]["epsilon"] = 0.1
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = fedlens("privacy", "ledger", path)
    assert done.returncode == 2 and "0 releases of 'every client'" in done.stderr, done


def test_a_client_that_only_a_repeated_round_drew_is_charged_like_the_others(
    tmp_path: Path,
) -> None:
    """Its plan is empty, so that its noise is the largest that was calibrated."""
    content = values("dp-sgd")
    content["privacy"] = {"mechanism": "dp-sgd", "epsilon": 3.0, "sampling": "fixed"}
    content["federation"].update(clients=4, rounds=1, cohort=2)
    path = start_run(parse_config(content), tmp_path / "run").path
    (path / "result.json").unlink()
    old = Ledger.open(path / "ledger.json")
    kind = next(old.releases(name) for name in old.units if old.releases(name))
    assert sum(bool(old.releases(name)) for name in old.units) == 2
    signed_anew(path, releases=lambda _, made: made or kind)
    assert fedlens("privacy", "ledger", path).returncode == 0
    signed_anew(
        path, releases=lambda who, made: made if old.releases(who) else times(9.0)("", made)
    )
    assert fedlens("privacy", "ledger", path).returncode == 2


DAMAGE = {
    "no client": lambda line: line["clients"][0].pop("client"),
    "no steps": lambda line: line["clients"][0].pop("steps"),
    "steps in words": lambda line: line["clients"][0].update(steps="two"),
    "fewer than no steps": lambda line: line["clients"][0].update(steps=-1),
    "a client in words": lambda line: line["clients"][0].update(client="0"),
    "a client outside the cohort": lambda line: line["clients"][0].update(client=77),
    "no clients": lambda line: line.pop("clients"),
    "clients are a number": lambda line: line.update(clients=3),
    "clients are numbers": lambda line: line.update(clients=[3]),
    "no cohort": lambda line: line.pop("cohort"),
    "the cohort is null": lambda line: line.update(cohort=None),
    "the cohort in words": lambda line: line.update(cohort=["x"]),
    "the cohort is below 0": lambda line: line.update(cohort=[-1]),
    "the cohort is yes": lambda line: line.update(cohort=[True]),
    "fewer than no releases": lambda line: line["privacy"].update(releases=-1),
    "a negative epsilon": lambda line: line["privacy"].update(epsilon=-1.0),
    "no epsilon but NaN": lambda line: line["privacy"].update(epsilon=float("nan")),
    "an epsilon past all numbers": lambda line: line["privacy"].update(epsilon=10**400),
}


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
def test_damaged_metrics_are_one_sentence(sampling: str, tmp_path: Path) -> None:
    """An exit code of 1 would say that all fits."""
    content = values("dp-sgd")
    content["privacy"]["sampling"] = sampling
    path = start_run(parse_config(content), tmp_path / "run").path
    metrics = path / "metrics.jsonl"
    first, *others = metrics.read_text().splitlines()
    for name, damage in DAMAGE.items():
        line = json.loads(first)
        damage(line)
        metrics.write_text("".join(f"{text}\n" for text in (json.dumps(line), *others)))
        done = fedlens("privacy", "ledger", path)
        assert done.returncode == 2 and done.stdout == "", (name, done)
        assert "metrics.jsonl, line 1 is damaged" in done.stderr, (name, done)
        assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("release", [[2e6, 1.0, 1], [1.0, 1.0, 10**10]])
def test_a_foreign_ledger_with_numbers_that_cannot_be_is_named(
    release: list, copied, tmp_path: Path
) -> None:
    path = copied("central")
    content = json.loads((path / "ledger.json").read_text())
    content["key"] = "0" * 16
    content["accounts"]["all images"]["releases"] = [release]
    (path / "ledger.json").write_text(json.dumps(content))
    done = fedlens("privacy", "ledger", path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "ledger.json" in done.stderr and "all images" in done.stderr, done


def test_together_seeds_cost_no_less_than_any_choice_of_their_accounts(tmp_path: Path) -> None:
    content = values("dp-sgd", repeats=2)
    content["partition"] = {"scheme": "dirichlet", "alpha": 2.0, "minimum": 12}
    content["federation"]["clients"] = 3
    content["privacy"]["sampling"] = "poisson"
    path = start_run(parse_config(content), tmp_path / "run").path
    ledgers = [Ledger.open(file) for file in sorted(path.glob("seed-*/ledger.json"))]
    assert len(ledgers) == 2
    accounts = [[one.releases(name) for name in one.units] for one in ledgers]
    most = max(epsilon_of([*a, *b], 1e-5) for a, b in itertools.product(*accounts))
    found = json.loads(fedlens("privacy", "ledger", path, "--json").stdout)
    assert most <= found["epsilon_of_all_parts"] < 1.6 * most
    assert found["accountant_of_all_parts"] == "rdp"
    said = fedlens("privacy", "ledger", path).stdout
    assert "a bound by RDP" in said and "each Renyi order" in said


def test_the_account_that_is_worst_at_delta_need_not_be_the_worst_in_company() -> None:
    """Accounts that are calibrated to about one budget part where they are composed."""
    full = calibrate(lambda noise: [Release(noise, 1.0, 2)], 2.97, 1e-5)
    sampled = calibrate(lambda noise: [Release(noise, 0.05, 100)], 3.0, 1e-5)
    accounts = [[Release(full, 1.0, 2)], [Release(sampled, 0.05, 100)]]
    once = [epsilon_of(releases, 1e-5) for releases in accounts]
    five = [epsilon_of(releases * 5, 1e-5) for releases in accounts]
    assert once[0] < once[1] and five[0] > 1.1 * five[1]  # or else nothing is tested
    mixed = epsilon_of([*accounts[0] * 2, *accounts[1] * 3], 1e-5)
    assert epsilon_of_all([accounts] * 5, 1e-5)[0] >= max(*five, mixed)


def test_the_bound_of_gaussian_releases_is_that_of_the_closed_form() -> None:
    """Renyi divergence alpha / (2 sigma^2) a release; epsilon by Canonne, Kamath and Steinke 2020."""
    ledgers = [[[Release(2.0)], [Release(1.0)]], [[Release(1.5, count=2)], [Release(3.0)]]]
    rho = 1 / 2 + 2 / (2 * 1.5**2)
    orders = np.linspace(1.01, 200, 100_000)
    epsilons = orders * rho + np.log1p(-1 / orders) - (np.log(1e-5) + np.log(orders)) / (orders - 1)
    found, accountant = epsilon_of_all(ledgers, 1e-5)
    assert accountant == "rdp"
    assert epsilons.min() * 0.9999 <= found <= 1.01 * epsilons.min()


def test_of_alike_accounts_the_releases_are_composed_and_without_noise_there_is_no_bound() -> None:
    alike = [[[Release(2.0, count=2)], [Release(2.0), Release(2.0)]], [[Release(1.0)]]]
    # mu^2 adds up: two releases of 1/2 and one of 1 are a release of sqrt(3 / 2)
    assert epsilon_of_all(alike, 1e-5) == (
        pytest.approx(epsilon_of([Release(1 / math.sqrt(1.5))], 1e-5), rel=1e-3),
        "pld",
    )
    for ledgers in ([[[Release(0.0)]]], [[[Release(0.0)], [Release(1.0)]]]):
        assert epsilon_of_all(ledgers, 1e-5)[0] == math.inf
