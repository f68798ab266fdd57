"""Federated training against closed forms and against central training."""

import math

import pytest
import torch
from torch import nn

from fedlens.data import Client, Split
from fedlens.errors import ConfigError, DataError
from fedlens.federated import (
    Checkpoint,
    FedAvg,
    Federation,
    Progress,
    ServerState,
    Update,
    federate,
)
from fedlens.federated.algorithm import weighted_mean
from fedlens.federated.cohort import choose_cohort, cohort_size, local_epochs
from fedlens.federated.history import divergence, mix_weighted
from fedlens.models import build_model, get_vector
from fedlens.training import LocalTraining, evaluate_logits
from fedlens.training.central import train_centrally


def quadratic(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 0.5 * (outputs - targets).square().sum(1)


def point(start: float = 0.0) -> nn.Module:
    """A model that is one number w; with inputs of 1 its loss is (w - target)^2 / 2."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, start)
    return model


def holder(*targets: float) -> Client:
    values = torch.tensor(targets).double().unsqueeze(1)
    return Client(torch.ones_like(values), values)


def pictures(count: int, seed: int = 0) -> Client:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=stream).to(torch.uint8)
    return Client(images, torch.randint(0, 10, (count,), generator=stream))


def paper_cnn() -> nn.Module:
    return build_model("paper-cnn", in_channels=1, classes=10, image_size=28, seed=1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("workers", [1, 2])
def test_one_client_and_one_round_are_central_training_bit_for_bit(optimizer, workers) -> None:
    client = pictures(70)
    local = LocalTraining(epochs=3, batch_size=16, optimizer=optimizer, lr=1e-3)
    together = federate(
        paper_cnn(), [client], algorithm=FedAvg(), rounds=1, local=local, seed=8, workers=workers
    )
    central = train_centrally(paper_cnn(), client, local=local, seed=8)
    assert torch.equal(get_vector(together.model), get_vector(central.model))
    assert together.history[0].train_loss == central.history[-1].train_loss


def test_one_full_batch_step_a_round_is_centralised_gradient_descent() -> None:
    """sum_k (n_k/n)(x - lr grad_k) = x - lr grad: McMahan et al. 2017, section 2 (FedSGD)."""
    whole = pictures(60)
    cuts = torch.arange(60).split([10, 30, 15, 5])
    clients = [Client(whole.inputs, whole.targets, rows) for rows in cuts]
    local = LocalTraining(epochs=1, batch_size=None, lr=0.1)
    model = paper_cnn().double()
    together = federate(model, clients, algorithm=FedAvg(), rounds=5, local=local)
    plain = paper_cnn().double()
    for _ in range(5):
        loss = nn.functional.cross_entropy(plain(whole.inputs.double() / 255), whole.targets)
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(plain.parameters(), gradients, strict=True):
                weight -= 0.1 * gradient
    torch.testing.assert_close(get_vector(together.model), get_vector(plain), rtol=0, atol=1e-12)


def test_two_parabolas_follow_the_closed_form() -> None:
    """Client k with mean m_k goes to m_k + q (x - m_k), q = (1 - lr)^E; the server averages by n_k.

    With n = (3, 1), m = (1, 5), lr = 0.1, E = 4: x' = q x + (1 - q) (3 * 1 + 1 * 5) / 4.
    """
    local = LocalTraining(epochs=4, batch_size=None, lr=0.1)
    clients = [holder(0.0, 1.0, 2.0), holder(5.0)]
    result = federate(
        point(10.0), clients, algorithm=FedAvg(), rounds=3, local=local, loss=quadratic
    )
    q = 0.9**4
    x = 10.0
    for _ in range(3):
        x = q * x + (1 - q) * 2.0
    assert math.isclose(float(get_vector(result.model)), x, rel_tol=1e-12)


def test_unequal_local_steps_bias_fedavg_as_the_theory_says() -> None:
    """Fixed point of x' = sum p_k (m_k + q_k (x - m_k)): sum p_k (1-q_k) m_k / sum p_k (1-q_k)."""
    local = LocalTraining(epochs=[1, 10], batch_size=None, lr=0.1)
    clients = [holder(0.0), holder(1.0)]
    result = federate(
        point(0.3), clients, algorithm=FedAvg(), rounds=200, local=local, loss=quadratic
    )
    pull = [1 - 0.9, 1 - 0.9**10]
    assert math.isclose(float(get_vector(result.model)), pull[1] / sum(pull), rel_tol=1e-9)


def test_the_server_learning_rate_stretches_the_step() -> None:
    local = LocalTraining(batch_size=None, lr=0.5)
    for rate in (0.25, 1.0, 1.5):
        result = federate(
            point(4.0),
            [holder(0.0)],
            algorithm=FedAvg(server_lr=rate),
            rounds=1,
            local=local,
            loss=quadratic,
        )
        assert math.isclose(float(get_vector(result.model)), 4.0 - rate * 2.0)


def test_the_given_model_is_not_touched() -> None:
    model = paper_cnn()
    before = get_vector(model)
    result = federate(
        model, [pictures(8)], algorithm=FedAvg(), rounds=1, local=LocalTraining(batch_size=4)
    )
    assert torch.equal(before, get_vector(model))
    assert not torch.equal(before, get_vector(result.model))
    assert all(p.grad is None for p in result.model.parameters())


@pytest.mark.parametrize("resumed_after", [1, 2, 3])
def test_a_federation_goes_on_from_any_round_bit_for_bit(resumed_after: int) -> None:
    whole = pictures(60)
    clients = [Client(whole.inputs, whole.targets, rows) for rows in torch.arange(60).split(12)]
    local = LocalTraining(epochs=(1, 3), batch_size=5, lr=0.05, momentum=0.9)
    kept: list[Checkpoint] = []
    arguments = {"algorithm": FedAvg(), "rounds": 4, "local": local, "cohort": 3, "seed": 6}
    unbroken = federate(paper_cnn(), clients, **arguments, checkpoint=lambda c, _: kept.append(c))
    resumed = federate(
        paper_cnn(), clients, **arguments, resume_from=kept[resumed_after - 1], workers=2
    )
    assert torch.equal(get_vector(unbroken.model), get_vector(resumed.model))
    assert [r.round for r in resumed.history] == list(range(resumed_after + 1, 5))


def test_an_update_that_is_not_finite_is_left_out_counted_and_reported() -> None:
    def poisonous(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return quadratic(outputs, targets) * torch.where(targets[:, 0] > 90, torch.nan, 1.0)

    clients = [holder(0.0), holder(99.0), holder(2.0)]
    local = LocalTraining(batch_size=None, lr=1.0)
    result = federate(
        point(5.0), clients, algorithm=FedAvg(), rounds=2, local=local, loss=poisonous
    )
    # lr 1 jumps to the client's own target: the mean of 0 and 2
    assert math.isclose(float(get_vector(result.model)), 1.0)
    for record in result.history:
        assert [(o.client, o.reason) for o in record.left_out] == [(1, "its update is not finite")]
        assert [c.client for c in record.clients] == [0, 2]
        assert record.cohort == [0, 1, 2]


class Masked(nn.Module):
    """w + b over a mask of infinities, with a buffer that ``spoils`` turns to NaN while training."""

    def __init__(self, *, spoils: bool = False) -> None:
        super().__init__()
        self.point = point(5.0)
        self.spoils = spoils
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).double().triu(1))
        self.register_buffer("seen", torch.zeros(1).double())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.spoils and self.training:
            self.seen.fill_(torch.nan)
        return self.point(inputs)


