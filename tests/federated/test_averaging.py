"""The average over the rounds: against the recurrence by hand, and what it must not touch."""

import pytest
import torch
from torch import nn

from fedlens.data import Client, Split
from fedlens.errors import ConfigError
from fedlens.federated import ClientStore, FedAvg, FederationResult, Scaffold, federate
from fedlens.models import get_vector
from fedlens.training import LocalTraining, evaluate_logits

DECAY = 0.3


def network(batch_norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6)] if batch_norm else [nn.Linear(4, 6)]
    return nn.Sequential(*layers, nn.Tanh(), nn.Linear(6, 3))


def clients() -> list[Client]:
    """Three clients of one class each, whose global model swings."""
    stream = torch.Generator().manual_seed(3)
    inputs = torch.randn(36, 4, generator=stream)
    targets = torch.arange(36) % 3
    return [Client(inputs[targets == k] + k, targets[targets == k]) for k in range(3)]


def held_out() -> Split:
    stream = torch.Generator().manual_seed(4)
    targets = torch.arange(30) % 3
    return Split(torch.randn(30, 4, generator=stream) + targets[:, None], targets)


def trained(
    rounds: int, averaging: float, model: nn.Module | None = None, **more
) -> FederationResult:
    return federate(
        model or network(),
        clients(),
        algorithm=more.pop("algorithm", FedAvg()),
        rounds=rounds,
        local=LocalTraining(epochs=2, batch_size=4, lr=0.3, momentum=0.5),
        validation=more.pop("validation", held_out()),
        averaging=averaging,
        **more,
    )


def recurrence(vectors: list[torch.Tensor], decay: float) -> torch.Tensor:
    """a_1 = w_1; with d = min(decay, n / (n + 9)): a_n = d a_(n-1) + (1 - d) w_n."""
    average = vectors[0].double()
    for number, vector in enumerate(vectors[1:], start=2):
        kept = min(decay, number / (number + 9))
        average = kept * average + (1 - kept) * vector.double()
    return average


@pytest.mark.parametrize("decay", [0.15, DECAY, 0.9])
def test_the_model_is_the_average_by_hand(decay) -> None:
    singles = [get_vector(trained(rounds, 0.0).model) for rounds in range(1, 7)]
    averaged = get_vector(trained(6, decay).model)
    torch.testing.assert_close(averaged.double(), recurrence(singles, decay), rtol=0, atol=1e-6)
    assert float((averaged - singles[-1]).abs().max()) > 1e-3  # or the test would say nothing


def test_one_round_is_its_own_average() -> None:
    assert torch.equal(get_vector(trained(1, 0.9).model), get_vector(trained(1, 0.0).model))


def test_the_rounds_are_untouched_and_both_models_are_measured() -> None:
    plain, averaged = trained(4, 0.0), trained(4, DECAY)
    for one, other in zip(plain.history, averaged.history, strict=True):
        assert one.validation is not None and other.validation is not None
        assert one.averaged is None and one.to_json()["averaged"] is None
        assert one.validation.to_json() == other.validation.to_json()
        assert one.train_loss == other.train_loss
        assert [c.accuracy for c in one.clients] == [c.accuracy for c in other.clients]
    split = held_out()
    with torch.no_grad():
        outputs = averaged.model.eval()(split.images)
    last = averaged.history[-1].averaged
    assert last is not None
    assert last.to_json() == evaluate_logits(outputs, split.labels).to_json()
    assert averaged.history[-1].to_json()["averaged"]["loss"] == last.loss


def test_workers_and_a_resume_change_no_bit() -> None:
    kept = []
    whole = trained(5, DECAY, checkpoint=lambda point, _: kept.append(point))
    pooled = trained(5, DECAY, workers=2)
    resumed = trained(5, DECAY, resume_from=kept[1])
    for other in (pooled, resumed):
        assert torch.equal(get_vector(other.model), get_vector(whole.model))
    assert resumed.history[-1].averaged.to_json() == whole.history[-1].averaged.to_json()
    assert kept[2].average is not kept[1].average  # a later round does not change an older point


def test_running_statistics_are_averaged_with_the_weights() -> None:
    with pytest.warns(UserWarning, match="BatchNorm"):
        singles = [
            trained(rounds, 0.0, network(batch_norm=True)).model[1].running_mean
            for rounds in (1, 2, 3)
        ]
        averaged = trained(3, DECAY, network(batch_norm=True)).model[1].running_mean
    torch.testing.assert_close(averaged.double(), recurrence(singles, DECAY), rtol=0, atol=1e-6)


def test_what_clients_remember_follows_the_rounds_not_the_average() -> None:
    stores = [ClientStore(), ClientStore()]
    for store, decay in zip(stores, (0.0, DECAY), strict=True):
        trained(3, decay, algorithm=Scaffold(), client_store=store)
    for client in range(3):
        assert torch.equal(stores[0].read(client), stores[1].read(client))


def test_it_works_without_a_validation_set() -> None:
    result = trained(3, DECAY, validation=None)
    assert [record.averaged for record in result.history] == [None] * 3
    assert torch.equal(get_vector(result.model), get_vector(trained(3, DECAY).model))


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan"), "0.9", None, True])
def test_a_decay_that_cannot_be_is_refused(decay) -> None:
    with pytest.raises(
        ConfigError, match=r"federation\.averaging is .*expected a number in \[0, 1\)"
    ):
        trained(1, decay)


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    for made, wanted, sentence in ((0.0, DECAY, "without an"), (DECAY, 0.0, "with an")):
        kept = []
        trained(1, made, checkpoint=lambda point, _, kept=kept: kept.append(point))
        with pytest.raises(ConfigError, match=f"made {sentence} average over the rounds"):
            trained(2, wanted, resume_from=kept[0])
