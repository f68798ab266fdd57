"""What a mechanism was calibrated for cannot be spent twice without a word."""

import math
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fedlens.errors import ConfigError
from fedlens.federated import Checkpoint, FedAvg, FederationResult, federate
from fedlens.federated.faults import Faults
from fedlens.federated.privacy import ClientPrivacy, ExamplePrivacy, Privacy
from fedlens.privacy.accounting import Budget, epsilon_of
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release
from fedlens.privacy.schedule import NoiseSchedule
from fedlens.training import LocalTraining
from problems import least_squares, line, squares

SIZES = [12, 12, 12, 18]
BATCH = 6
DELTA = 1e-5
LOCAL = LocalTraining(batch_size=BATCH, lr=0.05)


def of_example(size: int, rounds: int, sampling: str = "fixed", **more) -> Mechanism:
    """Shuffled batches, which are quicker to account for than Poisson samples."""
    steps = -(-size // BATCH)
    return Mechanism("example", size, BATCH, 1.0, 1.0, rounds, steps, sampling=sampling, **more)


@cache
def calibrated(mechanism: Mechanism, epsilon: float, epochs: int = 1) -> Mechanism:
    return mechanism.calibrated(epsilon, DELTA, epochs=epochs)


def of_clients(rounds: int, sampling: str = "fixed", **more) -> Mechanism:
    return Mechanism("client", len(SIZES), 2, 1.0, 1.0, rounds, sampling=sampling, **more)


def examples(rounds: int, epsilon: float = 3.0, *, epochs: int = 1, charge=None) -> ExamplePrivacy:
    made = (calibrated(of_example(size, rounds), epsilon, epochs) for size in SIZES)
    return ExamplePrivacy(tuple(made), charge)


def clients(rounds: int, epsilon: float = 3.0, *, charge=None, **more) -> ClientPrivacy:
    return ClientPrivacy(calibrated(of_clients(rounds, **more), epsilon), charge=charge)


def train(privacy: Privacy, rounds: int, **changes) -> FederationResult:
    arguments = {"algorithm": FedAvg(), "local": LOCAL, "loss": squares, "seed": 4, **changes}
    return federate(line(3), least_squares(SIZES), rounds=rounds, privacy=privacy, **arguments)


def refused(privacy: Privacy, rounds: int, words: str, **changes) -> None:
    done: list[Checkpoint] = []
    with pytest.raises(ConfigError, match=words) as caught:
        train(privacy, rounds, checkpoint=lambda c, _: done.append(c), **changes)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text, text
    assert not done


@pytest.mark.parametrize("make", [examples, clients])
def test_as_many_rounds_as_were_calibrated_cost_what_was_asked_for(make) -> None:
    privacy = make(3)
    assert len(train(privacy, 3).history) == 3
    assert 2.99 < privacy.epsilon(DELTA) <= 3.0


def test_what_is_told_is_what_was_released() -> None:
    """By the formula of the composition, not by the object's own account."""
    made = [of_example(size, 3, "poisson").with_noise(3.0 - size / 12) for size in SIZES]
    privacy = ExamplePrivacy(made)
    train(privacy, 2)
    costs = [
        epsilon_of([Release(3.0 - size / 12, BATCH / size, 2 * math.ceil(size / BATCH))], DELTA)
        for size in SIZES
    ]
    assert privacy.epsilon(DELTA) == pytest.approx(max(costs), rel=1e-9)
    assert ClientPrivacy(of_clients(3, "poisson").with_noise(2.0)).epsilon(DELTA) == 0.0
    drawn = ClientPrivacy(of_clients(3, "poisson").with_noise(2.0))
    train(drawn, 2)
    assert drawn.epsilon(DELTA) == pytest.approx(
        epsilon_of([Release(2.0, 0.5, 2)], DELTA), rel=1e-9
    )


@pytest.mark.parametrize("make", [examples, clients])
def test_more_rounds_than_were_calibrated_are_refused_before_the_first(make) -> None:
    refused(make(1), 2, "1 round")


def test_more_local_epochs_than_were_calibrated_are_refused() -> None:
    for epochs in (2, (1, 3), [1, 1, 1, 2]):
        refused(examples(2), 2, "client . epsilon", local=replace(LOCAL, epochs=epochs))
    enough = examples(2, epochs=2)
    train(enough, 2, local=replace(LOCAL, epochs=2))
    assert 2.99 < enough.epsilon(DELTA) <= 3.0


def test_fewer_epochs_leave_room_for_no_more_rounds_than_have_a_noise() -> None:
    refused(examples(2, epochs=3), 3, "2 rounds")
    refused(examples(2, charge=lambda _: True), 3, "2 rounds")
    refused(clients(2, charge=lambda _: True), 3, "2 rounds")


@pytest.mark.parametrize("make", [examples, clients])
def test_a_second_federation_spends_from_the_same_account(make) -> None:
    privacy = make(4)
    train(privacy, 3)
    refused(privacy, 2, "earlier")
    train(privacy, 1)
    assert 2.99 < privacy.epsilon(DELTA) <= 3.0
    refused(privacy, 1, "earlier")


@pytest.mark.parametrize("make", [examples, clients])
def test_what_lies_before_a_checkpoint_counts(make) -> None:
    kept: list[Checkpoint] = []
    train(make(4), 2, checkpoint=lambda c, _: kept.append(c))
    # in another process, where nothing is known but the checkpoint
    again = make(4)
    train(again, 4, resume_from=kept[-1])
    assert 2.99 < again.epsilon(DELTA) <= 3.0
    # what was not calibrated for before it leaves less for after it
    tight = make(4, epsilon=9.0)
    part = replace(tight, **_of(tight, lambda m: replace(m, budget=Budget(3.0, DELTA))))
    refused(part, 4, "epsilon", resume_from=kept[-1])


def _of(privacy: Privacy, change) -> dict[str, object]:
    if isinstance(privacy, ExamplePrivacy):
        return {"mechanisms": tuple(map(change, privacy.mechanisms))}
    return {"mechanism": change(privacy.mechanism)}


@pytest.mark.parametrize("make", [examples, clients])
def test_a_budget_holds_beside_a_charge_of_the_callers_own(make) -> None:
    """A charge that only looks on, and returns nothing, is no leave to spend more."""
    seen = []
    privacy = make(2, charge=lambda charges: seen.append(charges))
    train(privacy, 2)
    assert len(seen) == 2
    refused(privacy, 1, "earlier")


def test_repeated_rounds_end_the_federation_with_a_word() -> None:
    privacy = examples(6)
    faults = Faults(dropout=0.4)
    with pytest.warns(UserWarning, match="budget") as told:
        result = train(privacy, 6, cohort=4, faults=faults, minimum_cohort=3)
    assert sum(record.repeats for record in result.history) > 0
    assert 0 < len(result.history) < 6 and len(told) == 1
    assert privacy.epsilon(DELTA) <= 3.0


def test_noise_that_was_named_by_hand_is_good_for_its_plan_alone() -> None:
    made = tuple(of_example(size, 2) for size in SIZES)
    train(ExamplePrivacy(made), 2)
    refused(ExamplePrivacy(made), 2, "client 0", local=replace(LOCAL, epochs=2))
    # the cohort leaves out enough of the second epoch
    falling = NoiseSchedule("linear", 0.5)
    made = tuple(of_example(size, 2, schedule=falling) for size in SIZES)
    refused(ExamplePrivacy(made), 1, "client 0", local=replace(LOCAL, epochs=2))
    privacy = ClientPrivacy(of_clients(2))
    train(privacy, 2)
    refused(privacy, 1, "earlier")
    # with a charge, the account is the caller's
    train(ExamplePrivacy(made, lambda _: True), 2, local=replace(LOCAL, epochs=2))


def test_with_local_noise_each_client_has_its_own_account() -> None:
    made = calibrated(of_clients(3, placement="local"), 50.0)
    privacy = ClientPrivacy(made)
    train(privacy, 3, cohort=2)
    assert privacy.epsilon(DELTA) < 50.0
    refused(privacy, 3, "earlier", cohort=4)


def test_seeded_noise_guarantees_nothing_and_is_free_to_be_repeated() -> None:
    privacy = replace(examples(2), seeded=True)
    for _ in range(2):
        train(privacy, 2)
    refused(privacy, 2, "epsilon", local=replace(LOCAL, epochs=2))


def test_clients_may_share_one_mechanism() -> None:
    """Each has an account of its own all the same: an example lies at one client."""
    one = calibrated(of_example(12, 2), 3.0)
    privacy = ExamplePrivacy((one,) * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = federate(
            line(3), least_squares([12] * 3), algorithm=FedAvg(), rounds=2, local=LOCAL,
            loss=squares, privacy=privacy,
        )  # fmt: skip
    assert len(result.history) == 2 and 2.99 < privacy.epsilon(DELTA) <= 3.0


@pytest.mark.parametrize(
    "given",
    [3.0, "dp-sgd", {"epsilon": 3}, of_clients(2), [of_example(12, 2)], ExamplePrivacy],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_privacy_is_one_sentence(given) -> None:
    with pytest.raises(ConfigError, match="ExamplePrivacy") as caught:
        train(given, 2)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ExamplePrivacy(3.0), "mechanisms"),
        (lambda: ExamplePrivacy(of_example(12, 2)), "mechanisms"),
        (lambda: ExamplePrivacy((of_example(12, 2), 3.0)), "mechanisms"),
        (lambda: ExamplePrivacy((of_clients(2),)), "mechanisms"),
        (lambda: ExamplePrivacy((of_example(12, 2),), charge=3.0), "charge"),
        (lambda: ClientPrivacy(3.0), "mechanism"),
        (lambda: ClientPrivacy((of_clients(2),)), "mechanism"),
        (lambda: ClientPrivacy(of_example(12, 2)), "mechanism"),
        (lambda: ClientPrivacy(of_clients(2), 3.0), "adaptive"),
        (lambda: ClientPrivacy(of_clients(2), charge="all"), "charge"),
        (lambda: ClientPrivacy(of_clients(2), seed=1.5), "seed"),
    ],
)
def test_what_privacy_cannot_be_made_of_is_one_sentence(make, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make()
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text


def test_a_list_of_mechanisms_will_do() -> None:
    made = [of_example(size, 1) for size in SIZES]
    assert ExamplePrivacy(made).mechanisms == tuple(made)


def test_batches_that_the_mechanism_is_not_for_are_refused_before_anything_is_charged() -> None:
    privacy = examples(2)
    for local in (
        replace(LOCAL, batch_size=3),
        replace(LOCAL, batch_size=None),
        replace(LOCAL, precision="bfloat16"),
    ):
        refused(privacy, 2, "batch|precision", local=local)
    assert privacy.epsilon(DELTA) == 0.0
    train(privacy, 2)


@pytest.mark.parametrize("make", [examples, clients])
def test_a_federation_that_was_refused_leaves_no_account_behind(make) -> None:
    """Or what lies before a checkpoint would not be counted by the next."""
    kept: list[Checkpoint] = []
    train(make(4), 2, checkpoint=lambda c, _: kept.append(c))
    again = make(4)
    refused(again, 5, "4 rounds")
    train(again, 4, resume_from=kept[-1])
    assert 2.99 < again.epsilon(DELTA) <= 3.0
    refused(again, 1, "earlier")


def test_epochs_that_were_refused_leave_no_account_behind() -> None:
    kept: list[Checkpoint] = []
    train(examples(4), 2, checkpoint=lambda c, _: kept.append(c))
    again = examples(4)
    refused(again, 4, "epsilon", local=replace(LOCAL, epochs=2))
    train(again, 4, resume_from=kept[-1])
    assert 2.99 < again.epsilon(DELTA) <= 3.0


@pytest.mark.parametrize("make", [examples, clients])
def test_a_checkpoint_of_more_rounds_than_were_paid_for_here_counts_in_full(make) -> None:
    kept: list[Checkpoint] = []
    train(make(4), 3, checkpoint=lambda c, _: kept.append(c))
    used = make(4)
    train(used, 1)
    refused(used, 4, "earlier", resume_from=kept[-1])  # 1 + 3 + 1
    # its own federation, stopped and taken up again, counts once
    mine: list[Checkpoint] = []
    own = make(4)
    train(own, 2, checkpoint=lambda c, _: mine.append(c))
    train(own, 4, resume_from=mine[-1])
    assert 2.99 < own.epsilon(DELTA) <= 3.0


@pytest.mark.parametrize("no", [False, np.False_, 0])
def test_whatever_means_no_ends_the_federation(no) -> None:
    assert train(examples(3, charge=lambda _: no), 3).history == []
    assert len(train(examples(3, charge=lambda _: None), 3).history) == 3
    assert len(train(examples(3, charge=lambda _: np.True_), 3).history) == 3