@pytest.mark.parametrize("workers", [1, 2])
def test_buffers_that_were_infinite_before_do_not_spoil_an_update(workers) -> None:
    clients = [holder(0.0), holder(2.0)]
    arguments = {
        "algorithm": FedAvg(),
        "rounds": 2,
        "local": LocalTraining(batch_size=None, lr=1.0),
        "loss": quadratic,
        "workers": workers,
    }
    result = federate(Masked(), clients, **arguments)
    assert float(get_vector(result.model)) == pytest.approx(1.0)
    assert torch.equal(result.model.mask, Masked().mask)
    averaged = federate(Masked(), clients, **arguments, averaging=0.9)
    assert torch.equal(averaged.model.mask, Masked().mask)
    assert not [record.left_out for record in result.history if record.left_out]
    spoilt = federate(Masked(spoils=True), clients, **arguments)
    assert float(get_vector(spoilt.model)) == 5.0
    assert [len(record.left_out) for record in spoilt.history] == [2, 2]


@pytest.mark.parametrize(
    "indices",
    [torch.tensor([True, False, True]), torch.tensor([0.0]), torch.tensor([[0]])],
    ids=str,
)
def test_indices_that_are_none_are_refused(indices) -> None:
    with pytest.raises(DataError, match=r"A client's indices are .*expected int64 \(n,\)"):
        Client(torch.ones(3, 1), torch.ones(3), indices)


