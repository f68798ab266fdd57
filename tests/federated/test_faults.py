"""Simulated faults, and what the server does about them, by hand and in closed form.

Most federations here are of parabolas trained for one step at a learning rate of 1, which jumps to
the client's own minimum: the next model is then the plain mean of the minima of those that count.
"""

import dataclasses
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedlens.data import Client
from fedlens.errors import ConfigError, FedlensError
from fedlens.federated import (
    Checkpoint,
    ClientStore,
    CoordinateMedian,
    Faults,
    FedAvg,
    FedDyn,
    FederationResult,
    FedNova,
    Krum,
    Progress,
    Scaffold,
    Screening,
    TrimmedMean,
    federate,
)
from fedlens.federated.cohort import Planner
from fedlens.federated.faults import poisoned_clients
from fedlens.models import get_vector
from fedlens.training import LocalTraining
from problems import line, parabola, squares

JUMP = LocalTraining(batch_size=None, lr=1.0)


def parabolas(*minima: float) -> list[Client]:
    return [parabola(1.0, minimum) for minimum in minima]


def run(clients: list[Client], *, rounds: int = 1, start: float = 0.0, **more) -> FederationResult:
    arguments = {"algorithm": FedAvg(), "local": JUMP, "loss": squares, **more}
    return federate(line(start=start), clients, rounds=rounds, **arguments)


def place(result: FederationResult) -> float:
    return float(get_vector(result.model))


def places(clients: list[Client], **more) -> tuple[list[float], FederationResult]:
    """The global weight after each round, the start included, and the result."""
    reached = [more.get("start", 0.0)]
    result = run(clients, checkpoint=lambda c, _: reached.append(float(c.state.parameters)), **more)
    return reached, result


def reasons(record) -> dict[int, str]:
    return {entry.client: entry.reason for entry in record.left_out}


def used(record) -> list[int]:
    return [client.client for client in record.clients]


def planner(faults: Faults, **changes) -> Planner:
    settings = {
        "sizes": [8] * 10,
        "cohort": None,
        "local": LocalTraining(epochs=5, batch_size=2),
        "seed": 3,
        "attackers": frozenset(),
    }
    return Planner(faults=faults, **{**settings, **changes})


def within_five_deviations(hits: int, draws: int, share: float) -> bool:
    return abs(hits - draws * share) < 5 * math.sqrt(draws * share * (1 - share))


# dropouts


def test_clients_drop_out_as_often_as_is_said_and_the_others_are_averaged() -> None:
    minima = [float(2**k) for k in range(8)]
    reached, result = places(parabolas(*minima), rounds=150, faults=Faults(dropout=0.3), seed=4)
    gone = 0
    for number, record in enumerate(result.history, 1):
        assert record.cohort == list(range(8))
        assert sorted([*used(record), *reasons(record)]) == record.cohort
        assert set(reasons(record).values()) <= {"it dropped out"}
        assert record.bytes_down == 8 * 8
        assert record.bytes_up == 8 * len(record.clients)
        gone += len(record.left_out)
        kept = [minima[k] for k in used(record)]
        expected = sum(kept) / len(kept) if kept else reached[number - 1]
        assert reached[number] == pytest.approx(expected, rel=1e-12)
    assert within_five_deviations(gone, 150 * 8, 0.3)


def test_every_client_drops_out_equally_often_and_anew_in_each_attempt() -> None:
    plan = planner(Faults(dropout=0.2)).plan
    lost = [[entry.client for entry in plan(r, a).lost] for r in range(1, 501) for a in (0, 1)]
    counts = np.bincount([client for row in lost for client in row], minlength=10)
    assert all(within_five_deviations(count, 1000, 0.2) for count in counts)
    # two attempts at a round agree no more often than chance has it: (0.8^2 + 0.2^2)^10
    same = sum(first == second for first, second in zip(lost[::2], lost[1::2], strict=True))
    assert within_five_deviations(same, 500, 0.68**10)


def test_a_round_in_which_all_drop_out_changes_nothing() -> None:
    result = run(parabolas(1.0), rounds=6, start=5.0, faults=Faults(dropout=0.999))
    assert place(result) == 5.0
    assert [reasons(record) for record in result.history] == [{0: "it dropped out"}] * 6
    assert result.history[0].train_loss is None
    assert sum(record.bytes_up for record in result.history) == 0


# stragglers


