"""A run whose model is the average over its rounds: what it keeps, says and goes on from."""

import html
from pathlib import Path

import pytest
import torch

import fedlens
from fedlens.experiment.config import parse_config
from fedlens.experiment.reporting import report_run
from fedlens.experiment.run import resume_run, start_run
from fedlens.experiment.study.elsewhere import read_elsewhere
from fedlens.experiment.study.grid import load_study
from fedlens.experiment.study.runner import run_study
from fedlens.experiment.study.summary import recommend, summarise
from fedlens.report.study_page import write_study_page
from fedlens.report.study_tables import accuracy_table
from fedlens.training.evaluation import evaluate_logits
from fedlens.training.loop import as_inputs

CONTENT = {
    "dataset": {"name": "digits", "limit": 300},
    "model": {"name": "lenet"},
    "partition": {"scheme": "classes", "classes_per_client": 2},
    "federation": {"clients": 5, "rounds": 4, "workers": 1, "averaging": 0.5},
    "local": {"epochs": 2, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9},
}
STUDY = """
title = "Averages"
about = "A small study."
seeds = [0]
[base.dataset]
name = "digits"
limit = 300
[base.model]
name = "lenet"
[base.federation]
clients = 5
rounds = 2
workers = 1
[partitions.p]
title = "Pairs"
set.partition = { scheme = "classes", classes_per_client = 2 }
[algorithms.fedavg]
title = "FedAvg"
set.federation = { averaging = 0.5 }
[algorithms.fedprox]
title = "FedProx"
set.federation = { algorithm = "fedprox" }
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> fedlens.Run:
    return start_run(parse_config(CONTENT), tmp_path_factory.mktemp("runs") / "averaged")


def test_the_figures_that_end_the_run_are_those_of_the_model_that_is_kept(finished) -> None:
    validation = finished.dataset.validation
    with torch.no_grad():
        outputs = finished.model.eval()(as_inputs(validation.images, torch.float32))
    accuracy = evaluate_logits(outputs, validation.labels).accuracy
    last = finished.history[-1]
    assert last["averaged"]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert finished.result["final_validation_accuracy"] == last["averaged"]["accuracy"]
    assert last["averaged"]["loss"] != last["validation"]["loss"]
    reached = [line["averaged"]["accuracy"] for line in finished.history]
    assert finished.result["best_validation_accuracy"] == max(reached)
    assert finished.result["best_round"] == 1 + reached.index(max(reached))


def test_a_base_that_averages_can_be_undone_and_older_runs_keep_their_digest() -> None:
    content = {**CONTENT, "federation": {**CONTENT["federation"], "averaging": 0}}
    plain = {k: v for k, v in CONTENT["federation"].items() if k != "averaging"}
    assert parse_config(content) == parse_config({**CONTENT, "federation": plain})
    assert "averaging" not in parse_config(content).to_dict()["federation"]


def test_it_goes_on_from_a_checkpoint_with_the_same_bytes(finished, tmp_path: Path) -> None:
    again = start_run(finished.config, tmp_path / "again")
    whole = (again.path / "model.safetensors").read_bytes()
    assert whole == (finished.path / "model.safetensors").read_bytes()
    (again.path / "result.json").unlink()
    sorted((again.path / "checkpoints").iterdir())[-1].unlink()
    resumed = resume_run(again.path)
    assert len(resumed.history) == 4
    assert (resumed.path / "model.safetensors").read_bytes() == whole


def test_the_report_says_whose_figures_are_whose(finished) -> None:
    page = html.unescape(report_run(finished).read_text()).replace("\u00a0", " ")
    assert "The model of the run is the average of the rounds' models" in page
    assert "All test figures are those of the average after the last round" in page
    assert "The overfitting gap of the last round's own model" in page
    assert "the client it serves worst" not in page  # that was measured with each round's model
    assert "The client that the last round's own model serves worst is" in page
    assert (finished.path / "figures" / "averaged.png").is_file()


def test_a_study_shows_averages_beside_the_last_round_and_takes_them_from_elsewhere(
    tmp_path,
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(STUDY)
    study = load_study(str(file))
    run_study(study.cells, tmp_path / "out", jobs=1)
    summary = summarise(study, tmp_path / "out")
    write_study_page(summary, recommend(summary), tmp_path / "out")
    averaged, plain = summary.cells
    assert plain.averaged == () and len(averaged.averaged) == 2
    rows = {row[0]: row[1] for row in accuracy_table(summary).rows}
    assert f"average {100 * averaged.averaged[-1]:.2f}" in rows["FedAvg"]
    assert "average" not in rows["FedProx"]
    (advice,) = recommend(summary)
    text = advice.text.replace("\u00a0", " ")
    assert f"The average of FedAvg's rounds ends at {100 * averaged.averaged[-1]:.2f} %" in text
    taken = summarise(study, tmp_path / "nothing", read_elsewhere(study, [tmp_path / "out"]))
    assert [cell.averaged for cell in taken.cells] == [averaged.averaged, ()]
    assert [cell.accuracy for cell in taken.cells] == [averaged.accuracy, plain.accuracy]


def test_a_cell_that_was_made_without_an_average_is_still_one_of_a_study_that_averages() -> None:
    """The rounds are the same: the cells of an older manifest need not be run again."""
    averaging = load_study("noniid")
    cell = averaging.cells[0]
    content = cell.config.to_dict()
    assert content["federation"].pop("averaging") == 0.9
    assert cell.is_of(parse_config(content))
    content["federation"]["averaging"] = 0.8
    assert not cell.is_of(parse_config(content))
    del content["federation"]["averaging"]
    content["local"]["lr"] = 0.02
    assert not cell.is_of(parse_config(content))