@pytest.mark.parametrize(
    "targets",
    [torch.tensor([[-50.0], [50.0]]), torch.tensor([0.5, 2.5]), torch.tensor([[0, 2], [1, 0]])],
    ids=["rows", "numbers", "counts"],
)
def test_targets_that_the_default_loss_is_not_for_are_refused(targets) -> None:
    client = Client(torch.ones(2, 3), targets)
    local = LocalTraining()
    with pytest.raises(ConfigError, match=r"No loss was given.*give a loss"):
        federate(nn.Linear(3, 2), [client], algorithm=FedAvg(), rounds=1, local=local)
    with pytest.raises(ConfigError, match=r"No loss was given.*give a loss"):
        train_centrally(nn.Linear(3, 2), client, local=local, seed=0)
    soft = Client(torch.ones(2, 3), torch.tensor([[0.2, 1.0], [0.0, 0.5]]))
    federate(nn.Linear(3, 2), [soft], algorithm=FedAvg(), rounds=1, local=local)


def test_a_round_in_which_nobody_is_usable_changes_nothing() -> None:
    def never(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return quadratic(outputs, targets) * torch.nan

    result = federate(
        point(5.0),
        [holder(0.0)],
        algorithm=FedAvg(),
        rounds=1,
        local=LocalTraining(batch_size=None),
        loss=never,
    )
    assert float(get_vector(result.model)) == 5.0
    assert result.history[0].train_loss is None
    assert result.history[0].clients == []


def test_batch_norm_warns_and_its_statistics_are_averaged() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1, momentum=1.0), nn.Linear(1, 2))
    clients = [
        Client(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])),
        Client(torch.tensor([[10.0], [12.0], [11.0], [11.0]]), torch.tensor([0, 1, 0, 1])),
    ]
    local = LocalTraining(batch_size=None, lr=1e-3)
    with pytest.warns(UserWarning, match="BatchNorm"):
        result = federate(model, clients, algorithm=FedAvg(), rounds=1, local=local)
    # running means 1 and 11 (momentum 1 keeps the last batch), weighted 2 to 4
    assert math.isclose(float(result.model[0].running_mean), (2 * 1 + 4 * 11) / 6, rel_tol=1e-6)


def test_progress_counts_clients_and_rounds() -> None:
    seen: list[Progress] = []
    federate(
        point(),
        [holder(0.0), holder(1.0)],
        algorithm=FedAvg(),
        rounds=2,
        local=LocalTraining(batch_size=None),
        loss=quadratic,
        progress=seen.append,
    )
    steps = [(p.round, p.clients_done, p.record is not None) for p in seen]
    assert steps == [
        (1, 1, False), (1, 2, False), (1, 2, True), (2, 1, False), (2, 2, False), (2, 2, True)
    ]  # fmt: skip


def test_bytes_are_four_a_parameter_each_way() -> None:
    clients = [pictures(4, seed) for seed in range(3)]
    result = federate(
        paper_cnn(), clients, algorithm=FedAvg(), rounds=1, local=LocalTraining(), cohort=2
    )
    assert result.history[0].bytes_down == result.history[0].bytes_up == 2 * 4 * 65_354


def test_a_cohort_is_uniform_and_repeatable() -> None:
    draws = [choose_cohort(10, 3, 5, r) for r in range(2000)]
    assert draws == [choose_cohort(10, 3, 5, r) for r in range(2000)]
    assert all(len(set(d)) == 3 and d == sorted(d) for d in draws)
    counts = torch.bincount(torch.tensor(draws).flatten(), minlength=10)
    # each client is in with probability 0.3: five standard deviations of a binomial
    assert float((counts - 600).abs().max()) < 5 * math.sqrt(2000 * 0.3 * 0.7)


@pytest.mark.parametrize(
    ("cohort", "clients", "size"),
    [(None, 7, 7), (3, 7, 3), (0.5, 10, 5), (0.1, 100, 10), (0.01, 7, 1)],
)
def test_cohort_sizes(cohort, clients, size) -> None:
    assert cohort_size(cohort, clients) == size