def test_late_clients_are_dropped_in_the_number_that_is_said() -> None:
    minima = [float(2**k) for k in range(10)]
    # five steps of 1/2 leave 1/32 of the way
    local = LocalTraining(epochs=5, batch_size=None, lr=0.5)
    reached, result = places(
        parabolas(*minima), rounds=40, local=local, faults=Faults(stragglers=0.3)
    )
    for number, record in enumerate(result.history, 1):
        assert list(reasons(record).values()) == ["it missed the deadline"] * 3
        assert [client.steps for client in record.clients] == [5] * 7
        assert record.bytes_up == 7 * 8
        mean = sum(minima[k] for k in used(record)) / 7
        assert reached[number] == pytest.approx(mean + (reached[number - 1] - mean) / 32)
    assert len({tuple(used(record)) for record in result.history}) > 20


def test_the_number_of_stragglers_is_rounded() -> None:
    for share, count in [(0.0, 0), (0.04, 0), (0.05, 1), (0.14, 1), (0.25, 3), (1.0, 10)]:
        # 20 steps: of none and all the whole number below is never all
        assert len(planner(Faults(stragglers=share)).plan(1, 0).lost) == count


def test_partial_work_is_uniform_and_none_at_all_is_missed() -> None:
    plan = planner(Faults(stragglers=0.5, late="partial")).plan
    rounds = [plan(number, 0) for number in range(1, 301)]
    assert all(task.planned == 20 for attempt in rounds for task in attempt.tasks)
    for attempt in rounds:
        assert {entry.reason for entry in attempt.lost} <= {"it missed the deadline"}
        assert sum(task.steps < 20 for task in attempt.tasks) + len(attempt.lost) == 5
    steps = [task.steps for attempt in rounds for task in attempt.tasks if task.steps < 20]
    # uniform on [0, 20), cut to whole steps; who has done none has nothing to send
    counts = np.bincount(steps, minlength=20)
    counts[0] = sum(len(attempt.lost) for attempt in rounds)
    for number in range(20):
        assert within_five_deviations(counts[number], 1500, 1 / 20)


def test_a_straggler_of_one_step_is_late_too() -> None:
    one_step = Planner(
        [5] * 10, None, LocalTraining(batch_size=8), 1, Faults(stragglers=0.4), frozenset()
    )
    assert len(one_step.plan(1, 0).lost) == 4


@pytest.mark.parametrize("algorithm", [FedAvg(), FedNova()], ids=lambda a: a.name)
def test_partial_work_counts_for_what_it_is(algorithm) -> None:
    """A client of minimum m that does s steps of lr goes to m + (1 - lr)^s (x - m).

    FedNova divides each way by its s steps and goes their mean number of steps.
    """
    minima, rate, whole = [3.0, -1.0, 10.0, 4.0, 0.5], 0.1, 12
    local = LocalTraining(epochs=whole, batch_size=None, lr=rate)
    reached, result = places(
        parabolas(*minima),
        rounds=6,
        algorithm=algorithm,
        local=local,
        faults=Faults(stragglers=0.6, late="partial"),
        seed=2,
    )
    for number, record in enumerate(result.history, 1):
        steps = np.array([client.steps for client in record.clients])
        assert sum(steps < whole) + len(record.left_out) == 3
        assert steps.min() >= 1
        x = reached[number - 1]
        ways = (1 - (1 - rate) ** steps) * (np.array([minima[k] for k in used(record)]) - x)
        expected = (
            ways.mean() if algorithm.name == "fedavg" else steps.mean() * (ways / steps).mean()
        )
        assert reached[number] == pytest.approx(x + expected, rel=1e-12)


def test_the_deadline_may_fall_in_the_middle_of_an_epoch() -> None:
    """Nine equal examples one by one: s steps are s steps, wherever an epoch ends."""
    one = parabola(1.0, 8.0)
    client = Client(one.inputs.expand(9, 1), one.targets.expand(9, 1))
    local = LocalTraining(epochs=3, batch_size=1, lr=0.05)
    for seed in range(8):
        result = run([client], local=local, faults=Faults(stragglers=1, late="partial"), seed=seed)
        steps = result.history[0].clients[0].steps
        assert 1 <= steps < 27
        assert place(result) == pytest.approx(8 * (1 - 0.95**steps), rel=1e-12)


def test_dropping_out_comes_before_being_late() -> None:
    plan = planner(Faults(dropout=0.5, stragglers=1.0)).plan
    lost = [entry.reason for number in range(1, 101) for entry in plan(number, 0).lost]
    assert len(lost) == 1000
    assert within_five_deviations(lost.count("it dropped out"), 1000, 0.5)
    assert set(lost) == {"it dropped out", "it missed the deadline"}


# plans


