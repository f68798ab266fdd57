"""The algorithms against known optima, closed forms and each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from fedlens.data import Client
from fedlens.errors import ConfigError, RunError
from fedlens.federated import (
    ALGORITHMS,
    Algorithm,
    Checkpoint,
    ClientStore,
    CoordinateMedian,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedDyn,
    Federation,
    FedNova,
    FedProx,
    FedYogi,
    Mean,
    Scaffold,
    Screening,
    ServerState,
    Update,
    build_algorithm,
    federate,
)
from fedlens.models import build_model, get_vector
from fedlens.training import LocalTraining
from fedlens.training.path import path_length
from problems import least_squares, line, optimum, parabola, squares, well_conditioned

SIZES = [4, 9, 6, 11]
CONTROLS = ["mean-gradient", "option-1", "option-2"]


def full_batch(**changes) -> LocalTraining:
    return LocalTraining(**{"epochs": 5, "batch_size": None, "lr": 0.1, **changes})


def train(algorithm: Algorithm, clients: list[Client], rounds: int, **arguments) -> Tensor:
    result = federate(
        line(clients[0].inputs.shape[1]),
        clients,
        algorithm=algorithm,
        rounds=rounds,
        local=arguments.pop("local", full_batch()),
        loss=squares,
        **arguments,
    )
    return get_vector(result.model)


def pictures(count: int, seed: int = 0) -> Client:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=stream).to(torch.uint8)
    return Client(images, torch.randint(0, 10, (count,), generator=stream))


def paper_cnn() -> nn.Module:
    return build_model("paper-cnn", in_channels=1, classes=10, image_size=28, seed=1)


# SCAFFOLD


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"local": full_batch(momentum=0.9, lr=0.04)},
        {"local": full_batch(epochs=[1, 7, 3, 12])},
        {"local": full_batch(epochs=[2, 9, 1, 5], momentum=0.8, lr=0.04)},
        {"local": full_batch(schedule="cosine")},
        {"cohort": 2},
        {"cohort": 0.25, "local": full_batch(momentum=0.5, epochs=(1, 6), lr=0.04)},
        {"local": full_batch(weight_decay=0.3)},
    ],
    ids=["sgd", "momentum", "unequal steps", "both", "schedule", "half", "quarter", "decay"],
)
def test_scaffold_reaches_the_optimum_of_the_mean(control, case) -> None:
    clients = well_conditioned(SIZES)
    rounds = 220 if case.get("cohort") == 0.25 else 80
    reached = train(Scaffold(control=control), clients, rounds, seed=3, **case)
    decay = case.get("local", full_batch()).weight_decay
    expected = optimum(clients, [1.0] * 4)
    if decay:  # (H + decay I) w = b
        rows = [c.inputs.T @ c.inputs / len(c) for c in clients]
        sides = [c.inputs.T @ c.targets[:, 0] / len(c) for c in clients]
        matrix = sum(rows) / 4 + decay * torch.eye(3, dtype=torch.float64)
        expected = torch.linalg.solve(matrix, sum(sides) / 4)
    torch.testing.assert_close(reached, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_pull_leaves_scaffolds_fixed_point_where_it_is(control) -> None:
    clients = well_conditioned(SIZES)
    algorithm = Scaffold(control=control, mu=0.5)
    reached = train(algorithm, clients, 70, local=full_batch(epochs=[2, 9, 1, 5]))
    torch.testing.assert_close(reached, optimum(clients, [1.0] * 4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cohort", [None, 2])
@pytest.mark.parametrize("control", CONTROLS)
def test_weighted_scaffold_reaches_the_optimum_of_all_examples(cohort, control) -> None:
    clients = well_conditioned(SIZES)
    reached = train(Scaffold(control=control, weighted=True), clients, 70, cohort=cohort)
    shares = [size / sum(SIZES) for size in SIZES]
    pooled = torch.linalg.lstsq(
        torch.cat([c.inputs for c in clients]), torch.cat([c.targets for c in clients])
    ).solution[:, 0]
    torch.testing.assert_close(optimum(clients, shares), pooled)
    torch.testing.assert_close(reached, pooled, rtol=0, atol=1e-6)


def test_fedavg_and_uncorrected_momentum_do_not_reach_it() -> None:
    """What the tests above would show of an algorithm that does not correct drift."""
    clients = well_conditioned(SIZES)
    for algorithm in (FedAvg(), FedNova()):
        reached = train(algorithm, clients, 80)
        shares = [size / sum(SIZES) for size in SIZES]
        assert float((reached - optimum(clients, shares)).abs().max()) > 1e-3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cohort", [None, 2])
def test_the_servers_control_is_the_mean_of_the_clients_in_every_round(weighted, cohort) -> None:
    clients = least_squares(SIZES)
    store = ClientStore()
    errors = []

    def check(checkpoint: Checkpoint, _) -> None:
        total = torch.zeros(3, dtype=torch.float64)
        for client, size in enumerate(SIZES):
            share = size / sum(SIZES) if weighted else 0.25
            memory = store.read(client)
            total += share * (memory[0] if memory is not None else 0)
        errors.append(float((total - checkpoint.state.memory["control"]).abs().max()))

    train(
        Scaffold(weighted=weighted),
        clients,
        40,
        cohort=cohort,
        client_store=store,
        checkpoint=check,
    )
    assert max(errors) < 1e-12


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_among_identical_clients_scaffold_is_fedavg(momentum) -> None:
    one = pictures(24)
    local = LocalTraining(epochs=3, batch_size=None, lr=0.05, momentum=momentum)
    vectors = [
        get_vector(
            federate(paper_cnn(), [one] * 3, algorithm=algorithm, rounds=3, local=local).model
        )
        for algorithm in (FedAvg(), Scaffold())
    ]
    torch.testing.assert_close(*vectors, rtol=0, atol=1e-6)


@pytest.mark.parametrize("control", CONTROLS)
def test_with_one_step_all_controls_are_the_gradient_at_the_servers_point(control) -> None:
    """K = 1: options I and II coincide (Karimireddy et al., section 4)."""
    clients = least_squares(SIZES)
    store = ClientStore()
    local = full_batch(epochs=1)
    train(Scaffold(control=control), clients, 1, local=local, client_store=store)
    for number, client in enumerate(clients):
        gradient = -(client.inputs.T @ client.targets[:, 0]) / len(client)  # at w = 0
        memory = store.read(number)
        assert memory is not None
        torch.testing.assert_close(memory[0], gradient, rtol=0, atol=1e-12)


def test_scaffold_sends_twice_as_much() -> None:
    clients = [pictures(4, seed) for seed in range(2)]
    local = LocalTraining(batch_size=4)
    result = federate(paper_cnn(), clients, algorithm=Scaffold(), rounds=1, local=local)
    assert result.history[0].bytes_down == result.history[0].bytes_up == 2 * 2 * 4 * 65_354


# FedDyn


@pytest.mark.parametrize("case", [{}, {"cohort": 2}, {"local": full_batch(epochs=[1, 7, 3, 12])}])
def test_feddyn_reaches_the_optimum_of_the_mean(case) -> None:
    clients = well_conditioned(SIZES)
    reached = train(FedDyn(alpha=1.0), clients, 130, **case)
    torch.testing.assert_close(reached, optimum(clients, [1.0] * 4), rtol=0, atol=1e-6)


# FedNova


def bias(algorithm: Algorithm, lr: float) -> float:
    """Distance from the optimum where one client does one step and the other ten."""
    clients = [parabola(1.0, 0.0), parabola(1.0, 1.0)]
    local = full_batch(epochs=[1, 10], lr=lr)
    rounds = round(2 / lr)  # each leaves about exp(-5.5 lr) of the way: 2e-5 in the end
    return abs(float(train(algorithm, clients, rounds, local=local)) - 0.5)


def test_fednovas_bias_vanishes_with_the_learning_rate_and_fedavgs_stays() -> None:
    nova = [bias(FedNova(), lr) for lr in (0.04, 0.02, 0.01)]
    average = [bias(FedAvg(), lr) for lr in (0.04, 0.02, 0.01)]
    assert nova[0] / nova[1] == pytest.approx(2, rel=0.05)
    assert nova[1] / nova[2] == pytest.approx(2, rel=0.05)
    assert min(average) > 0.38  # towards the client of ten steps: 10/11 - 1/2
    assert max(nova) < 0.06


def test_fednova_is_fedavg_where_all_do_the_same_steps() -> None:
    clients = least_squares([6, 6, 6])
    for local in (full_batch(), full_batch(momentum=0.9, lr=0.01)):
        vectors = [train(algorithm, clients, 5, local=local) for algorithm in (FedAvg(), FedNova())]
        torch.testing.assert_close(*vectors, rtol=0, atol=1e-12)


def test_fednovas_effective_step_is_reported_and_guarded() -> None:
    """n = (1, 3) and one step each example: p = a / sum a, so the weight is N sum p^2 = 1.25."""
    clients = [
        Client(torch.ones(n, 1).double(), torch.full((n, 1), float(n)).double()) for n in (1, 3)
    ]
    local = LocalTraining(batch_size=1, lr=0.01)
    plain = federate(line(), clients, algorithm=FedNova(), rounds=1, local=local, loss=squares)
    guarded = federate(
        line(), clients, algorithm=FedNova(guard=True), rounds=1, local=local, loss=squares
    )
    assert plain.history[0].figures["effective_step"] == pytest.approx(2 * (1 / 16 + 9 / 16))
    assert float(get_vector(plain.model)) == pytest.approx(1.25 * float(get_vector(guarded.model)))


# FedProx


def test_without_a_pull_fedprox_is_fedavg_bit_for_bit() -> None:
    whole = pictures(40)
    clients = [Client(whole.inputs, whole.targets, rows) for rows in torch.arange(40).split(15)]
    local = LocalTraining(epochs=2, batch_size=8, lr=0.05, momentum=0.9)
    vectors = [
        get_vector(federate(paper_cnn(), clients, algorithm=a, rounds=2, local=local).model)
        for a in (FedAvg(), FedProx(mu=0.0))
    ]
    assert torch.equal(*vectors)


def test_fedprox_minimises_the_squared_proximal_objective() -> None:
    """argmin a/2 (w - m)^2 + mu/2 (w - x)^2 = (a m + mu x) / (a + mu), after many local steps."""
    local = full_batch(epochs=2000, lr=0.1)
    result = federate(
        line(start=4.0),
        [parabola(2.0, 1.0)],
        algorithm=FedProx(mu=0.5),
        rounds=1,
        local=local,
        loss=squares,
    )
    assert float(get_vector(result.model)) == pytest.approx((2 * 1 + 0.5 * 4) / 2.5, abs=1e-9)


# all of them


@pytest.mark.parametrize(
    "algorithm",
    [FedAvg(), FedProx(mu=0.3), FedNova(), Scaffold(weighted=True)],
    ids=lambda a: a.name,
)
def test_one_full_batch_step_a_round_is_centralised_descent(algorithm) -> None:
    clients = least_squares(SIZES)
    local = full_batch(epochs=1, lr=0.1)
    reached = train(algorithm, clients, 12, local=local)
    inputs = torch.cat([c.inputs for c in clients])
    targets = torch.cat([c.targets for c in clients])[:, 0]
    weights = torch.zeros(3, dtype=torch.float64)
    for _ in range(12):
        weights -= 0.1 * inputs.T @ (inputs @ weights - targets) / len(inputs)
    torch.testing.assert_close(reached, weights, rtol=0, atol=1e-10)


def updates_of(*weights: float) -> list[Update]:
    return [Update(k, 1, 1, torch.tensor([w], dtype=torch.float64)) for k, w in enumerate(weights)]


def two_rounds(algorithm: Algorithm, deltas: tuple[float, float]) -> tuple[float, ServerState]:
    """Aggregate two rounds in which the mean update is deltas[0], then deltas[1]."""
    federation = Federation((1, 1), LocalTraining())
    state = algorithm.start(torch.zeros(1, dtype=torch.float64), federation)
    for delta in deltas:
        x = float(state.parameters)
        state = algorithm.aggregate(state, updates_of(x + delta - 1, x + delta + 1), federation)
    return float(state.parameters), state


def test_adaptive_servers_follow_the_paper_by_hand() -> None:
    """D = 0.2, then 0.1; b1 = 0.5, b2 = 0.75, tau = 0.1, eta = 1; v0 = 0.01, no bias correction.

    m1 = 0.1, m2 = 0.05 + 0.05 = 0.1.
    """
    settings = {"server_lr": 1.0, "beta1": 0.5, "beta2": 0.75, "tau": 0.1}
    by_hand = {
        FedAdagrad: (0.01 + 0.04, 0.05 + 0.01),
        FedAdam: (0.75 * 0.01 + 0.25 * 0.04, 0.75 * 0.0175 + 0.25 * 0.01),
        # sign(v - D^2) is -1, then sign(0.02 - 0.01) = +1
        FedYogi: (0.01 + 0.25 * 0.04, 0.02 - 0.25 * 0.01),
    }
    for kind, (v1, v2) in by_hand.items():
        expected = 0.1 / (math.sqrt(v1) + 0.1) + 0.1 / (math.sqrt(v2) + 0.1)
        reached, state = two_rounds(kind(**settings), (0.2, 0.1))
        assert reached == pytest.approx(expected, rel=1e-12), kind
        assert float(state.memory["second"]) == pytest.approx(v2, rel=1e-12)


def test_server_momentum_by_hand() -> None:
    """m1 = 0.2, m2 = 0.9 * 0.2 + 0.1 = 0.28; x = 0.5 (0.2 + 0.28)."""
    reached, _ = two_rounds(FedAvgM(server_lr=0.5, momentum=0.9), (0.2, 0.1))
    assert reached == pytest.approx(0.24, rel=1e-12)
    assert two_rounds(FedAvgM(momentum=0.0), (0.2, 0.1))[0] == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
@pytest.mark.parametrize("workers", [1, 3])
def test_every_algorithm_goes_on_from_any_round_bit_for_bit(name, workers, tmp_path: Path) -> None:
    whole = pictures(72)
    clients = [Client(whole.inputs, whole.targets, rows) for rows in torch.arange(72).split(12)]
    arguments = {
        "algorithm": build_algorithm(name, {}),
        "rounds": 4,
        "local": LocalTraining(epochs=(1, 3), batch_size=5, lr=0.01, momentum=0.9),
        "cohort": 3,
        "seed": 6,
    }
    kept: list[Checkpoint] = []
    unbroken = federate(paper_cnn(), clients, **arguments, checkpoint=lambda c, _: kept.append(c))
    assert not torch.equal(get_vector(unbroken.model), get_vector(paper_cnn()))
    store = ClientStore(tmp_path / "clients", limit=1)
    federate(paper_cnn(), clients, **{**arguments, "rounds": 3}, client_store=store)
    resumed = federate(
        paper_cnn(),
        clients,
        **arguments,
        resume_from=kept[1],
        workers=workers,
        client_store=ClientStore(tmp_path / "clients"),
    )
    assert torch.equal(get_vector(unbroken.model), get_vector(resumed.model))


def test_unknown_parameters_and_kinds_are_named() -> None:
    for name, parameters, words in [
        ("fedavg", {"mu": 0.1}, "mu is not a parameter of fedavg"),
        ("fedprox", {"mu": "much"}, "expected a number"),
        ("fedprox", {"mu": -1.0}, "mu is -1.0"),
        ("fedyogi", {"mu": -1.0}, "mu is -1.0"),
        ("scaffold", {"weighted": 1}, "expected true or false"),
        ("scaffold", {"control": "option-3"}, "option-3.*option-1, option-2"),
        ("scaffold", {"control": 3}, "control is 3, expected one of"),
        ("feddyn", {"alpha": 0.0}, "alpha is 0.0"),
        ("fedadam", {"beta2": 1.0}, "beta2 is 1.0"),
        ("fedavgm", {"momentum": True}, "expected a number"),
    ]:
        with pytest.raises(ConfigError, match=words):
            build_algorithm(name, parameters)


@dataclass(frozen=True)
class Own(Algorithm):
    """An algorithm of a user's own: one name, one function, parameters of all plain kinds."""

    name: ClassVar[str] = "own"
    beta: float
    every: int = 3
    scale: float | None = None

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], federation: Federation
    ) -> ServerState:
        return state


