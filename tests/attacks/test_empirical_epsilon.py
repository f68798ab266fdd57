"""Bounds on epsilon against closed forms, hand-worked values and simulated coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from fedlens.attacks.empirical_epsilon import (
    Counts,
    audited_epsilon,
    clopper_pearson,
    count_guesses,
    epsilon_bound,
    gaussian_epsilon,
    held_out_counts,
    mu_bound,
    p_value,
)
from fedlens.errors import ConfigError
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.releases import Release

REPETITIONS = 200
# of 200 bounds at 95 %, more than 19 fail by chance in 1 case of 200
MOST_FAILURES = int(stats.binom(REPETITIONS, 0.05).ppf(0.995))


def scores(
    mu: float, count: int, seed: int, inserted: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(seed)
    there = stream.random(count) < inserted
    return stream.normal(size=count) + mu * there, stream.normal(size=count)


# --- Clopper-Pearson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (370, 500), (0, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_the_interval_is_that_of_scipy(k: int, n: int, confidence: float) -> None:
    theirs = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    assert clopper_pearson(k, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_ends_of_the_interval_are_those_that_define_it() -> None:
    low, high = clopper_pearson(37, 100, 0.95)
    assert stats.binom(100, low).sf(36) == pytest.approx(0.025)
    assert stats.binom(100, high).cdf(37) == pytest.approx(0.025)
    assert clopper_pearson(0, 20)[1] == pytest.approx(1 - 0.025 ** (1 / 20))


# --- without assumptions


def test_epsilon_by_hand() -> None:
    counts = Counts(480, 500, 10, 500)
    least, most = clopper_pearson(480, 500)[0], clopper_pearson(10, 500)[1]
    assert counts.rates() == (least, most)
    assert epsilon_bound(counts, 1e-3) == pytest.approx(
        max(math.log((least - 1e-3) / most), math.log((1 - most - 1e-3) / (1 - least)))
    )
    # mirrored, it is the other inequality that binds
    mirrored = Counts(490, 500, 20, 500)
    assert epsilon_bound(mirrored, 1e-3) == pytest.approx(epsilon_bound(counts, 1e-3))


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_perfect_guesses_give_the_largest_value_for_their_number(n: int) -> None:
    tail = 0.025 ** (1 / n)
    perfect = Counts(n, n, 0, n)
    assert epsilon_bound(perfect, 1e-5) == pytest.approx(math.log((tail - 1e-5) / (1 - tail)))
    values = [epsilon_bound(Counts(t, n, f, n), 1e-5) for t in (n, n - 1) for f in (0, 1)]
    assert values[0] == max(values)
    assert mu_bound(perfect) == max(
        mu_bound(Counts(t, n, f, n)) for t in (n, n - 1) for f in (0, 1)
    )
    # a worst rate a has (1 - a)^n Phi(Phi^-1(a) + mu)^n = 0.05: by symmetry Phi(mu / 2)^2n
    assert mu_bound(perfect) == pytest.approx(2 * stats.norm.ppf(0.05 ** (1 / (2 * n))), rel=0.02)
    assert mu_bound(perfect) <= 2 * stats.norm.ppf(0.05 ** (1 / (2 * n)))


def test_randomised_response_is_covered_and_nearly_met() -> None:
    """The truth with probability e^2 / (1 + e^2): epsilon is 2, at delta next to 0."""
    truth, stream = math.exp(2) / (1 + math.exp(2)), np.random.default_rng(5)
    found = [
        epsilon_bound(
            Counts(
                int(stream.binomial(5000, truth)), 5000, int(stream.binomial(5000, 1 - truth)), 5000
            ),
            1e-9,
        )
        for _ in range(REPETITIONS)
    ]
    assert sum(value > 2 for value in found) <= MOST_FAILURES
    assert np.median(found) > 1.85


# --- Gaussian mechanisms


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.2, 3.0])
@pytest.mark.parametrize("inserted", [1.0, 0.4])
def test_the_bound_on_mu_holds_as_often_as_it_says(mu: float, inserted: float) -> None:
    """The bound exceeds mu just when the p-value of mu is at most 5 %."""
    failures = 0
    for seed in range(REPETITIONS):
        counts = count_guesses(*scores(mu, 200, seed, inserted), threshold=mu / 2)
        failures += p_value(counts, mu, 0.05, inserted) <= 0.05
    assert failures <= MOST_FAILURES


def test_it_holds_with_a_threshold_from_the_other_half() -> None:
    failures = sum(
        p_value(held_out_counts(*scores(1.0, 200, seed)), 1.0) <= 0.05
        for seed in range(REPETITIONS)
    )
    assert failures <= MOST_FAILURES


def test_a_threshold_chosen_on_what_is_counted_would_fail_too_often() -> None:
    """Why one half is held out: the best of all thresholds finds a loss where there is none."""
    failures = 0
    for seed in range(60):
        there, gone = scores(0.0, 100, seed)
        best = max(there, key=lambda t: (there >= t).mean() - (gone >= t).mean())
        failures += p_value(count_guesses(there, gone, best), 0.0) <= 0.05
    assert failures > 60 * 0.15


def test_the_bound_is_where_the_p_value_meets_the_error() -> None:
    counts = count_guesses(*scores(1.5, 500, 3), threshold=0.75)
    mu = mu_bound(counts)
    assert p_value(counts, mu) <= 0.05 < p_value(counts, mu * 1.001)
    # the p-value by simulation, at the rate that is worst in the middle: a = Phi(-mu / 2)
    stream, rate = np.random.default_rng(1), stats.norm.cdf(-mu / 2)
    gaps = stream.binomial(500, 1 - rate, 200_000) - stream.binomial(500, rate, 200_000)
    seen = counts.true_positives - counts.false_positives
    assert (gaps >= seen).mean() == pytest.approx(0.049, abs=0.006)


@pytest.mark.parametrize("mu", [0.8, 1.5, 2.5])
def test_it_is_tight_and_comes_closer_with_more_observations(mu: float) -> None:
    found = {
        count: np.median(
            [mu_bound(count_guesses(*scores(mu, count, seed), mu / 2)) for seed in range(9)]
        )
        for count in (250, 2000)
    }
    assert 0.6 * mu < found[250] < found[2000]
    assert 0.88 * mu < found[2000] < mu


def test_epsilon_of_a_gaussian_is_found_through_the_accountant() -> None:
    counts = count_guesses(*scores(1.0, 20_000, 1), threshold=0.5)
    counts = Counts(
        counts.true_positives // 20, 1000, counts.false_positives // 20, 1000
    )  # 1,000 typical ones
    mu = mu_bound(counts)
    found = gaussian_epsilon(counts, 1e-5)
    assert found == pytest.approx(epsilon_of([Release(1 / mu)], 1e-5))
    assert 3.3 < found < 4.377178  # what noise of 1 costs
    rate = audited_epsilon(counts, lambda noise: [Release(noise, 0.1, 10)], 1e-5)
    assert rate == pytest.approx(epsilon_of([Release(1 / mu, 0.1, 10)], 1e-5))
    # the bound without assumptions sees far less in as many observations
    assert epsilon_bound(counts, 1e-5) < found / 2


def test_more_confidence_and_fewer_right_guesses_prove_less() -> None:
    counts = Counts(400, 500, 100, 500)
    by_confidence = [mu_bound(counts, c) for c in (0.8, 0.9, 0.95, 0.99)]
    assert by_confidence == sorted(by_confidence, reverse=True)
    by_hits = [mu_bound(Counts(t, 500, 100, 500)) for t in range(100, 501, 50)]
    assert by_hits == sorted(by_hits) and by_hits[0] == 0
    by_errors = [mu_bound(Counts(400, 500, f, 500)) for f in range(0, 401, 50)]
    assert by_errors == sorted(by_errors, reverse=True) and by_errors[-1] == 0
    by_delta = [epsilon_bound(counts, d) for d in (1e-6, 1e-3, 0.1)]
    assert by_delta == sorted(by_delta, reverse=True)
    assert mu_bound(counts, inserted=0.5) > mu_bound(counts)  # seen through a sample it is larger


def test_no_loss_gives_next_to_nothing() -> None:
    bounds = [mu_bound(count_guesses(*scores(0.0, 500, seed), 0.0)) for seed in range(40)]
    assert sum(bound > 0 for bound in bounds) <= 6 and max(bounds) < 0.2
    for counts in (Counts(0, 500, 500, 500), Counts(250, 500, 250, 500), Counts(0, 1, 0, 1)):
        assert mu_bound(counts) == 0
        assert audited_epsilon(counts, lambda noise: [Release(noise)], 1e-5) == 0
    assert epsilon_bound(Counts(250, 500, 250, 500), 1e-5) == 0


def test_held_out_counts_count_only_the_other_half() -> None:
    there, gone = np.array([5.0, 1.0, 6.0, 9.0, 7.0, 8.0]), np.array([0.0, 6.0, 1.0, 2.0])
    # 5, 6, 7 against 0, 1 choose 5; of 1, 9, 8 two are above, of 6, 2 one
    assert held_out_counts(there, gone) == Counts(2, 3, 1, 2)
    many = scores(2.0, 2000, 8)
    by_delta = [epsilon_bound(held_out_counts(*many, delta), 1e-5) for delta in (1e-5, None)]
    assert by_delta[0] > by_delta[1]
    assert count_guesses([1.0, 2.0], [1.0], 1.0) == Counts(2, 2, 1, 1)


# --- bad input


GOOD = Counts(9, 10, 1, 10)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Counts(11, 10, 0, 10),
        lambda: Counts(-1, 10, 0, 10),
        lambda: Counts(0, 0, 0, 10),
        lambda: Counts(5, 10, 5, 0),
        lambda: clopper_pearson(3, 2),
        lambda: clopper_pearson(1, 2, 1.0),
        lambda: count_guesses([], [1.0], 0.5),
        lambda: count_guesses([1.0], [math.nan], 0.5),
        lambda: count_guesses([[1.0]], [1.0], 0.5),
        lambda: count_guesses([1.0], [1.0], math.nan),
        lambda: held_out_counts([1.0], [1.0, 2.0]),
        lambda: held_out_counts([1.0, 2.0], [1.0, 2.0], 2.0),
        lambda: epsilon_bound(GOOD, 0.0),
        lambda: epsilon_bound(GOOD, 1e-5, 0.0),
        lambda: mu_bound(GOOD, 2.0),
        lambda: mu_bound(GOOD, inserted=0.0),
        lambda: p_value(GOOD, -1.0),
        lambda: audited_epsilon(GOOD, lambda noise: [Release(noise)], 1.0),
    ],
)
def test_bad_input_gives_one_sentence(wrong) -> None:
    with pytest.raises(ConfigError) as caught:
        wrong()
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text, text