def test_a_plan_has_each_client_once_in_order() -> None:
    faults = Faults(dropout=0.3, stragglers=0.3, poisoned=0.5, scale=2.0)
    draw = planner(faults, cohort=6, attackers=frozenset({1, 4, 7})).plan
    for number in range(1, 51):
        plan = draw(number, 0)
        assert plan.cohort == sorted(set(plan.cohort))
        clients = [task.client for task in plan.tasks]
        assert clients == sorted(clients)
        assert sorted([*clients, *(entry.client for entry in plan.lost)]) == plan.cohort
        assert [task.slot for task in plan.tasks] == list(range(len(clients)))
        assert {task.client: task.stretch for task in plan.tasks} == {
            k: -2.0 if k in (1, 4, 7) else 1.0 for k in clients
        }


def test_a_plan_is_a_function_of_the_seed_the_round_and_the_attempt() -> None:
    faults = Faults(dropout=0.3, stragglers=0.3, late="partial")
    draw = planner(faults, cohort=6).plan
    later = [draw(number, 1) for number in range(20, 0, -1)][::-1]
    assert later == [planner(faults, cohort=6).plan(number, 1) for number in range(1, 21)]
    for other in (
        [draw(number, 0) for number in range(1, 21)],
        [draw(number + 20, 1) for number in range(1, 21)],
        [planner(faults, cohort=6, seed=4).plan(number, 1) for number in range(1, 21)],
    ):
        # 210 cohorts of six of ten, and what befalls them: chance gives at most one
        assert sum(a.cohort == b.cohort for a, b in zip(later, other, strict=True)) < 3


def test_without_faults_everybody_does_the_whole_work() -> None:
    plan = planner(Faults(), sizes=[8, 3, 5], local=LocalTraining(epochs=[1, 2, 4], batch_size=2))
    tasks = plan.plan(1, 0).tasks
    assert [task.steps for task in tasks] == [task.planned for task in tasks] == [4, 4, 12]


# rounds that are repeated


def test_a_round_below_the_minimum_is_repeated_with_a_new_cohort_and_all_is_counted() -> None:
    arrived: dict[int, int] = {}

    def count(progress: Progress) -> None:
        if progress.record is None:
            arrived[progress.round] = arrived.get(progress.round, 0) + 1

    minima = [float(2**k) for k in range(9)]
    faults = Faults(dropout=0.5)
    arguments = {"cohort": 4, "faults": faults, "minimum_cohort": 3, "seed": 1}
    reached, result = places(parabolas(*minima), rounds=30, progress=count, **arguments)
    plan = planner(faults, sizes=[1] * 9, cohort=4, local=JUMP, seed=1).plan
    for number, record in enumerate(result.history, 1):
        assert len(record.clients) >= 3
        assert reached[number] == pytest.approx(
            sum(minima[k] for k in used(record)) / len(used(record))
        )
        assert record.bytes_down == (1 + record.repeats) * 4 * 8
        assert record.bytes_up == arrived[number] * 8
        # it stopped at the first attempt that brought enough
        attempts = [len(plan(number, attempt).tasks) for attempt in range(record.repeats + 1)]
        assert attempts[-1] == len(record.clients)
        assert all(few < 3 for few in attempts[:-1])
        assert sum(attempts) == arrived[number]
    # three of four stay with probability 5/16: 2.2 repeats on average
    assert 1.2 < sum(record.repeats for record in result.history) / 30 < 3.2
    cohorts = [[plan(number, attempt).cohort for attempt in range(3)] for number in range(1, 31)]
    assert all(first != second for first, second, _ in cohorts[:5])


def test_updates_that_the_server_refuses_do_not_count_towards_the_minimum() -> None:
    """Of three clients one is always far off: cohorts of two that hold it have one too few."""
    clients = parabolas(1.0, 1.0, 90.0)
    screening = Screening("reject", factor=1.5)  # of 1 and 90 the median is 45.5, the limit 68
    result = run(clients, rounds=12, cohort=2, screening=screening, minimum_cohort=2, start=0.0)
    first = result.history[0]
    assert used(first) == [0, 1]
    for record in result.history:
        assert record.cohort == [0, 1]
        # refused or not, an update has been sent
        assert record.bytes_up == record.bytes_down == (1 + record.repeats) * 2 * 8
    assert sum(record.repeats for record in result.history) > 0


def test_too_few_updates_twenty_times_is_one_sentence() -> None:
    def poisonous(outputs: Tensor, targets: Tensor) -> Tensor:
        return squares(outputs, targets) * torch.where(targets[:, 0] > 90, torch.nan, 1.0)

    seen: list[Progress] = []
    with pytest.raises(FedlensError) as caught:
        run(
            parabolas(1.0, 99.0, 99.0),
            loss=poisonous,
            cohort=2,
            minimum_cohort=2,
            progress=seen.append,
        )
    message = str(caught.value)
    assert message.startswith("Round 1 got ")
    assert "20 attempts" in message
    assert "federation.minimum_cohort = 2" in message
    assert message.endswith(".")
    assert ". " not in message
    assert "\n" not in message
    assert len(seen) == 20 * 2  # both clients did their work each time


