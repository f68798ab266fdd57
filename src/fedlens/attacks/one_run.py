"""Audits of a single training: many canaries, each put in or left out by a coin of its own.

Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run" (arXiv:2305.08846), and,
for Gaussian mechanisms, Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-differential privacy in
one run" (arXiv:2410.22235). The auditor guesses for some of the m canaries whether they were in, and
counts right guesses. How many guesses to make must not be chosen by how well they went: fix it, or
divide the error that is allowed (1 - confidence) by the number of ways that were tried.
"""

from collections.abc import Callable

import numpy as np
from scipy import special

from fedlens.errors import ConfigError
from fedlens.privacy.accounting import check_delta, epsilon_of
from fedlens.privacy.releases import Release

LARGEST = 100.0  # epsilon or mu that is looked for


def one_run_p_value(
    correct: int, guesses: int, canaries: int, epsilon: float, delta: float
) -> float:
    """Return an upper bound on the probability of so many right guesses, were it (epsilon, delta).

    Theorem 5.2: with W ~ Binomial(guesses, e^epsilon / (1 + e^epsilon)) it is P[W >= v] + 2 m delta
    max over i from 1 to v of P[v > W >= v - i] / i.

    Args:
        correct: v, from 0 to ``guesses``.
        guesses: at most ``canaries``.
        canaries: m, each in with probability 1/2, independently.
        epsilon: from 0.
        delta: in [0, 1).

    Returns:
        At most 1.

    Raises:
        ConfigError: a value outside its range.
    """
    _check(correct, guesses, canaries)
    if not (epsilon >= 0 and 0 <= delta < 1):
        raise ConfigError(
            f"epsilon is {epsilon} and delta {delta}, expected epsilon from 0 and delta in [0, 1)."
        )
    right = special.expit(epsilon)
    # P[W >= v - i] for i = 0 ... v
    lower = np.arange(correct, -1, -1)
    inner = np.maximum(lower, 1)
    tails = np.where(
        lower == 0, 1.0, special.betainc(inner, guesses - inner + 1, right) if guesses else 1.0
    )
    worst = 0.0
    if correct:
        worst = float(((tails[1:] - tails[0]) / np.arange(1, correct + 1)).max())
    return min(1.0, float(tails[0]) + 2 * canaries * delta * worst)


def one_run_epsilon(
    correct: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95
) -> float:
    """Return the largest epsilon that one training's guesses refute; see :func:`one_run_p_value`.

    Args:
        correct, guesses, canaries: see :func:`one_run_p_value`.
        delta: in (0, 1).
        confidence: in (0, 1).

    Raises:
        ConfigError: a value outside its range.
    """
    check_delta(delta)
    error = _error(confidence)
    return _largest(
        lambda epsilon: one_run_p_value(correct, guesses, canaries, epsilon, delta) <= error
    )


def one_run_mu(correct: int, guesses: int, canaries: int, confidence: float = 0.95) -> float:
    """Return the largest mu for which one training's guesses refute mu-GDP.

    Mahloujifar et al. 2024, algorithm 3, with the trade-off curve of a Gaussian: a recursion over
    the number of right guesses bounds how likely the whole tail is.

    Args:
        correct, guesses, canaries, confidence: see :func:`one_run_epsilon`.

    Raises:
        ConfigError: a value outside its range.
    """
    _check(correct, guesses, canaries)
    error = _error(confidence)
    return _largest(lambda mu: _refutes_gaussian(correct, guesses, canaries, mu, error))


def one_run_gaussian_epsilon(
    correct: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95
) -> float:
    """Return epsilon at ``delta`` of :func:`one_run_mu`, for a Gaussian mechanism.

    Args:
        correct, guesses, canaries, confidence: see :func:`one_run_epsilon`.
        delta: in (0, 1).

    Raises:
        ConfigError: a value outside its range.
    """
    check_delta(delta)
    mu = one_run_mu(correct, guesses, canaries, confidence)
    return epsilon_of([Release(1 / mu)], delta) if mu > 0 else 0.0


def _refutes_gaussian(correct: int, guesses: int, canaries: int, mu: float, error: float) -> bool:
    # Were `correct` or more right with probability `error`, then `right` and `wrong` would be at
    # least these shares of all canaries, guess by guess fewer; together they cannot be more than
    # the share that was guessed.
    right = error * correct / canaries
    wrong = error * (guesses - correct) / canaries
    for i in range(correct - 1, -1, -1):
        if right <= 0:
            return False
        least = float(special.ndtr(special.ndtri(min(right, 1.0)) - mu))
        grown = max(wrong, least)
        right += i / (guesses - i) * (grown - wrong)
        wrong = grown
        if right + wrong > guesses / canaries:
            return True
    return False


def _largest(refuted: Callable[[float], bool]) -> float:
    """Return the largest value that is refuted, to 1e-7; 0 if none is, or 100 if all are."""
    low, high = 0.0, LARGEST
    if not refuted(low):
        return low
    if refuted(high):
        return high
    while high - low > 1e-7:
        middle = (low + high) / 2
        if refuted(middle):
            low = middle
        else:
            high = middle
    return low


def _error(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ConfigError(f"The confidence is {confidence}, expected a number between 0 and 1.")
    return 1 - confidence


def _check(correct: int, guesses: int, canaries: int) -> None:
    if not (0 <= correct <= guesses <= canaries and canaries >= 1):
        raise ConfigError(
            f"{correct} of {guesses} guesses about {canaries} canaries were right, expected at most "
            "as many right ones as guesses and as many guesses as canaries."
        )
