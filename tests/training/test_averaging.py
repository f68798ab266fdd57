"""The average of the weights over the steps."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedlens.data.client import Client
from fedlens.errors import ConfigError
from fedlens.federated import FedAvg, federate
from fedlens.models.vector import get_vector
from fedlens.training.central import CentralCheckpoint, train_centrally
from fedlens.training.local import LocalTraining
from fedlens.training.loop import WeightAverage


def problem() -> tuple[nn.Module, Client]:
    torch.manual_seed(0)
    inputs = torch.randn(20, 3, dtype=torch.float64)
    return nn.Linear(3, 2).double(), Client(inputs, torch.randint(0, 2, (20,)))


def test_by_hand() -> None:
    weights = torch.tensor([0.0])
    average = WeightAverage(weights, 0.9)
    weights.fill_(10.0)
    average.update()  # d = 1/10: 0.1 * 0 + 0.9 * 10
    assert average.vector.item() == pytest.approx(9.0)
    weights.fill_(20.0)
    average.update()  # d = 2/11
    assert average.vector.item() == pytest.approx(9 * 2 / 11 + 20 * 9 / 11)


def test_a_central_training_returns_the_average_of_its_iterates() -> None:
    model, client = problem()
    local = LocalTraining(epochs=7, batch_size=None, lr=0.3, momentum=0.5)
    weights: list[torch.Tensor] = []
    plain = train_centrally(
        model, client, local=local, checkpoint=lambda c, _: weights.append(c.state)
    ).model
    assert torch.equal(get_vector(plain), weights[-1])
    averaged = train_centrally(model, client, local=replace(local, averaging=0.5)).model
    expected = get_vector(model)
    for step, vector in enumerate(weights):
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * vector
    assert torch.allclose(get_vector(averaged), expected, atol=1e-12, rtol=0)


def test_a_stopped_training_goes_on_to_the_same_average() -> None:
    model, client = problem()
    local = LocalTraining(epochs=5, batch_size=8, lr=0.3, averaging=0.8)
    kept: list[CentralCheckpoint] = []
    whole = train_centrally(model, client, local=local, checkpoint=lambda c, _: kept.append(c))
    rest = train_centrally(model, client, local=local, resume_from=kept[2])
    assert torch.equal(get_vector(whole.model), get_vector(rest.model))


def test_what_cannot_be_is_refused() -> None:
    for value in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"local\.averaging"):
            LocalTraining(averaging=value)
    model, client = problem()
    with pytest.raises(ConfigError, match=r"local\.averaging"):
        federate(model, [client], algorithm=FedAvg(), rounds=1, local=LocalTraining(averaging=0.5))
