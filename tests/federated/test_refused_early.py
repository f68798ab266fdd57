"""What an algorithm cannot do with the clients' settings is said before anybody trains."""

from pathlib import Path

import pytest

from fedlens.errors import ConfigError
from fedlens.experiment.config import parse_config
from fedlens.experiment.run import start_run
from fedlens.federated import FedNova, Scaffold, federate
from fedlens.federated.client import Workbench
from fedlens.training import LocalTraining
from problems import least_squares, line, squares


def one_sentence(error: Exception) -> None:
    text = str(error)
    assert text.endswith(".") and "\n" not in text and ". " not in text, text


@pytest.mark.parametrize(("mu", "lr"), [(10.0, 0.1), (4.0, 0.5)])
def test_a_proximal_term_that_jumps_past_its_point(
    mu: float, lr: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr(Workbench, "train", lambda *arguments: trained.append(arguments))
    with pytest.raises(ConfigError, match=r"local\.lr times .*mu is") as caught:
        federate(
            line(3), least_squares([6, 9]), algorithm=FedNova(mu=mu), rounds=2,
            local=LocalTraining(lr=lr), loss=squares,
        )  # fmt: skip
    one_sentence(caught.value)
    assert not trained


@pytest.mark.parametrize(
    ("mu", "local", "words"),
    [
        (30.0, LocalTraining(lr=0.05), r"local\.lr times .*mu is"),
        (0.0, LocalTraining(lr=0.05, optimizer="adam"), "steps are no sum of gradients"),
    ],
    ids=["pull", "adam"],
)
def test_a_control_that_cannot_be_told_from_the_way(
    mu: float, local: LocalTraining, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr(Workbench, "train", lambda *arguments: trained.append(arguments))
    with pytest.raises(ConfigError, match=words) as caught:
        federate(
            line(3), least_squares([6, 9]), algorithm=Scaffold(control="option-2", mu=mu), rounds=2,
            local=local, loss=squares,
        )  # fmt: skip
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not trained


def test_just_below_it_trains() -> None:
    local = LocalTraining(lr=0.1, batch_size=3)
    result = federate(
        line(3),
        least_squares([6, 9]),
        algorithm=FedNova(mu=9.99),
        rounds=1,
        local=local,
        loss=squares,
    )
    assert len(result.history) == 1


def test_a_run_is_refused_before_its_directory_is_made(tmp_path: Path) -> None:
    config = parse_config(
        {
            "dataset": {"name": "digits", "limit": 120},
            "partition": {"scheme": "iid", "minimum": 5},
            "federation": {
                "clients": 3, "rounds": 1, "algorithm": "fednova", "parameters": {"mu": 20.0},
            },
            "local": {"lr": 0.05},
        }
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"parameters\.mu") as caught:
        start_run(config, tmp_path / "run")
    one_sentence(caught.value)
    assert not (tmp_path / "run").exists()