def test_a_round_in_which_nothing_is_random_is_not_tried_again() -> None:
    def poisonous(outputs: Tensor, targets: Tensor) -> Tensor:
        return squares(outputs, targets) * torch.where(targets[:, 0] > 90, torch.nan, 1.0)

    seen: list[Progress] = []
    with pytest.raises(FedlensError, match="last of 1 attempts"):
        run(parabolas(1.0, 99.0), loss=poisonous, minimum_cohort=2, progress=seen.append)
    assert len(seen) == 2


def test_the_rounds_before_a_hopeless_one_are_kept() -> None:
    """From 0 the one client jumps to 1, where its loss is no number any more."""

    def brittle(outputs: Tensor, targets: Tensor) -> Tensor:
        return squares(outputs, targets) * torch.where(outputs[:, 0] > 0.5, torch.nan, 1.0)

    kept: list[Checkpoint] = []
    with pytest.raises(FedlensError, match="Round 2 got 0 of the "):
        run(
            parabolas(1.0),
            rounds=3,
            loss=brittle,
            minimum_cohort=1,
            checkpoint=lambda c, _: kept.append(c),
        )
    assert [(c.round, float(c.state.parameters)) for c in kept] == [(1, 1.0)]


@pytest.mark.parametrize(("minimum", "cohort"), [(-1, None), (4, None), (3, 2)])
def test_impossible_minima_are_refused(minimum, cohort) -> None:
    with pytest.raises(ConfigError, match=rf"federation\.minimum_cohort is {minimum}"):
        run(parabolas(1.0, 2.0, 3.0), minimum_cohort=minimum, cohort=cohort)


# updates that are far off


def test_the_limit_is_so_many_medians() -> None:
    lengths = [1.0, 1.0, 1.0, 100.0]
    assert Screening().factors(lengths) == [1.0] * 4
    assert Screening("reject").factors(lengths) == [1.0, 1.0, 1.0, None]
    assert Screening("clip").factors(lengths) == [1.0, 1.0, 1.0, 0.03]
    assert Screening("clip", factor=10.0).factors(lengths) == [1.0, 1.0, 1.0, 0.1]
    # the median of 1, 2, 4, 9 is 3; what lies at the limit is not beyond it
    assert Screening("reject", factor=3.0).factors([9.0, 1.0, 4.0, 2.0]) == [1.0] * 4
    assert Screening("reject", factor=2.9).factors([9.0, 1.0, 4.0, 2.0]) == [None, 1.0, 1.0, 1.0]
    assert Screening("reject", factor=1.0).factors([2.0, 2.0, 2.0]) == [1.0] * 3
    assert Screening("reject").factors([]) == []


@pytest.mark.parametrize(
    ("far_off", "mean", "norms"),
    [
        ("keep", (1 - 1 + 1 + 100) / 4, [1, 1, 1, 100]),
        ("clip", (1 - 1 + 1 + 3) / 4, [1, 1, 1, 3]),
        ("reject", (1 - 1 + 1) / 3, [1, 1, 1]),
    ],
)
@pytest.mark.parametrize("start", [0.0, 10.0])
def test_an_update_that_is_far_off_is_clipped_or_rejected(far_off, mean, norms, start) -> None:
    clients = parabolas(start + 1, start - 1, start + 1, start + 100)
    result = run(clients, start=start, screening=Screening(far_off))
    assert place(result) == pytest.approx(start + mean, rel=1e-12)
    record = result.history[0]
    assert [client.update_norm for client in record.clients] == pytest.approx(norms)
    assert record.bytes_up == 4 * 8
    rejected = {3: "its update is far off"} if far_off == "reject" else {}
    assert reasons(record) == rejected


def test_an_update_that_is_not_finite_has_no_part_in_the_median() -> None:
    """Lengths 1, 1, 5 and nan: with the limit 3 the five is far off; were nan a length, not."""

    def poisonous(outputs: Tensor, targets: Tensor) -> Tensor:
        return squares(outputs, targets) * torch.where(targets[:, 0] > 90, torch.nan, 1.0)

    result = run(
        parabolas(1.0, 99.0, 5.0, 1.0, 99.0), loss=poisonous, screening=Screening("reject")
    )
    assert reasons(result.history[0]) == {
        1: "its update is not finite",
        2: "its update is far off",
        4: "its update is not finite",
    }
    assert place(result) == 1.0


def test_screening_looks_at_what_arrived() -> None:
    """A scaled update is as long as the attacker made it."""
    faults = Faults(poisoned=0.25, attack="scaled-update", scale=50.0)
    (attacker,) = faults.attackers(4, 0)
    result = run(parabolas(1.0, 1.0, 1.0, 1.0), faults=faults, screening=Screening("reject"))
    assert reasons(result.history[0]) == {attacker: "its update is far off"}
    assert place(result) == 1.0