def test_an_algorithm_of_ones_own_takes_parameters_of_plain_kinds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ALGORITHMS, "own", Own)
    made = build_algorithm("own", {"beta": 1, "every": 5, "scale": 0.5})
    assert made == Own(beta=1, every=5, scale=0.5)
    assert build_algorithm("own", {"beta": 1.0, "scale": None}, Mean()) == Own(beta=1.0)
    for parameters, rule, words in [
        ({}, None, r"beta is not set, and own has no value"),
        ({"beta": 1.0, "every": 2.5}, None, r"every is 2\.5, expected a whole number"),
        ({"beta": 1.0, "scale": "x"}, None, r"scale is 'x', expected a number or none"),
        ({"beta": 1.0, "every": True}, None, r"every is True, expected a whole number"),
        ({"beta": 1.0, "aggregation": 1}, None, "aggregation is not a parameter of own"),
        ({"beta": 1.0}, CoordinateMedian(), "own takes no rule of aggregation"),
    ]:
        with pytest.raises(ConfigError, match=words):
            build_algorithm("own", parameters, rule)


def test_annotations_that_nobody_can_resolve_are_left_to_the_algorithm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(Own.__annotations__, "beta", "NowhereDefined")
    monkeypatch.setitem(ALGORITHMS, "own", Own)
    assert build_algorithm("own", {"beta": 2.0}).beta == 2.0


