"""One-run audits: published values, a plain re-derivation, and coverage."""

import numpy as np
import pytest
from scipy import stats

from fedlens.attacks.one_run import (
    one_run_epsilon,
    one_run_gaussian_epsilon,
    one_run_mu,
    one_run_p_value,
)
from fedlens.errors import ConfigError
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.releases import Release

CANARIES, DELTA = 10_000, 1e-6


def corners(shift: float) -> list[tuple[int, int]]:
    """Return (false, true) positives at the corners of the concave hull of a ROC curve.

    Of 10,000 normal quantiles, and as many shifted: the set-up of jax_privacy's tests.
    """
    gone = stats.norm.ppf((np.arange(CANARIES) + 0.5) / CANARIES)
    there = gone + shift
    at = np.unique(np.concatenate([there, gone, [np.inf]]))[::-1]
    true = CANARIES - np.searchsorted(there, at)
    false = CANARIES - np.searchsorted(gone, at)
    kept: list[tuple[int, int]] = []
    for point in zip(false.tolist(), true.tolist(), strict=True):
        while len(kept) > 1:
            (a, b), (c, d), (e, f) = kept[-2], kept[-1], point
            if (c - a) * (f - b) < (d - b) * (e - a):
                break
            kept.pop()
        kept.append(point)
    return kept


@pytest.mark.parametrize(
    ("shift", "by_epsilon", "by_gaussian"),
    [(0, 0.0, 0.0), (1, 1.13346, 2.164749), (2, 2.311945, 4.7218075), (4, 4.395568, 9.133752)],
)
def test_values_of_jax_privacy(shift: int, by_epsilon: float, by_gaussian: float) -> None:
    """Of all corners the best, the allowed error divided by their number (notes, section 3.2)."""
    points = corners(shift)
    confidence = 1 - 0.05 / len(points)
    best = 0.0
    for false, true in points[1:]:
        guesses = true + false
        if one_run_p_value(true, guesses, 2 * CANARIES, best, DELTA) <= 1 - confidence:
            best = one_run_epsilon(true, guesses, 2 * CANARIES, DELTA, confidence)
    assert best == pytest.approx(by_epsilon, rel=1e-5)
    # the Gaussian's recursion is slow; its best corner, found by trying all, has few mistakes
    corner = {0: points[-1], 1: (27, 379), 2: (4, 934), 4: (0, 5436)}[shift]
    assert corner in points
    found = one_run_gaussian_epsilon(corner[1], sum(corner), 2 * CANARIES, DELTA, confidence)
    assert found == pytest.approx(by_gaussian, rel=1e-5)


@pytest.mark.parametrize(("correct", "guesses"), [(0, 3), (3, 3), (7, 10), (40, 50), (0, 0)])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 2.0])
def test_the_p_value_is_that_of_the_theorem(correct: int, guesses: int, epsilon: float) -> None:
    law = stats.binom(guesses, np.exp(epsilon) / (1 + np.exp(epsilon)))
    for delta in (0.0, 1e-4, 1e-2):
        worst = max(
            ((law.sf(correct - i - 1) - law.sf(correct - 1)) / i for i in range(1, correct + 1)),
            default=0.0,
        )
        wanted = min(1.0, law.sf(correct - 1) + 2 * 60 * delta * worst)
        assert one_run_p_value(correct, guesses, 60, epsilon, delta) == pytest.approx(wanted)


def test_perfect_guesses_give_the_largest_value_for_their_number() -> None:
    # (e^eps / (1 + e^eps))^n = 0.05, delta aside
    for n in (5, 50, 500):
        chance = 0.05 ** (1 / n)
        wanted = np.log(chance / (1 - chance))
        assert one_run_epsilon(n, n, n, 1e-12) == pytest.approx(wanted, rel=1e-3)
        assert one_run_epsilon(n - 1, n, n, 1e-12) < wanted
    values = [one_run_epsilon(v, 100, 200, 1e-5) for v in range(40, 101, 10)]
    assert values == sorted(values) and values[0] == 0
    values = [one_run_mu(v, 100, 200) for v in range(40, 101, 10)]
    assert values == sorted(values) and values[0] == 0
    assert one_run_epsilon(0, 0, 10, 1e-5) == one_run_mu(0, 0, 10) == 0


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_both_hold_as_often_as_they_say(mu: float) -> None:
    """500 coins, a guess of "in" for the 50 and of "out" for the 50 most extreme ones."""
    epsilon = epsilon_of([Release(1 / mu)], 1e-3) if mu else 0.0
    failures = [0, 0]
    for seed in range(100):
        stream = np.random.default_rng(seed)
        coins = stream.random(500) < 0.5
        order = np.argsort(stream.normal(size=500) + mu * coins)
        correct = int(coins[order[-50:]].sum() + (~coins[order[:50]]).sum())
        failures[0] += one_run_p_value(correct, 100, 500, epsilon, 1e-3) <= 0.05
        failures[1] += one_run_mu(correct, 100, 500) > mu
    assert max(failures) <= stats.binom(100, 0.05).ppf(0.995)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: one_run_epsilon(5, 4, 10, 1e-5),
        lambda: one_run_epsilon(-1, 4, 10, 1e-5),
        lambda: one_run_epsilon(4, 11, 10, 1e-5),
        lambda: one_run_epsilon(0, 0, 0, 1e-5),
        lambda: one_run_epsilon(3, 4, 10, 0.0),
        lambda: one_run_epsilon(3, 4, 10, 1e-5, 1.0),
        lambda: one_run_p_value(3, 4, 10, -1.0, 0.0),
        lambda: one_run_mu(3, 2, 10),
        lambda: one_run_mu(1, 2, 10, 0.0),
        lambda: one_run_gaussian_epsilon(1, 2, 10, 1.0),
    ],
)
def test_bad_input_gives_one_sentence(wrong) -> None:
    with pytest.raises(ConfigError) as caught:
        wrong()
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text, text