# poisoned clients


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.01, 0), (0.2, 2), (0.34, 3), (0.9, 9)])
def test_so_many_clients_are_poisoned(share, count) -> None:
    chosen = Faults(poisoned=share).attackers(10, 5)
    assert len(chosen) == count
    assert chosen <= set(range(10))
    assert chosen == Faults(poisoned=share).attackers(10, 5)


def test_every_client_is_as_likely_to_be_poisoned() -> None:
    counts = np.zeros(10)
    for seed in range(600):
        counts[list(Faults(poisoned=0.3).attackers(10, seed))] += 1
    assert all(within_five_deviations(count, 600, 0.3) for count in counts)


def test_the_same_clients_attack_in_every_round() -> None:
    """Who attacked is read off the aggregate, which is different for every set of attackers."""
    minima = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    faults = Faults(poisoned=1 / 3, attack="sign-flip")
    reached, result = places(parabolas(*minima), rounds=6, faults=faults, seed=9)
    found = []
    for number in range(1, 7):
        x = reached[number - 1]
        matching = []
        for size in range(7):
            for group in combinations(range(6), size):
                signs = [-1 if k in group else 1 for k in range(6)]
                sent = [x + sign * (m - x) for sign, m in zip(signs, minima, strict=True)]
                if math.isclose(reached[number], sum(sent) / 6, rel_tol=1e-9):
                    matching.append(set(group))
        assert len(matching) == 1
        found += matching
    assert len(found[0]) == 2
    assert found == [found[0]] * 6
    assert found[0] == faults.attackers(6, 9)
    # nothing tells an attacker from the others in the record
    assert all(used(record) == list(range(6)) for record in result.history)


@pytest.mark.parametrize(
    ("attack", "scale", "stretch"),
    [
        ("sign-flip", 1.0, -1.0),
        ("sign-flip", 2.5, -2.5),
        ("scaled-update", 10.0, 10.0),
        ("scaled-update", 0.5, 0.5),
    ],
)
def test_an_attacker_sends_its_update_stretched(attack, scale, stretch) -> None:
    """From x = 2 a step of 1/2 goes (m - 2) / 2: ways 2, -1, 3, 0.5 for m = 6, 0, 8, 3."""
    faults = Faults(poisoned=0.5, attack=attack, scale=scale)
    attackers = faults.attackers(4, 1)
    assert len(attackers) == 2
    ways = [2.0, -1.0, 3.0, 0.5]
    sent = [way * (stretch if k in attackers else 1) for k, way in enumerate(ways)]
    result = run(
        parabolas(6.0, 0.0, 8.0, 3.0),
        start=2.0,
        local=LocalTraining(batch_size=None, lr=0.5),
        faults=faults,
        seed=1,
    )
    assert place(result) == pytest.approx(2 + sum(sent) / 4, rel=1e-12)
    norms = [client.update_norm for client in result.history[0].clients]
    assert norms == pytest.approx([abs(way) for way in sent])


def test_a_label_flip_turns_the_classes_round_for_the_attackers_only() -> None:
    inputs, targets = torch.rand(12, 2), torch.tensor([0, 1, 2, 3] * 3)
    before = targets.clone()
    clients = [Client(inputs, targets, rows) for rows in torch.arange(12).split(3)]
    poisoned = poisoned_clients(
        clients, frozenset({1, 3}), Faults(poisoned=0.5, attack="label-flip")
    )
    assert poisoned[0] is clients[0]
    assert poisoned[2] is clients[2]
    for number in (1, 3):
        expected = [3 - int(label) for label in clients[number].all_targets()]
        assert poisoned[number].all_targets().tolist() == expected
        assert poisoned[number].inputs is inputs
        assert poisoned[number].indices is clients[number].indices
    assert poisoned[1].targets is poisoned[3].targets  # one copy for all who share one tensor
    assert torch.equal(targets, before)
    assert all(client.targets is targets for client in clients)


def test_classes_are_counted_over_all_clients() -> None:
    """Of four classes 0 becomes 3 and 1 becomes 2, whatever an attacker itself holds."""
    clients = [Client(torch.rand(2, 1), torch.tensor([c, c])) for c in (0, 1, 3)]
    faults = Faults(poisoned=0.6, attack="label-flip")
    flipped = poisoned_clients(clients, frozenset({0, 1}), faults)
    assert [client.targets.tolist() for client in flipped] == [[3, 3], [2, 2], [3, 3]]