@pytest.mark.parametrize("cohort", [0, 8, -1, 1.0, 0.0, 1.5, float("nan"), True])
def test_impossible_cohorts_are_refused(cohort) -> None:
    with pytest.raises(ConfigError, match=r"federation\.cohort"):
        cohort_size(cohort, 7)


def test_local_epochs_cover_their_range() -> None:
    local = LocalTraining(epochs=(2, 5))
    drawn = {local_epochs(local, 0, r, k) for r in range(20) for k in range(10)}
    assert drawn == {2, 3, 4, 5}
    assert local_epochs(LocalTraining(epochs=[4, 7]), 0, 1, 1) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clients": []}, "at least one client"),
        ({"rounds": 0}, "federation.rounds"),
        ({"workers": 0}, "federation.workers"),
        ({"seed": -1}, "seed"),
        ({"local": LocalTraining(epochs=[1, 2, 3])}, "lists 3 numbers for 1 clients"),
    ],
)
def test_impossible_federations_are_refused(change, message) -> None:
    arguments = {"clients": [holder(0.0)], "rounds": 1, "local": LocalTraining(), "workers": 1}
    with pytest.raises(ConfigError, match=message):
        federate(point(), algorithm=FedAvg(), loss=quadratic, **{**arguments, **change})


def test_server_learning_rates_must_be_positive() -> None:
    for rate in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="server_lr"):
            FedAvg(server_lr=rate)


def test_aggregation_accumulates_in_double_precision() -> None:
    """2^24 + 1 + 1 is lost in float32 (every addition of 1 rounds away) and kept in float64."""
    weights = [torch.tensor([3.0 * 2**24]), torch.tensor([3.0]), torch.tensor([3.0])]
    assert float(weighted_mean(weights, [1, 1, 1])) == 2**24 + 2
    state = ServerState(torch.zeros(1))
    updates = [Update(k, 1, 1, w) for k, w in enumerate(weights)]
    federation = Federation((1, 1, 1), LocalTraining())
    assert float(FedAvg().aggregate(state, updates, federation).parameters) == 2**24 + 2


def test_divergence_of_two_orthogonal_updates() -> None:
    old = torch.tensor([1.0, 1.0])
    (one, cos_one), (two, cos_two) = divergence(
        old, [torch.tensor([4.0, 1.0]), torch.tensor([1.0, 5.0])]
    )
    # updates (3, 0) and (0, 4), mean (1.5, 2) of norm 2.5
    assert (one, two) == (3.0, 4.0)
    assert math.isclose(cos_one, 1.5 / 2.5)
    assert math.isclose(cos_two, 2 / 2.5)
    assert divergence(old, [old])[0] == (0.0, None)


def test_figures_are_reweighted_to_a_clients_own_labels() -> None:
    """Re-weighting equals evaluating on a validation set that has the client's label mix."""
    stream = torch.Generator().manual_seed(3)
    logits = torch.randn(90, 3, generator=stream)
    truth = torch.arange(3).repeat_interleave(30)
    figures = evaluate_logits(logits, truth)
    # every class-0 example once, every class-1 example three times, class 2 never
    copies = torch.cat([torch.arange(30), *[torch.arange(30, 60)] * 3])
    expected = evaluate_logits(logits[copies], truth[copies])
    loss, accuracy = mix_weighted(figures, torch.tensor([10, 30, 0]))
    assert math.isclose(loss, expected.loss, rel_tol=1e-6)
    assert math.isclose(accuracy, expected.accuracy, rel_tol=1e-9)
    assert mix_weighted(figures, torch.tensor([0, 0, 0])) == (None, None)


def test_each_round_measures_the_new_global_model() -> None:
    whole = pictures(40)
    held_out = Split(*pictures(30, seed=9).take(torch.arange(30)))
    clients = [Client(whole.inputs, whole.targets, rows) for rows in torch.arange(40).split(20)]
    result = federate(
        paper_cnn(),
        clients,
        algorithm=FedAvg(),
        rounds=2,
        local=LocalTraining(lr=0.1),
        validation=held_out,
    )
    with torch.no_grad():
        logits = result.model(held_out.images.float() / 255)
    expected = evaluate_logits(logits, held_out.labels)
    measured = result.history[-1].validation
    assert measured is not None
    assert math.isclose(measured.loss, expected.loss, rel_tol=1e-5)
    assert measured.accuracy == expected.accuracy
    assert result.history[-1].to_json()["validation"]["accuracy"] == expected.accuracy


