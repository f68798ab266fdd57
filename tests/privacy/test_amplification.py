"""The amplification table, against releases composed by hand."""

import math

import pytest

from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.amplification import Setting, amplification
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release
from fedlens.privacy.schedule import NoiseSchedule

DELTA = 1e-5


def example_level(**changes) -> Mechanism:
    settings = {
        "unit": "example",
        "population": 1000,
        "expected": 100,
        "clip_norm": 1.0,
        "noise_multiplier": 1.5,
        "periods": 4,
        "steps": 10,
        **changes,
    }
    return Mechanism(**settings)


def client_level(**changes) -> Mechanism:
    settings = {
        "unit": "client",
        "population": 40,
        "expected": 10,
        "clip_norm": 1.0,
        "noise_multiplier": 2.0,
        "periods": 6,
        **changes,
    }
    return Mechanism(**settings)


def table(mechanism: Mechanism, *, federated: bool = True) -> dict[str, Setting]:
    rows = amplification(mechanism, mechanism.plan(), DELTA, federated=federated)
    assert len({row.what for row in rows}) == len(rows)
    assert all(row.assumed.endswith(".") and row.against.endswith(".") for row in rows)
    spent = [row for row in rows if row.spent]
    assert len(spent) == 1
    assert spent[0].epsilon == epsilon_of(mechanism.plan(), DELTA)
    return {row.what: row for row in rows}


def cost(*releases: Release) -> float:
    return epsilon_of(releases, DELTA)


def test_batch_sampling_beside_none_and_beside_shuffled_batches() -> None:
    rows = table(example_level(), federated=False)
    assert list(rows) == ["No amplification", "Shuffled batches", "Batch sampling"]
    assert rows["No amplification"].epsilon == pytest.approx(cost(Release(1.5, 1.0, 40)), rel=1e-4)
    assert rows["Shuffled batches"].epsilon == pytest.approx(cost(Release(1.5, 1.0, 4)), rel=1e-4)
    assert rows["Batch sampling"].epsilon == cost(Release(1.5, 0.1, 40))
    assert rows["Batch sampling"].spent


def test_one_gaussian_of_known_epsilon() -> None:
    # four steps at twice the noise are one at 1, whose epsilon is 4.377178
    rows = table(example_level(noise_multiplier=2.0, periods=2, steps=2, expected=500))
    assert rows["No amplification"].epsilon == pytest.approx(4.377178, rel=1e-3)


def test_falling_noise_is_composed_period_by_period() -> None:
    mechanism = example_level(schedule=NoiseSchedule("linear", 0.5), periods=3)
    rows = table(mechanism, federated=False)
    # linear from 1 to 1/2 over three epochs: 1.5, 1.125 and 0.75
    by_hand = [Release(noise, 1.0, 10) for noise in (1.5, 1.125, 0.75)]
    assert rows["No amplification"].epsilon == pytest.approx(cost(*by_hand), rel=1e-4)
    once = [Release(noise, 1.0, 1) for noise in (1.5, 1.125, 0.75)]
    assert rows["Shuffled batches"].epsilon == pytest.approx(cost(*once), rel=1e-4)


def test_an_epoch_that_was_cut_short_is_not_compared_with_shuffled_epochs() -> None:
    rows = amplification(example_level(), [Release(1.5, 0.1, 25)], DELTA, federated=False)
    assert [row.what for row in rows] == ["No amplification", "Batch sampling"]


def test_of_shuffled_batches_the_other_way_round() -> None:
    rows = table(example_level(sampling="fixed"), federated=False)
    assert list(rows) == ["Shuffled batches, not amplified", "Poisson batches instead"]
    assert rows["Shuffled batches, not amplified"].epsilon == cost(Release(1.5, 1.0, 4))
    assert rows["Poisson batches instead"].epsilon == cost(Release(1.5, 0.1, 40))


@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
def test_without_sampling_there_is_nothing_to_compare(sampling: str) -> None:
    rows = table(example_level(expected=1000, steps=1, sampling=sampling), federated=False)
    assert list(rows) == ["No sampling"]


def test_in_a_federation_client_sampling_is_not_claimed_for_examples() -> None:
    rows = table(example_level())
    assert rows["Client sampling on top"].epsilon is None
    assert "not a valid rate" in rows["Client sampling on top"].assumed
    assert rows["Secure aggregation on top"].epsilon is None
    assert "stays the same" in rows["Secure aggregation on top"].assumed


def test_clients_sampled_in_secret_are_amplified_but_not_against_who_sees_them() -> None:
    rows = table(client_level())
    assert rows["Client sampling"].epsilon == cost(Release(2.0, 0.25, 6))
    assert rows["Client sampling"].spent
    for seen in ("No amplification", "Secure aggregation, noise in shares"):
        assert rows[seen].epsilon == pytest.approx(cost(Release(2.0, 1.0, 6)), rel=1e-4)
    assert rows["Batch sampling"].epsilon is None
    assert rows["Secure aggregation alone"].epsilon is None


def test_a_cohort_of_fixed_size_is_not_amplified() -> None:
    rows = table(client_level(sampling="fixed"))
    assert rows["No amplification"].spent
    assert rows["No amplification"].epsilon == cost(Release(2.0, 1.0, 6))
    assert rows["Poisson cohorts instead"].epsilon == cost(Release(2.0, 0.25, 6))


def test_of_all_clients_in_every_round_there_is_no_sampling() -> None:
    rows = table(client_level(expected=40))
    assert "Client sampling" not in rows and rows["No amplification"].spent


def test_shares_of_noise_leave_out_the_server_that_would_add_it() -> None:
    rows = table(client_level(placement="distributed", least=8))
    assert "Secure aggregation alone" not in rows
    assert rows["Secure aggregation, noise in shares"].epsilon == pytest.approx(
        cost(Release(2.0, 1.0, 6)), rel=1e-4
    )


def test_local_noise_adds_up_only_inside_a_sum() -> None:
    rows = table(client_level(placement="local", sampling="fixed", expected=16))
    # seen alone 2 over the two norms that two updates are apart at most; in a sum of 16 four times
    assert rows["No amplification"].epsilon == cost(Release(1.0, 1.0, 6))
    assert rows["Secure aggregation on top"].epsilon == pytest.approx(
        cost(Release(4.0, 1.0, 6)), rel=1e-4
    )
    assert rows["Client sampling"].epsilon is None


def test_without_noise_nothing_is_guaranteed_and_without_releases_nothing_is_spent() -> None:
    rows = table(example_level(noise_multiplier=0.0))
    assert rows["No amplification"].epsilon == math.inf == rows["Batch sampling"].epsilon
    for mechanism in (example_level(), client_level(), client_level(placement="local")):
        unspent = amplification(mechanism, [], DELTA, federated=True)
        assert {row.epsilon for row in unspent} <= {0.0, None}
