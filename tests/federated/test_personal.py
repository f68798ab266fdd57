"""Personal models against closed forms."""

import pytest
import torch
from torch import nn

from fedlens.data import Client, Split
from fedlens.errors import ConfigError
from fedlens.federated.personal import personalise
from fedlens.models import get_vector
from fedlens.training import LocalTraining


def classifier() -> nn.Module:
    """Two logits of one input; all weights zero: every class is as likely as the other."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def split(*labels: int) -> Split:
    return Split(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), torch.tensor(labels))


def holder(*labels: int) -> Client:
    return Client(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), torch.tensor(labels))


def test_a_client_of_one_class_is_served_by_its_own_model() -> None:
    model = classifier()
    before = get_vector(model)
    results = personalise(
        model,
        [holder(0, 0), holder(1, 1, 1)],
        local=LocalTraining(epochs=3, batch_size=None, lr=1.0),
        held_out=split(0, 1, 1, 0),
    )
    # a tie between the logits goes to class 0
    assert [r.global_accuracy for r in results] == [1.0, 0.0]
    assert [r.personal_accuracy for r in results] == [1.0, 1.0]
    assert [r.examples for r in results] == [2, 3]
    assert all(r.personal_loss < r.global_loss for r in results)
    assert torch.equal(before, get_vector(model))


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_dittos_pull_holds_the_personal_model_back(strength) -> None:
    """Stationary: p1 - 1 + lambda b1 = 0 for the bias of class 1, with b0 = -b1 by symmetry."""
    results = personalise(
        classifier(),
        [holder(1)],
        local=LocalTraining(epochs=4000, batch_size=None, lr=0.1),
        held_out=split(1),
        ditto=strength,
    )
    bias = 0.0
    for _ in range(200):  # fixed point of b = (1 - sigmoid(2 b)) / lambda, damped
        bias = 0.5 * bias + 0.5 * (1 - torch.sigmoid(torch.tensor(2 * bias)).item()) / strength
    expected = torch.nn.functional.softplus(torch.tensor(-2 * bias)).item()
    assert results[0].personal_loss == pytest.approx(expected, abs=1e-6)


def test_impossible_settings_are_named() -> None:
    arguments = {"clients": [holder(0)], "held_out": split(0)}
    with pytest.raises(ConfigError, match="ditto is -1"):
        personalise(classifier(), local=LocalTraining(), ditto=-1.0, **arguments)
    with pytest.raises(ConfigError, match=r"local\.epochs"):
        personalise(classifier(), local=LocalTraining(epochs=(1, 2)), **arguments)
