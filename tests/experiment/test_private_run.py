"""Private runs: what the ledger says is what was done, whatever happens on the way."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import tomli_w
import torch
from commands import fedlens, refused, started

from fedlens.errors import ConfigError, FedlensError, RunError
from fedlens.experiment.config import Config, parse_config
from fedlens.experiment.modes import Event
from fedlens.experiment.opened import Run, load_run
from fedlens.experiment.reporting import report_run
from fedlens.experiment.run import resume_run, start_run
from fedlens.experiment.run_directory import RunDirectory
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.ledger import Ledger
from fedlens.privacy.releases import Release

CLIENTS = {"scheme": "iid", "minimum": 5}
MODES = ("central", "dp-sgd", "dp-fedavg")
NOISE = 4.0  # much of it: epsilon is the quicker worked out the smaller it is


def values(mode: str = "central", **changes) -> dict:
    """A small private run: of pooled images, of examples at clients, or of clients."""
    central = mode == "central"
    content = {
        "mode": "central" if central else "federated",
        "dataset": {"name": "digits", "limit": 120},
        "model": {"name": "tanh-cnn"},
        "local": {"epochs": 4 if central else 1, "batch_size": 30 if central else 10, "lr": 0.1},
        "privacy": {
            "mechanism": "dp-fedavg" if mode == "dp-fedavg" else "dp-sgd",
            "noise_multiplier": NOISE,
            "seeded": True,
        },
    }
    if not central:
        content["partition"] = CLIENTS
        content["federation"] = {"clients": 4, "rounds": 4, "workers": 1}
    if mode == "dp-fedavg":
        content["federation"]["cohort"] = 2
        content["privacy"] |= {"clip_quantile": 0.6, "count_noise": 3.0}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            content.setdefault(section, {})[name] = value
            if value is None:
                del content[section][name]
        else:
            content[section] = value
    return content


def config(mode: str = "central", **changes) -> Config:
    return parse_config(values(mode, **changes))


def ledger(run: Run | Path) -> Ledger:
    return Ledger.open(RunDirectory(run.path if isinstance(run, Run) else run).ledger_file)


def weights(run: Run | Path) -> bytes:
    return ((run.path if isinstance(run, Run) else run) / "model.safetensors").read_bytes()


def by_hand(mode: str, periods: int) -> list[Release]:
    """What the small run releases of whoever it releases most of."""
    return {
        "central": [Release(NOISE, 30 / 120, 4)],  # 120 images in batches of 30
        "dp-sgd": [Release(NOISE, 10 / 30, 3)],  # 30 at each of 4 clients, batches of 10
        "dp-fedavg": [Release(NOISE, 2 / 4, 1)],
    }[mode] * periods


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("private")
    return {mode: start_run(config(mode), folder / mode) for mode in MODES}


# --- the ledger is what was done


@pytest.mark.parametrize("mode", MODES)
def test_the_ledger_replays_to_the_epsilon_that_is_reported(finished, mode: str) -> None:
    run = finished[mode]
    found = ledger(run)
    assert found.verified and not found.terms.guarantee
    worst = found.worst()
    assert found.releases(worst) == list(
        {r: Release(r.noise_multiplier, r.rate, 4 * r.count) for r in by_hand(mode, 1)}.values()
    )
    assert run.result is not None
    assert run.result["privacy"]["epsilon"] == found.epsilon(worst)
    assert run.result["privacy"]["account"] == worst
    assert run.result["ended_early"] is False
    for number, line in enumerate(run.history, start=1):
        expected = epsilon_of(by_hand(mode, number), 1e-5)
        assert line["privacy"]["epsilon"] == pytest.approx(expected, rel=1e-9)
        assert line["privacy"]["unit"] == ("client" if mode == "dp-fedavg" else "example")
        assert line["privacy"]["delta"] == 1e-5
    if mode == "central":
        assert all(line["train_loss"] is None for line in run.history)
        assert all(line["train_accuracy"] is None for line in run.history)
    if mode == "dp-fedavg":
        assert all(line["cohort"] == line["clients"] == [] for line in run.history)
    if mode == "dp-sgd":
        assert set(found.units.values()) == {30} and len(found.units) == 4


@pytest.mark.parametrize(
    ("mode", "schedule"), [("central", "linear"), ("dp-sgd", "constant"), ("dp-fedavg", "constant")]
)
def test_a_calibrated_run_spends_its_budget_and_no_more(mode, schedule, tmp_path) -> None:
    made = config(
        mode,
        privacy__noise_multiplier=None,
        privacy__epsilon=0.5,
        privacy__schedule=schedule,
        privacy__clip_quantile=None,
        privacy__count_noise=None,
        local__epochs=2 if mode == "central" else 1,
        federation__rounds=2,
    )
    run = start_run(made, tmp_path / "run")
    found = ledger(run)
    assert found.terms.budget == 0.5
    for account in found.units:
        assert 0.495 < found.epsilon(account) <= 0.5
    assert len(run.history) == 2 and run.result["ended_early"] is False
    if schedule == "linear":
        first, last = found.releases(found.worst())
        assert last.noise_multiplier == pytest.approx(first.noise_multiplier / 2)


def test_each_client_pays_for_the_rounds_and_epochs_of_its_own(tmp_path) -> None:
    made = config(
        "dp-sgd",
        local__epochs=[1, 3],
        federation__cohort=2,
        federation__workers=2,
        partition={"scheme": "dirichlet", "alpha": 2.0, "minimum": 12},
    )
    run = start_run(made, tmp_path / "run")
    found = ledger(run)
    names = list(found.units)
    steps = dict.fromkeys(names, 0)
    for line in run.history:
        for entry in line["clients"]:
            steps[names[entry["client"]]] += entry["steps"]
    assert {name: found.steps(name) for name in names} == steps and min(steps.values()) >= 0
    assert len(set(found.units.values())) > 1
    for name, size in found.units.items():
        assert {release.rate for release in found.releases(name)} <= {10 / size}
    assert run.result["privacy"]["epsilon"] == max(found.epsilon(name) for name in names)


# --- a budget that is smaller than the plan


@pytest.mark.parametrize("mode", MODES)
def test_training_ends_before_the_budget_would_be_exceeded(mode: str, tmp_path) -> None:
    two, three = (epsilon_of(by_hand(mode, n), 1e-5) for n in (2, 3))
    budget = (two + three) / 2
    run = start_run(config(mode, privacy__epsilon=budget), tmp_path / "run")
    assert len(run.history) == 2 and run.result["ended_early"] is True
    found = ledger(run)
    assert found.epsilon(found.worst()) == pytest.approx(two, rel=1e-9)
    again = load_run(run.path)
    assert again.test.accuracy == run.test.accuracy
    # what was trained is what two epochs (or rounds) train
    same = torch.equal(
        torch.cat([p.flatten() for p in again.model.parameters()]),
        torch.cat([p.flatten() for p in run.model.parameters()]),
    )
    assert same
    if mode == "central":
        page = report_run(again).read_text()
        assert "<html" in page


def test_a_budget_below_the_first_epoch_is_found_before_anything_is_made(tmp_path) -> None:
    for mode, word in (("central", "epoch"), ("dp-sgd", "round"), ("dp-fedavg", "round")):
        first = epsilon_of(by_hand(mode, 1), 1e-5)
        with pytest.raises(ConfigError, match=f"the first {word} alone costs"):
            start_run(config(mode, privacy__epsilon=0.99 * first), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="costs inf"):
        start_run(config(privacy__epsilon=9.0, privacy__noise_multiplier=0), tmp_path / "run")


# --- stopping


class KilledError(Exception):
    """As a kill would, after everything of a period but its traces."""


@contextlib.contextmanager
def stops_at(period: int) -> Iterator[None]:
    original = RunDirectory.append_metrics

    def stop(self, line) -> None:
        if line.get("round", line.get("epoch")) == period:
            raise KilledError
        original(self, line)

    with mock.patch.object(RunDirectory, "append_metrics", stop), pytest.raises(KilledError):
        yield


@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_run_goes_on_with_its_ledger_to_the_same_bytes(finished, mode, tmp_path) -> None:
    path = tmp_path / "run"
    with stops_at(3):
        start_run(config(mode), path)
    before = ledger(path)
    done = before.steps(before.worst())
    assert done == sum(r.count for r in by_hand(mode, 3))  # charged, though it left nothing
    run = resume_run(path)
    after = ledger(path)
    # the third is charged twice: its result may have been seen before the kill
    assert after.steps(after.worst()) == sum(r.count for r in by_hand(mode, 5))
    assert run.result["privacy"]["epsilon"] == after.epsilon(after.worst())
    assert weights(run) == weights(finished[mode])
    assert len(run.history) == 4


@pytest.mark.parametrize("mode", ["central", "dp-sgd"])
def test_kill_9_in_the_middle(finished, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps(values(mode)))
    process = started(fedlens, "run", file, "--out", path)
    metrics = path / "metrics.jsonl"
    while process.is_alive() and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.001)
    process.kill()
    process.join()
    charged = ledger(path)
    lines = RunDirectory(path).read_metrics()
    paid = charged.steps(charged.worst())
    assert paid >= sum(r.count for r in by_hand(mode, len(lines)))
    run = resume_run(path)
    after = ledger(path)
    assert after.steps(after.worst()) >= sum(r.count for r in by_hand(mode, 4))
    assert weights(run) == weights(finished[mode])


def test_a_resumed_run_under_a_guarantee_draws_anew_and_keeps_to_its_budget(tmp_path) -> None:
    path = tmp_path / "run"
    made = config(privacy__seeded=False, privacy__noise_multiplier=None, privacy__epsilon=1.0)
    with stops_at(2):
        start_run(made, path)
    ends = []
    for name in ("one", "other"):
        copy = tmp_path / name
        shutil.copytree(path, copy)
        run = resume_run(copy)
        found = ledger(copy)
        # one epoch was paid for twice, so that there is one less
        assert len(run.history) == 3 and run.result["ended_early"] is True
        assert 0.9 < found.epsilon("all images") <= 1.0
        assert found.steps("all images") == 16 and found.terms.guarantee
        ends.append(weights(run))
    assert ends[0] != ends[1]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    with stops_at(4):
        start_run(config(), path)
    return path


def content_of(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "run.lock"
    }


def edited(content: dict) -> dict:
    content["accounts"]["all images"]["releases"][0][2] = 1
    return content


@pytest.mark.parametrize("how", ["edited", "deleted", "older", "not-json", "another-run"])
def test_a_ledger_that_is_not_the_runs_own_is_refused_and_nothing_is_lost(
    how: str, stopped: Path, finished, tmp_path: Path
) -> None:
    file = stopped / "ledger.json"
    good = file.read_bytes()
    words = {
        "edited": "changed after it was signed",
        "deleted": "is gone",
        "older": "older",
        "not-json": "not a privacy ledger",
        "another-run": "another run",
    }[how]
    if how == "edited":
        file.write_text(json.dumps(edited(json.loads(good))))
    elif how == "deleted":
        file.unlink()
    elif how == "older":
        early = Ledger.open(file)
        Ledger.create(file, early.terms, early.units).charge(
            {"all images": [Release(NOISE, 30 / 120, 4)]}
        )
    elif how == "not-json":
        file.write_text("{")
    else:
        file.write_bytes((finished["dp-sgd"].path / "ledger.json").read_bytes())
    # a line that is beyond the last checkpoint stays too
    metrics = stopped / "metrics.jsonl"
    line = json.loads(metrics.read_text().splitlines()[-1])
    with metrics.open("a") as end:
        end.write(json.dumps({**line, "epoch": 4}) + "\n")
    before = content_of(stopped)
    with pytest.raises(RunError, match=words) as caught:
        resume_run(stopped)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert content_of(stopped) == before
    file.write_bytes(good)
    run = resume_run(stopped)
    assert len(run.history) == 4 and weights(run) == weights(finished["central"])


def test_a_ledger_that_is_gone_after_a_first_line_is_missed(tmp_path: Path) -> None:
    """Killed between the first line of the metrics and the first checkpoint."""
    path = tmp_path / "run"

    def stop(*_):
        raise KilledError

    with (
        mock.patch.object(RunDirectory, "write_checkpoint", stop),
        pytest.raises(KilledError),
    ):
        start_run(config(), path)
    assert (path / "metrics.jsonl").stat().st_size and not list((path / "checkpoints").iterdir())
    (path / "ledger.json").unlink()
    with pytest.raises(RunError, match="is gone"):
        resume_run(path)
    assert (path / "metrics.jsonl").stat().st_size


def test_a_ledger_of_another_machine_is_not_gone_on_with(stopped, monkeypatch, tmp_path) -> None:
    before = content_of(stopped)
    monkeypatch.setenv("FEDLENS_LEDGER_KEY", str(tmp_path / "another.key"))
    with pytest.raises(RunError, match="another key"):
        resume_run(stopped)
    assert content_of(stopped)["ledger.json"] == before["ledger.json"]


# --- what is refused, and what is said


@pytest.mark.parametrize(
    ("mode", "changes", "words"),
    [
        ("central", {"privacy__noise_multiplier": None}, "neither privacy.epsilon"),
        ("central", {"privacy": {"epsilon": 3.0}}, "privacy.mechanism is 'none'"),
        ("central", {"privacy": {"delta": 1e-6}}, "privacy.mechanism is 'none'"),
        ("central", {"privacy__mechanism": "dp-fedavg"}, "mode 'central' has none"),
        ("central", {"privacy__clip_quantile": 0.5}, "privacy.clip_quantile"),
        ("central", {"privacy__placement": "local"}, "privacy.placement"),
        ("central", {"local__batch_size": 121}, "121 expected in a batch"),
        ("dp-sgd", {"local__batch_size": 31}, "'client 0' has 30 images"),
        ("dp-sgd", {"local__precision": "bfloat16"}, "local.precision"),
        ("dp-fedavg", {"privacy__placement": "distributed"}, "secure aggregation"),
        ("dp-fedavg", {"privacy__clip_quantile": None}, "privacy.clip_quantile"),
        ("dp-fedavg", {"privacy__count_noise": 1.9}, "privacy.count_noise"),
        ("dp-fedavg", {"federation__algorithm": "scaffold"}, "scaffold"),
        ("dp-fedavg", {"federation__aggregation": "median"}, "aggregation"),
        ("dp-fedavg", {"federation__minimum_cohort": 1}, "minimum_cohort"),
        ("dp-fedavg", {"federation__far_off": "clip"}, "far_off"),
        (
            "dp-sgd",
            {
                "federation__algorithm": "scaffold",
                "federation__parameters": {"control": "option-1"},
            },
            "mean-gradient",
        ),
        ("central", {"privacy__noise_multiplier": -1.0}, "privacy.noise_multiplier"),
        ("central", {"privacy__clip_norm": 0.0}, "privacy.clip_norm"),
        ("central", {"privacy__epsilon": -1.0}, "privacy.epsilon"),
        ("central", {"privacy__delta": 1.0}, "privacy.delta"),
        ("central", {"privacy__epsilon": float("inf")}, "privacy.epsilon"),
    ],
)
def test_what_cannot_be_kept_private_is_one_sentence(mode, changes, words, tmp_path) -> None:
    with pytest.raises(FedlensError, match=words) as caught:
        start_run(config(mode, **changes), tmp_path / "out")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert not (tmp_path / "out").exists()


def test_a_delta_that_gives_whole_images_away_is_told(tmp_path: Path) -> None:
    for delta, told in ((1 / 120, True), (1 / 121, False)):
        events: list[Event] = []
        made = config(privacy__delta=delta, local__epochs=1)
        run = start_run(made, tmp_path / f"{told}", watch=events.append)
        said = [event.message for event in events if "privacy.delta" in event.message]
        assert len(said) == told
        if told:
            assert "120 examples" in said[0]
            page = report_run(run).read_text()
            assert "publishing one whole" in page.replace("\n", " ")


# --- the command line


PLAN = ("--units", "1000", "--expected", "100", "--periods", "10")


def test_planning_on_the_command_line() -> None:
    done = fedlens("privacy", "epsilon", "--noise", "3", *PLAN, "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["epsilon_pld"] == epsilon_of([Release(3.0, 0.1, 100)], 1e-5)
    assert content["epsilon_pld"] < content["epsilon_rdp"] and content["releases"] == 100
    clients = json.loads(
        fedlens("privacy", "epsilon", "--noise", "3", "--unit", "client", *PLAN, "--json").stdout
    )
    assert clients["epsilon_pld"] == epsilon_of([Release(3.0, 0.1, 10)], 1e-5)
    fixed = json.loads(
        fedlens("privacy", "epsilon", "--noise", "6", "--sampling", "fixed", *PLAN, "--json").stdout
    )
    assert fixed["epsilon_pld"] == epsilon_of([Release(6.0, 1.0, 10)], 1e-5)
    found = json.loads(fedlens("privacy", "calibrate", "--epsilon", "1", *PLAN, "--json").stdout)
    assert 0.99 < found["epsilon_pld"] <= 1
    assert found["epsilon_pld"] == epsilon_of([Release(found["noise_multiplier"], 0.1, 100)], 1e-5)
    no_noise = json.loads(fedlens("privacy", "epsilon", "--noise", "0", *PLAN, "--json").stdout)
    assert no_noise["epsilon_pld"] is None
    assert "infinite" in fedlens("privacy", "epsilon", "--noise", "0", *PLAN).stdout
    wide = fedlens("privacy", "epsilon", "--noise", "3", *PLAN, "--delta", "0.001", "--json")
    assert json.loads(wide.stdout)["delta"] == 0.001 and "1 / 1,000" in wide.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("epsilon", "--noise", "-1", *PLAN), "noise_multiplier"),
        (("epsilon", "--noise", "nan", *PLAN), "noise_multiplier"),
        (("epsilon", "--noise", "x", *PLAN), "--noise"),
        (("epsilon", "--noise", "1", *PLAN, "--delta", "0"), "delta"),
        (("epsilon", "--noise", "1", *PLAN, "--delta", "1.5"), "delta"),
        (("epsilon", "--noise", "1", *PLAN, "--unit", "patient"), "patient"),
        (("epsilon", "--noise", "1", *PLAN, "--sampling", "shuffled"), "shuffled"),
        (("epsilon", "--noise", "1", *PLAN, "--placement", "local"), "client-level"),
        (("epsilon", "--noise", "1", *PLAN, "--unit", "client", "--placement", "x"), "placement"),
        (("epsilon", "--noise", "1", *PLAN, "--schedule", "steep"), "steep"),
        (("epsilon", "--noise", "1", *PLAN, "--schedule", "linear", "--end", "0"), "end"),
        (("epsilon", "--noise", "1", *PLAN[:2], "--expected", "1001", *PLAN[4:]), "1001"),
        (("epsilon", "--noise", "1", *PLAN[:4], "--periods", "0"), "--periods"),
        (("epsilon", "--noise", "1", *PLAN[:4], "--periods", "1000000000"), "--periods"),
        (("calibrate", "--epsilon", "0", *PLAN), "epsilon"),
        (("calibrate", "--epsilon", "-2", *PLAN), "epsilon"),
        (("calibrate", "--epsilon", "nan", *PLAN), "epsilon"),
        (("ledger", "/nowhere"), "not a run directory"),
    ],
)
def test_planning_with_what_cannot_be_is_one_sentence(arguments, word: str) -> None:
    refused(fedlens("privacy", *arguments), word)


@pytest.mark.parametrize("mode", MODES)
def test_the_ledger_on_the_command_line(finished, mode: str) -> None:
    run = finished[mode]
    done = fedlens("privacy", "ledger", run.path, "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["epsilon"] == run.result["privacy"]["epsilon"]
    assert content["verified"] is True and content["guarantee"] is False
    assert content["budget"] is None and content["delta"] == 1e-5
    assert len(content["accounts"]) == (4 if mode == "dp-sgd" else 1)
    assert 0.01 < content["true_positive_rate_bound_at_1_percent"] <= 1
    table = fedlens("privacy", "ledger", run.path)
    assert "nothing is guaranteed" in table.stdout and "none was set" in table.stdout


def test_an_edited_ledger_on_the_command_line_is_one_sentence(finished, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished["central"].path, path)
    file = path / "ledger.json"
    file.write_text(json.dumps(edited(json.loads(file.read_text()))))
    refused(fedlens("privacy", "ledger", path), "changed after it was signed")
    file.unlink()
    refused(fedlens("privacy", "ledger", path, "--json"), "ledger.json")


def test_the_ledger_of_a_run_without_privacy_is_said_to_be_none(tmp_path: Path) -> None:
    run = start_run(config(privacy={}, local__epochs=1), tmp_path / "plain")
    for more in ((), ("--json",)):
        refused(fedlens("privacy", "ledger", run.path, *more), "without privacy")


def test_the_ledger_of_a_repeated_run_shows_each_and_what_they_are_together(tmp_path) -> None:
    run = start_run(config(repeats=2, local__epochs=1), tmp_path / "two")
    content = json.loads(fedlens("privacy", "ledger", run.path, "--json").stdout)
    assert [part["part"] for part in content["parts"]] == ["seed-42", "seed-43"]
    one = epsilon_of(by_hand("central", 1), 1e-5)
    assert [part["epsilon"] for part in content["parts"]] == pytest.approx([one, one])
    assert content["epsilon_of_all_parts"] == pytest.approx(epsilon_of(by_hand("central", 2), 1e-5))
    shown = fedlens("privacy", "ledger", run.path).stdout
    assert "seed-42" in shown and "seed-43" in shown and "All 2 seeds" in shown


# --- fixed features


def test_the_saved_network_is_the_one_that_was_measured(tmp_path: Path) -> None:
    """It was trained on features that were computed once; its forward pass computes them anew."""
    made = config(
        "dp-sgd",
        model={"name": "scatter-linear"},
        local__lr=0.5,
        local__batch_size=30,
        privacy__noise_multiplier=1.0,
        federation__rounds=2,
    )
    run = load_run(start_run(made, tmp_path / "run").path)
    images, labels = run.dataset.test.images, run.dataset.test.labels
    with torch.no_grad():
        outputs = run.model(images.float() / 255)
    accuracy = float((outputs.argmax(1) == labels).double().mean())
    assert accuracy == pytest.approx(run.test.accuracy, abs=1e-12)
    assert accuracy > 0.3
    validation = run.dataset.validation
    with torch.no_grad():
        outputs = run.model(validation.images.float() / 255)
    share = float((outputs.argmax(1) == validation.labels).double().mean())
    # measured on float16 features
    assert share == pytest.approx(run.history[-1]["validation"]["accuracy"], abs=0.01)