# what clients remember


def test_a_store_gives_back_what_was_written_within_its_limit(tmp_path: Path) -> None:
    vectors = [torch.full((1, 4), float(k)) for k in range(6)]
    for folder in (None, tmp_path / "clients"):
        store = ClientStore(folder, limit=40)  # two vectors of 16 bytes
        assert store.read(0) is None
        for number, vector in enumerate(vectors):
            store.write(number, 1, vector)
        store.write(3, 2, vectors[0])
        assert store._bytes <= 40
        for number in (5, 0, 1, 4, 2):
            assert torch.equal(store.read(number), vectors[number])
        assert torch.equal(store.read(3), vectors[0])
        assert store.rounds == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1, 5: 1}


def test_a_store_goes_back_to_the_round_of_a_checkpoint_and_prunes_the_rest(tmp_path: Path) -> None:
    store = ClientStore(tmp_path)
    store.write(1, 1, torch.zeros(1, 2))
    first = store.rounds
    store.write(1, 2, torch.ones(1, 2))
    store.write(2, 2, torch.ones(1, 2))
    store.restore(first)
    assert torch.equal(store.read(1), torch.zeros(1, 2))
    assert store.read(2) is None
    store.prune(first)
    assert [file.name for file in tmp_path.iterdir()] == ["0000001-000001.memory"]