def test_a_label_flip_makes_every_label_its_opposite() -> None:
    rows = torch.tensor([[0, 1, 1], [0, 0, 0]], dtype=torch.uint8)
    clients = [Client(torch.rand(2, 4), rows), Client(torch.rand(2, 4), rows)]
    flipped = poisoned_clients(clients, frozenset({0}), Faults(poisoned=0.5, attack="label-flip"))
    assert flipped[0].targets.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert flipped[0].targets.dtype == torch.uint8
    assert flipped[1].targets is rows
    assert rows.tolist() == [[0, 1, 1], [0, 0, 0]]


def test_other_attacks_leave_the_labels_alone() -> None:
    clients = [Client(torch.rand(4, 2), torch.arange(4))] * 2
    for attack in ("sign-flip", "scaled-update"):
        faults = Faults(poisoned=0.5, attack=attack)
        assert poisoned_clients(clients, frozenset({0}), faults) == clients


def test_labels_that_are_no_classes_cannot_be_flipped() -> None:
    with pytest.raises(ConfigError, match=r"faults\.attack is 'label-flip'"):
        run(parabolas(1.0, 2.0), faults=Faults(poisoned=0.5, attack="label-flip"))


def test_a_label_flip_by_hand() -> None:
    """Cross-entropy at zero weights: a step of 1 on input 1 and class c adds e_c - 1/3.

    Four clients hold classes 0, 1, 2, 2; the attackers train on 2, 1, 0, 0.
    """
    inputs, targets = torch.ones(4, 1).double(), torch.tensor([0, 1, 2, 2])
    clients = [Client(inputs, targets, torch.tensor([k])) for k in range(4)]
    faults = Faults(poisoned=0.5, attack="label-flip", scale=7.0)  # the scale is of other attacks
    seen = set()
    for seed in range(6):
        model = nn.Linear(1, 3, bias=False).double()
        nn.init.zeros_(model.weight)
        result = federate(
            model, clients, algorithm=FedAvg(), rounds=1, local=JUMP, faults=faults, seed=seed
        )
        attackers = faults.attackers(4, seed)
        seen.add(attackers)
        labels = [2 - c if k in attackers else c for k, c in enumerate([0, 1, 2, 2])]
        shares = torch.bincount(torch.tensor(labels), minlength=3).double() / 4
        torch.testing.assert_close(get_vector(result.model), shares - 1 / 3, rtol=0, atol=1e-12)
    assert len(seen) > 2
    assert targets.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    "rule",
    [CoordinateMedian(), TrimmedMean(0.2), Krum(0.2), Krum(0.2, keep=None)],
    ids=["median", "trimmed-mean", "krum", "multi-krum"],
)
def test_a_robust_rule_withstands_a_sign_flipping_fifth(rule) -> None:
    """Two of ten send -5 times their way: the mean goes (8 - 2 * 5) / 10 of it, backwards."""
    stream = torch.Generator().manual_seed(0)
    truth = torch.tensor([2.0, -3.0, 1.0], dtype=torch.float64)
    clients = []
    for _ in range(10):
        inputs = torch.randn(20, 3, generator=stream, dtype=torch.float64)
        noise = 0.05 * torch.randn(20, generator=stream, dtype=torch.float64)
        clients.append(Client(inputs, (inputs @ truth + noise).unsqueeze(1)))
    local = LocalTraining(epochs=3, batch_size=None, lr=0.1)

    def distance(algorithm: FedAvg, faults: Faults | None = None) -> float:
        arguments = {"rounds": 25, "local": local, "loss": squares, "seed": 2}
        result = federate(line(3), clients, algorithm=algorithm, faults=faults, **arguments)
        return float((get_vector(result.model) - truth).norm())

    attack = Faults(poisoned=0.2, attack="sign-flip", scale=5.0)
    begin = float(truth.norm())
    assert distance(FedAvg()) < 0.05
    assert distance(FedAvg(), attack) > begin
    assert distance(FedAvg(aggregation=rule), attack) < 0.1


# the same bits


def mixed_clients() -> list[Client]:
    stream = torch.Generator().manual_seed(5)
    inputs = torch.randn(90, 6, generator=stream)
    targets = torch.randint(0, 4, (90,), generator=stream)
    cuts = torch.arange(90).split([5, 20, 12, 3, 17, 9, 14, 10])
    return [Client(inputs, targets, rows) for rows in cuts]


def small_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 4))


def story(result: FederationResult) -> list[dict]:
    """The records without what a clock says."""
    records = [record.to_json() for record in result.history]
    for record in records:
        del record["seconds"], record["evaluation_seconds"]
        for client in record["clients"]:
            del client["seconds"]
    return records


