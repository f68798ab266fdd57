"""What an algorithm cannot do with the clients' settings is said before anybody trains."""

from pathlib import Path

import pytest
import torch

from fedlens.errors import ConfigError
from fedlens.experiment.config import parse_config
from fedlens.experiment.run import start_run
from fedlens.federated import (
    Algorithm,
    FedDyn,
    FedNova,
    FedProx,
    FedYogi,
    Scaffold,
    federate,
)
from fedlens.federated.client import Workbench
from fedlens.training import LocalTraining
from fedlens.training.optimizers import FlatOptimizer
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


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        (FedProx(mu=25.0), "mu"),
        (FedYogi(mu=25.0), "mu"),
        (Scaffold(mu=25.0), "mu"),
        (FedDyn(alpha=25.0), "alpha"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_pull_that_clients_swing_about(
    algorithm: Algorithm, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heavy-ball descent on (mu / 2) x^2 diverges from lr mu = 2 (1 + rho): 2.5 for 0.1 and 0.25."""
    trained = []
    monkeypatch.setattr(Workbench, "train", lambda *arguments: trained.append(arguments))
    with pytest.raises(
        ConfigError, match=rf"local\.lr times .*{name} is 2.5.* below 2.5"
    ) as caught:
        federate(
            line(3), least_squares([6, 9]), algorithm=algorithm, rounds=2,
            local=LocalTraining(lr=0.1, momentum=0.25), loss=squares,
        )  # fmt: skip
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not trained


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_bound_is_where_the_optimiser_itself_begins_to_swing(rho: float) -> None:
    def end(share: float) -> float:
        pull = share * 2 * (1 + rho) / 0.1
        local = LocalTraining(lr=0.1, momentum=rho)
        place, gradient = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        optimizer = FlatOptimizer(place, gradient, local)
        for _ in range(2000):
            gradient.copy_(pull * place)
            optimizer.step()
        return abs(float(place))

    assert end(0.99) < 1e-3 and end(1.01) > 1e3


def test_adam_bears_any_pull() -> None:
    local = LocalTraining(lr=0.1, optimizer="adam", batch_size=3)
    result = federate(
        line(3), least_squares([6, 9]), algorithm=FedProx(mu=1000.0), rounds=1, local=local,
        loss=squares,
    )  # fmt: skip
    assert not result.history[0].left_out