def test_a_damaged_memory_is_one_sentence(tmp_path: Path) -> None:
    store = ClientStore(tmp_path, limit=1)
    store.write(7, 1, torch.zeros(1, 2))
    store.write(8, 1, torch.zeros(1, 2))
    file = tmp_path / "0000007-000001.memory"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(RunError, match="client 7 remembers"):
        store.read(7)


def test_a_store_without_a_folder_does_not_pretend_to_go_back() -> None:
    store = ClientStore()
    store.write(0, 1, torch.zeros(1, 2))
    rounds = store.rounds
    store.write(0, 2, torch.ones(1, 2))
    with pytest.raises(RunError, match="without a folder"):
        store.restore(rounds)
    store.restore(store.rounds)
    assert torch.equal(store.read(0), torch.ones(1, 2))
    store.restore({})  # a new federation begins with it
    assert store.read(0) is None


def test_a_flipped_bit_in_a_memory_is_noticed(tmp_path: Path) -> None:
    store = ClientStore(tmp_path, limit=1)
    for number in (7, 8):
        store.write(number, 1, torch.zeros(1, 2))
    file = tmp_path / "0000007-000001.memory"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(RunError, match="client 7 remembers"):
        store.read(7)


def test_a_checkpoint_of_another_algorithm_is_refused() -> None:
    clients = least_squares(SIZES)
    kept: list[Checkpoint] = []
    train(FedAvg(), clients, 1, checkpoint=lambda c, _: kept.append(c))
    with pytest.raises(ConfigError, match="not made with scaffold"):
        train(Scaffold(), clients, 2, resume_from=kept[0])


