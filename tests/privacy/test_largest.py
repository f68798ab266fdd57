"""Which account has spent most: the same as working out every one, and quicker."""

import math
import random

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant

from fedlens.errors import ConfigError
from fedlens.privacy import accounting, privacy_loss
from fedlens.privacy.accounting import epsilon_of, largest
from fedlens.privacy.releases import Release

DELTA = 1e-5


def by_hand(releases: list[Release]) -> float:
    """Return epsilon as dp-accounting gives it, by its own accountant and on the fine grid."""
    counter = PLDAccountant(value_discretization_interval=1e-4)
    for one in releases:
        event = GaussianDpEvent(one.noise_multiplier)
        event = PoissonSampledDpEvent(one.rate, event) if one.rate < 1 else event
        counter.compose(event, one.count)
    return float(counter.get_epsilon(DELTA))


def ours(releases: list[Release]) -> float:
    return epsilon_of(releases, DELTA)


def unlike(count: int, seed: int) -> dict[str, list[Release]]:
    """Accounts whose rates, noises and counts all differ, and whose epsilons lie close together."""
    stream = random.Random(seed)
    made = {}
    for number in range(count):
        rate = stream.choice([1.0, 0.05, 0.01])
        noise = {1.0: 40.0, 0.05: 4.0, 0.01: 1.5}[rate] * stream.uniform(0.98, 1.02)
        made[f"client {number}"] = [Release(noise, rate, stream.randint(90, 110)) for _ in range(2)]
    return made


@pytest.mark.parametrize("seed", range(2))
def test_it_is_the_largest_of_all(seed: int) -> None:
    accounts = unlike(6, seed)
    costs = {name: by_hand(releases) for name, releases in accounts.items()}
    name, most = largest(accounts, DELTA)
    assert name == max(costs, key=costs.__getitem__)
    assert most == epsilon_of(accounts[name], DELTA) == max(map(ours, accounts.values()))
    assert most == pytest.approx(costs[name], rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_the_bound_by_which_they_are_ranked_is_one(seed: int) -> None:
    """And close enough for most accounts never to be worked out."""
    stream = random.Random(seed)
    for rate in (1.0, 0.2, 0.02, 0.002):
        kinds = accounting.merged(
            Release(stream.uniform(0.7, 5.0), rate, stream.randint(1, 300))
            for _ in range(stream.randint(1, 3))
        )
        exact, bound = epsilon_of(kinds, DELTA), accounting._bounded(kinds, DELTA)
        assert exact * (1 - 1e-9) <= bound <= 1.001 * exact + 0.02


def test_accounts_that_are_alike_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = accounting.epsilon_of
    monkeypatch.setattr(
        accounting, "epsilon_of", lambda kind, delta: (asked.append(kind), original(kind, delta))[1]
    )
    accounts = {f"client {k}": [Release(5.0, 1.0, 3)] for k in range(50)}
    accounts |= {f"quiet {k}": [Release(9.0 + k / 100, 1.0, 3)] for k in range(50)}
    assert largest(accounts, DELTA)[0] == "client 0"
    assert len(asked) == 1


def test_nothing_spent_and_no_noise() -> None:
    assert largest({"a": [], "b": []}, DELTA) == ("a", 0.0)
    assert largest({"a": [], "b": [Release(9.0)]}, DELTA)[0] == "b"
    accounts = {"a": [Release(1.0)], "b": [Release(0.0)], "c": [Release(1e-4)]}
    assert largest(accounts, DELTA) == ("b", math.inf)
    with pytest.raises(ConfigError, match="delta"):
        largest(accounts, 0.0)


def test_releases_one_by_one_cost_what_they_cost_together() -> None:
    """Of falling noise each period's account is made from the one before."""
    kinds = [Release(8.0 - 0.5 * k, 1.0, k + 1) for k in range(8)]
    walk = [epsilon_of(kinds[: k + 1], DELTA) for k in range(8)]
    privacy_loss._composed.cache_clear()
    privacy_loss.epsilon_by.cache_clear()
    assert epsilon_of(kinds, DELTA) == pytest.approx(walk[-1], rel=1e-9)
    # Gaussians of one rate are one whose inverse squared noise is the sum of theirs
    precision = sum(one.count / one.noise_multiplier**2 for one in kinds)
    assert walk[-1] == pytest.approx(by_hand([Release(precision**-0.5)]), rel=1e-3)
    assert walk == sorted(walk)


@pytest.mark.parametrize("delta", [1e-12, 1e-13, 1e-14])
def test_where_the_bound_is_none_every_account_is_worked_out(delta: float) -> None:
    """Tails that are cut off weigh as much as such a delta, and turned the ranking round."""
    for noise in (1.25, 1.4, 2.393, 4.0):
        for more in (1 + 1e-7, 1 - 1e-7, 1 + 1e-5):
            accounts = {"a": [Release(noise, 0.1, 1)], "b": [Release(noise * more, 0.1, 1)]}
            costs = {name: epsilon_of(releases, delta) for name, releases in accounts.items()}
            assert largest(accounts, delta)[1] == max(costs.values())