def test_a_loss_that_is_already_a_mean_is_refused() -> None:
    """Trained with, it would shrink the step by the batch size without a word."""
    with pytest.raises(ConfigError, match=r"shape \(\) for 4 examples.*one value per example"):
        federate(
            paper_cnn(),
            [pictures(4)],
            algorithm=FedAvg(),
            rounds=1,
            local=LocalTraining(),
            loss=nn.functional.cross_entropy,
        )


def test_labels_that_lack_the_models_last_classes_are_measured() -> None:
    """Five outputs, labels 0 to 2: a subset, or specialists."""
    model = nn.Linear(2, 5)
    client = Client(torch.rand(9, 2), torch.arange(9) % 3)
    result = federate(
        model,
        [client],
        algorithm=FedAvg(),
        rounds=1,
        local=LocalTraining(),
        validation=client,
    )
    record = result.history[0]
    assert record.validation is not None
    assert record.clients[0].accuracy == pytest.approx(record.validation.accuracy)


def test_a_diverged_model_has_no_flattering_client_figures() -> None:
    logits = torch.tensor([[5.0, 0.0], [5.0, 0.0], [math.nan, math.nan], [math.inf, 0.0]])
    figures = evaluate_logits(logits, torch.tensor([0, 0, 1, 1]))
    loss, _ = mix_weighted(figures, torch.tensor([3, 1]))
    assert loss is not None
    assert math.isnan(loss)
    # whoever holds only the class that is well is told so
    loss, accuracy = mix_weighted(figures, torch.tensor([3, 0]))
    assert loss == pytest.approx(math.log1p(math.exp(-5.0)))
    assert accuracy == 1.0


def test_validation_targets_that_are_not_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave validation out"):
        federate(
            point(),
            [holder(0.0)],
            algorithm=FedAvg(),
            rounds=1,
            local=LocalTraining(),
            loss=quadratic,
            validation=holder(1.0),
        )


@pytest.mark.parametrize(
    ("targets", "measured"),
    [
        (torch.rand(6), torch.arange(6) % 2),
        (torch.arange(6) % 2, torch.ones(6, 2, dtype=torch.uint8)),
        (torch.ones(6, 2, dtype=torch.uint8), torch.arange(6) % 2),
    ],
    ids=["a regression", "classes by rows", "rows by classes"],
)
def test_clients_that_are_not_measured_as_they_train_are_refused(
    targets: torch.Tensor, measured: torch.Tensor
) -> None:
    with pytest.raises(ConfigError, match=r"The targets of client 1 .* leave validation out"):
        federate(
            nn.Linear(2, 2),
            [Client(torch.rand(6, 2), measured), Client(torch.rand(6, 2), targets)],
            algorithm=FedAvg(),
            rounds=1,
            local=LocalTraining(),
            loss=lambda outputs, _: outputs.sum(1),
            validation=Client(torch.rand(6, 2), measured),
        )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_of_one_under_batch_norm_is_one_sentence(workers: int) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    clients = [Client(torch.rand(size, 2), torch.arange(size) % 2) for size in (8, 9)]
    with (
        pytest.warns(UserWarning, match="BatchNorm"),
        pytest.raises(ConfigError, match=r"a single example: local\.batch_size is 4"),
    ):
        federate(
            network,
            clients,
            algorithm=FedAvg(),
            rounds=1,
            workers=workers,
            local=LocalTraining(batch_size=4),
        )


def test_one_output_column_is_not_a_choice_of_class() -> None:
    def binary(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.softplus(outputs[:, 0] * (1 - 2 * targets))

    client = Client(torch.rand(8, 2), torch.arange(8) % 2)
    result = federate(
        nn.Linear(2, 1),
        [client],
        algorithm=FedAvg(),
        rounds=1,
        local=LocalTraining(),
        loss=binary,
    )
    assert result.history[0].train_accuracy is None


def test_minus_zero_survives_one_client() -> None:
    weights = torch.tensor([-0.0, 1.0])
    updates = [Update(0, 3, 1, weights)]
    federation = Federation((3,), LocalTraining())
    state = FedAvg().aggregate(ServerState(torch.ones(2)), updates, federation)
    assert torch.signbit(state.parameters).tolist() == [True, False]