@pytest.mark.parametrize("algorithm", [FedAvg(), Scaffold()], ids=lambda a: a.name)
@pytest.mark.parametrize(
    ("faults", "screening"),
    [
        (
            Faults(dropout=0.3, stragglers=0.3, late="partial", poisoned=0.3, scale=4.0),
            Screening("clip", factor=1.5),
        ),
        (
            Faults(dropout=0.2, stragglers=0.2, poisoned=0.3, attack="label-flip"),
            Screening("reject", factor=1.5),
        ),
    ],
    ids=["partial, sign-flip, clip", "drop, label-flip, reject"],
)
def test_faults_are_the_same_for_any_workers_and_after_resuming(
    algorithm, faults, screening, tmp_path: Path
) -> None:
    arguments = {
        "algorithm": algorithm,
        "rounds": 5,
        "local": LocalTraining(epochs=(1, 3), batch_size=4, lr=0.1, momentum=0.5),
        "cohort": 6,
        "seed": 11,
        "faults": faults,
        "screening": screening,
        "minimum_cohort": 4,
    }
    kept: list[Checkpoint] = []
    whole = federate(
        small_network(),
        mixed_clients(),
        **arguments,
        client_store=ClientStore(tmp_path / "clients"),
        checkpoint=lambda c, _: kept.append(c),
    )
    # there is something to agree on
    assert sum(record.repeats for record in whole.history) > 0
    assert any(record.left_out for record in whole.history)
    pool = federate(small_network(), mixed_clients(), **arguments, workers=3)
    assert torch.equal(get_vector(whole.model), get_vector(pool.model))
    assert story(whole) == story(pool)
    resumed = federate(
        small_network(),
        mixed_clients(),
        **arguments,
        workers=3,
        resume_from=kept[1],
        client_store=ClientStore(tmp_path / "clients"),
    )
    assert torch.equal(get_vector(whole.model), get_vector(resumed.model))
    assert story(whole)[2:] == story(resumed)
    plain = federate(small_network(), mixed_clients(), **{**arguments, "faults": None})
    assert not torch.equal(get_vector(whole.model), get_vector(plain.model))


# what clients remember


def control_gap(store: ClientStore, checkpoint: Checkpoint, clients: int) -> float:
    """How far the server's control is from the mean of what the clients remember."""
    memories = [store.read(client) for client in range(clients)]
    total = sum(memory[0] for memory in memories if memory is not None)
    return float((total / clients - checkpoint.state.memory["control"]).abs().max())


def test_a_client_whose_update_was_rejected_keeps_its_old_memory(tmp_path: Path) -> None:
    """Curvatures 1, 1, 1, 50 and minima 1, 2, 3, 2; lr 0.1, one step a round.

    Round 1 from x = 0: the gradients -1, -2, -3, -100 become the memories, c = -26.5, x = 2.65.
    In round 2 each goes -0.1 (g_i(x) - c_i + c) = -0.1 (curvature x + c): 2.385 three times and
    -10.6, which is more than three medians. Without it x = 2.65 + 2.385.
    """
    clients = [*parabolas(1.0, 2.0, 3.0), parabola(50.0, 2.0)]
    arguments = {"algorithm": Scaffold(), "local": LocalTraining(batch_size=None, lr=0.1)}
    kept: list[Checkpoint] = []
    run(
        clients,
        **arguments,
        client_store=ClientStore(tmp_path),
        checkpoint=lambda c, _: kept.append(c),
    )
    store = ClientStore(tmp_path)
    result = run(
        clients,
        rounds=2,
        **arguments,
        screening=Screening("reject"),
        resume_from=kept[0],
        client_store=store,
        checkpoint=lambda c, _: kept.append(c),
    )
    assert reasons(result.history[0]) == {3: "its update is far off"}
    assert place(result) == pytest.approx(2.65 + 2.385)
    assert store.rounds == kept[1].client_rounds == {0: 2, 1: 2, 2: 2, 3: 1}
    assert [float(store.read(k)) for k in range(4)] == pytest.approx([1.65, 0.65, -0.35, -100.0])
    assert float(kept[1].state.memory["control"]) == pytest.approx((1.65 + 0.65 - 0.35 - 100) / 4)


def test_a_client_that_was_never_used_remembers_nothing() -> None:
    store = ClientStore()
    clients = [*parabolas(1.0, 2.0, 3.0), parabola(50.0, 2.0)]
    local = LocalTraining(batch_size=None, lr=0.1)
    screening = Screening("reject")
    run(clients, algorithm=Scaffold(), local=local, screening=screening, client_store=store)
    assert store.rounds == {0: 1, 1: 1, 2: 1}  # lengths 0.1, 0.2, 0.3, 10
    assert store.read(3) is None


