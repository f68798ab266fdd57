"""Central training spends no more than its mechanism was made for."""

import pytest
import torch
from torch import nn

from fedlens.data.client import Client
from fedlens.errors import ConfigError
from fedlens.privacy.accounting import Budget
from fedlens.privacy.mechanism import Mechanism
from fedlens.training import LocalTraining
from fedlens.training.central import CentralCheckpoint, train_centrally
from fedlens.training.private import PrivateSteps

DELTA = 1e-5


def mechanism(periods: int, budget: Budget | None = None) -> Mechanism:
    return Mechanism("example", 24, 6, 1.0, 5.0, periods, 4, sampling="fixed", budget=budget)


def train(privacy, epochs: int, **changes):
    examples = Client(torch.ones(24, 5), torch.zeros(24, dtype=torch.int64))
    local = LocalTraining(epochs=epochs, batch_size=6)
    return train_centrally(nn.Linear(5, 3), examples, local=local, privacy=privacy, **changes)


def refused(privacy, epochs: int, words: str, **changes) -> None:
    done: list[CentralCheckpoint] = []
    with pytest.raises(ConfigError, match=words) as caught:
        train(privacy, epochs, checkpoint=lambda c, _: done.append(c), **changes)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text, text
    assert not done


def test_no_more_epochs_than_are_planned() -> None:
    assert len(train(PrivateSteps(mechanism(2)), 2).history) == 2
    refused(PrivateSteps(mechanism(2)), 3, "3 epochs")
    refused(PrivateSteps(mechanism(2)), 3, "3 epochs", afford=lambda _: True)


def test_no_more_epochs_in_one_period_than_are_planned() -> None:
    train(PrivateSteps(mechanism(2), period=0), 2)
    refused(PrivateSteps(mechanism(2), period=0), 3, "3 releases")
    # who is asked before each epoch keeps account
    train(PrivateSteps(mechanism(2), period=0), 3, afford=lambda _: True)


def test_no_more_than_the_budget() -> None:
    calibrated = mechanism(2).calibrated(3.0, DELTA)
    train(PrivateSteps(calibrated), 2)
    refused(PrivateSteps(calibrated, period=0), 3, "epsilon")
    tight = mechanism(9, Budget(0.4, DELTA))
    # one Gaussian release of multiplier 5 costs 0.73
    refused(PrivateSteps(tight), 1, "epsilon", afford=lambda _: True)


@pytest.mark.parametrize("given", [3.0, mechanism(2), {"epsilon": 3}])
def test_what_is_no_privacy_is_one_sentence(given) -> None:
    refused(given, 1, "PrivateSteps")
    with pytest.raises(ConfigError, match="mechanism"):
        PrivateSteps(given if not isinstance(given, Mechanism) else (given,))


def test_a_second_training_spends_from_the_same_account() -> None:
    steps = PrivateSteps(mechanism(2).calibrated(3.0, DELTA))
    train(steps, 1)
    train(steps, 1)
    refused(steps, 1, "earlier")
    seeded = PrivateSteps(mechanism(2).calibrated(3.0, DELTA), seeded=True)
    for _ in range(2):
        train(seeded, 2)  # guarantees nothing, and nothing adds up


def test_a_training_that_goes_on_is_paid_for_once() -> None:
    kept: list[CentralCheckpoint] = []
    steps = PrivateSteps(mechanism(3).calibrated(3.0, DELTA))
    train(steps, 1, checkpoint=lambda c, _: kept.append(c))
    train(steps, 3, resume_from=kept[0])
    refused(steps, 1, "earlier")
    elsewhere = PrivateSteps(mechanism(3).calibrated(3.0, DELTA))
    train(elsewhere, 3, resume_from=kept[0])
    refused(elsewhere, 1, "earlier")
