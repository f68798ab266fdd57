"""What a first user of privacy tries: the small version, and rounds that few take part in."""

from pathlib import Path

import pytest

from fedlens.experiment.config import load_config
from fedlens.experiment.opened import load_run
from fedlens.experiment.quick import quick_values
from fedlens.experiment.run import start_run
from fedlens.experiment.study import load_study
from fedlens.privacy.ledger import Ledger


@pytest.mark.parametrize(
    "name", ["central/scatter-3/0", "iid/scatter-3/0", "clients-1000/scatter-8/0"]
)
def test_the_small_version_of_a_private_cell_fits_its_few_images(name: str) -> None:
    (cell,) = load_study("privacy", quick=True).choose([name])
    clients = cell.config.federation.clients if cell.config.mode == "federated" else 1
    assert clients * cell.config.partition.minimum <= 2000
    if cell.config.privacy.mechanism == "dp-sgd":
        # held-out images are taken from the 2,000 as well
        assert cell.config.local.batch_size * clients <= 2000 // 4


def test_the_small_version_of_the_private_preset_runs(tmp_path: Path) -> None:
    config = quick_values(load_config(preset="private", overrides=["dataset.name=digits"]))
    run = start_run(config, tmp_path / "run")
    assert 2.9 < run.result["privacy"]["epsilon"] <= 3.0


def test_a_client_that_is_drawn_in_no_round_spends_nothing(tmp_path: Path) -> None:
    overrides = [
        "dataset.name=digits", "federation.clients=8", "federation.cohort=0.25",
        "federation.rounds=2", "local.batch_size=16", "partition.scheme=iid", "privacy.epsilon=1",
    ]  # fmt: skip
    start_run(load_config(preset="private", overrides=overrides), tmp_path / "run")
    ledger = Ledger.open(tmp_path / "run" / "ledger.json")
    spent = {name: ledger.epsilon(name) for name in ledger.units}
    drawn = {f"client {k}" for line in load_run(tmp_path / "run").history for k in line["cohort"]}
    assert 2 <= len(drawn) <= 4
    assert {name for name, epsilon in spent.items() if epsilon} == drawn
    assert all(0.97 < spent[name] <= 1.0 for name in drawn)