@pytest.mark.parametrize(
    "more",
    [
        {"faults": Faults(dropout=0.4)},
        {"faults": Faults(dropout=0.3, stragglers=0.4), "minimum_cohort": 2},
        {"faults": Faults(dropout=0.3, stragglers=0.4, late="partial"), "cohort": 3},
        {"faults": Faults(dropout=0.3), "screening": Screening("reject", 1.2), "cohort": 4},
        {"faults": Faults(dropout=0.3), "screening": Screening("clip", 1.2), "cohort": 4},
    ],
    ids=["dropouts", "late and repeated", "partial", "rejected", "clipped"],
)
def test_the_servers_control_stays_the_mean_of_all_memories(more) -> None:
    store = ClientStore()
    clients = [parabola(0.5 + 0.3 * k, float(k * k)) for k in range(6)]
    gaps: list[float] = []
    left_out = repeats = 0
    seen: dict[int, int] = {}
    local = LocalTraining(epochs=[1, 5, 3, 7, 2, 4], batch_size=None, lr=0.1)

    def check(checkpoint: Checkpoint, record) -> None:
        nonlocal left_out, repeats
        gaps.append(control_gap(store, checkpoint, 6))
        seen.update(dict.fromkeys(used(record), record.round))
        assert store.rounds == checkpoint.client_rounds == seen
        left_out += len(record.left_out)
        repeats += record.repeats

    run(
        clients,
        rounds=25,
        algorithm=Scaffold(),
        local=local,
        seed=7,
        client_store=store,
        checkpoint=check,
        **more,
    )
    assert max(gaps) < 1e-12
    assert left_out > 10
    assert repeats > 0 or "minimum_cohort" not in more


@pytest.mark.parametrize("algorithm", [Scaffold(), FedDyn(alpha=1.0)], ids=lambda a: a.name)
def test_a_clipped_round_does_not_move_the_fixed_point(algorithm, tmp_path: Path) -> None:
    """A difference between the server's sum and the memories would stay, and bias all rounds."""
    clients = [*parabolas(1.0, 2.0, 3.0), parabola(5.0, 20.0)]
    local = LocalTraining(epochs=3, batch_size=None, lr=0.05)
    arguments = {"algorithm": algorithm, "local": local}
    kept: list[Checkpoint] = []
    first = run(
        clients,
        **arguments,
        screening=Screening("clip"),
        client_store=ClientStore(tmp_path),
        checkpoint=lambda c, _: kept.append(c),
    )
    lengths = [client.update_norm for client in first.history[0].clients]
    assert lengths[3] == pytest.approx(3 * (lengths[1] + lengths[2]) / 2)  # it was clipped
    store = ClientStore(tmp_path)
    result = run(clients, rounds=300, **arguments, resume_from=kept[0], client_store=store)
    assert place(result) == pytest.approx((1 + 2 + 3 + 5 * 20) / 8, abs=1e-9)


# settings


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("dropout", [-0.1, 1.0, 2.0, math.nan]),
        ("stragglers", [-0.1, 1.1, math.nan, math.inf]),
        ("poisoned", [-0.1, 1.0, math.nan]),
        ("late", ["wait", ""]),
        ("attack", ["bribe", "label_flip"]),
        ("scale", [0.0, -1.0, math.nan, math.inf]),
    ],
)
def test_impossible_faults_are_refused(key, values) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=rf"faults\.{key} is '?{value}'?, expected"):
            Faults(**{key: value})


@pytest.mark.parametrize(
    ("field", "key", "values"),
    [
        ("far_off", "far_off", ["drop", ""]),
        ("factor", "far_off_factor", [0.9, 0.0, -3.0, math.nan, math.inf]),
    ],
)
def test_impossible_screenings_are_refused(field, key, values) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=rf"federation\.{key} is '?{value}'?, expected"):
            Screening(**{field: value})


def test_the_ends_of_the_ranges_are_allowed() -> None:
    for faults in (Faults(0.0, 1.0), Faults(0.999, 0.0, poisoned=0.999), Faults(scale=1e-9)):
        assert dataclasses.replace(faults) == faults
    assert Screening("clip", factor=1.0).factors([1.0, 2.0, 4.0]) == [1.0, 1.0, 0.5]


def test_bool_label_rows_are_flipped() -> None:
    rows = torch.tensor([[True, False], [True, True]])
    client = Client(torch.rand(2, 1), rows)
    faults = Faults(poisoned=0.5, attack="label-flip")
    flipped = poisoned_clients([client], frozenset({0}), faults)
    assert flipped[0].targets.tolist() == [[False, True], [False, False]]


def test_where_most_stand_still_the_others_are_clipped_to_nothing() -> None:
    result = run(parabolas(0.0, 0.0, 5.0), screening=Screening("clip"), start=0.0)
    assert result.history[0].left_out == []