@dataclass(frozen=True)
class Watched(Screening):
    """Screening that keeps what every update was multiplied by, round by round."""

    seen: list[list[float | None]] = field(default_factory=list)

    def factors(self, lengths: Sequence[float]) -> list[float | None]:
        self.seen.append(super().factors(lengths))
        return self.seen[-1]


@pytest.mark.parametrize(
    ("algorithm", "epochs"),
    [
        (Scaffold(), [1, 2, 4, 8]),
        (Scaffold(control="option-1"), [1, 2, 4, 8]),
        (FedDyn(alpha=2.0), [2, 4, 5, 8]),
    ],
)
def test_clipping_moves_no_fixed_point(algorithm, epochs) -> None:
    """What a client remembers is scaled with its update, or the sums over clients would drift."""
    clients = well_conditioned(SIZES)
    screening = Watched("clip", factor=2.0)
    reached = train(algorithm, clients, 80, screening=screening, local=full_batch(epochs=epochs))
    assert sum(min(factors) < 1 for factors in screening.seen[:30]) > 5  # long before the optimum
    torch.testing.assert_close(reached, optimum(clients, [1.0] * 4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("control", CONTROLS)
def test_dropout_gives_the_same_bits_for_any_number_of_workers(control) -> None:
    stream = torch.Generator().manual_seed(0)
    clients = [Client(torch.randn(12, 4, generator=stream), torch.arange(12) % 2) for _ in range(4)]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    vectors = [
        get_vector(
            federate(
                model,
                clients,
                algorithm=Scaffold(control=control),
                rounds=3,
                local=LocalTraining(batch_size=5, lr=0.1),
                workers=workers,
            ).model
        )
        for workers in (1, 1, 2)
    ]
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[0], vectors[2])


@dataclass(frozen=True)
class Forgetful(FedAvg):
    """Remembers its client's first weights, and afterwards has nothing to add."""

    name: ClassVar[str] = "forgetful"
    remembers: ClassVar[int] = 1

    def conclude(self, work, broadcast, memory):
        return (None, None) if memory.any() else (None, work.end.unsqueeze(0))


def test_a_memory_that_is_not_renewed_stays_as_it_is() -> None:
    """And is not what another client wrote into the same row."""
    clients = [parabola(1.0, float(k + 1)) for k in range(6)]
    store = ClientStore()
    seen: dict[int, Tensor] = {}

    def check(checkpoint: Checkpoint, _) -> None:
        for client in checkpoint.client_rounds:
            memory = store.read(client)
            assert memory is not None
            assert torch.equal(seen.setdefault(client, memory), memory)

    train(Forgetful(), clients, 20, cohort=2, client_store=store, checkpoint=check)
    assert len(seen) == 6


def test_a_proximal_step_that_overshoots_has_no_path_length() -> None:
    with pytest.raises(ConfigError, match="expected below 1"):
        train(FedNova(mu=4.0), least_squares(SIZES), 1, local=full_batch(lr=0.5))


def test_path_lengths_follow_the_closed_forms() -> None:
    """Wang et al. 2020, section 4; a linear schedule is the sum of its rates."""
    lr, rho, mu, steps = 0.05, 0.9, 0.7, 13
    plain = LocalTraining(lr=lr)
    momentum = LocalTraining(lr=lr, momentum=rho)
    assert path_length(plain, steps) == pytest.approx(steps, rel=1e-12)
    assert path_length(momentum, steps) == pytest.approx(
        (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho), rel=1e-12
    )
    assert path_length(plain, steps, pull=mu) == pytest.approx(
        (1 - (1 - lr * mu) ** steps) / (lr * mu), rel=1e-12
    )
    linear = LocalTraining(lr=lr, schedule="linear")
    assert path_length(linear, 4, planned=10) == pytest.approx(1 + 0.9 + 0.8 + 0.7, rel=1e-12)
    assert path_length(LocalTraining(optimizer="adam", lr=lr), steps) == pytest.approx(steps, 1e-4)
