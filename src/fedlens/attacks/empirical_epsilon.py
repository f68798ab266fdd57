"""Empirical epsilon: lower bounds on what was lost, from guesses about who was in the data.

An audit lets a mechanism run many times with a *canary* (a unit that is easy to see) and many times
without it, and guesses from what was released which was which. Good guesses prove loss: whatever
bound comes out above the accountant's epsilon refutes the accountant, or the code that it speaks for.

**The white-box audit.** The adversary of DP-SGD sees every released gradient, and its canary has a
*Dirac* gradient: far above the clip norm C and along a direction of its own, so that the release in
this direction is N(1, s^2) C where the canary was sampled and N(0, s^2) C where it was not. Its
score is that coordinate over C, its threshold halfway, 1/2, fixed before anything is seen
(:func:`count_guesses`). :func:`audited_epsilon` turns the counts into epsilon in two moves.

1. A step whose noise multiplier is s is 1/s-GDP (Dong, Roth and Su 2022, theorem 2.7): no test
   whatever of "sampled" against "not sampled" has more true positives than Phi(Phi^-1(FPR) + 1/s).
   From the counts follows, with the confidence that is asked for, a lower bound on 1/s.
2. The accountant says what the whole training costs with that noise: the same rates, number of steps
   and code as the ledger's epsilon (Nasr et al. 2023, "Tight auditing of differentially private
   machine learning", section 5).

What is assumed: each step adds Gaussian noise of one unknown deviation to a sum that the canary
moves by at most C, all steps are independent, and the canary is sampled with the known rate (which
:func:`clopper_pearson` can check). Why it is a lower bound: a weaker canary, statistic or threshold
makes worse guesses, hence a smaller 1/s, and epsilon falls as the noise grows. To *refute* a claim
none of this is needed beyond independence: were the claim true, then each step would be 1/s-GDP,
and the bound would come out above the claim with a probability of at most 1 - confidence. A run that
passes is not proven private: noise that repeats from step to step, for one, is not seen.

Nothing here chooses on the data that it then claims confidence for: a threshold is fixed beforehand, or
comes from the half of the observations that are not counted (:func:`held_out_counts`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fedlens.errors import ConfigError
from fedlens.privacy.accounting import Plan, check_delta, epsilon_of
from fedlens.privacy.releases import Release

LARGEST_MU = 100.0  # a noise multiplier of 0.01: epsilon is past 5,000
GRID = 65  # false-positive rates at which a p-value is worked out
RARE = 1e-9  # probability of counts that are not looked at
OUTSIDE = 0.02  # share of the allowed error that is spent on leaving that grid

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """How guesses went: "the canary was there" is a positive.

    Attributes:
        true_positives: right ones among ``positives``, where it was there.
        positives: observations with the canary, at least 1.
        false_positives: wrong ones among ``negatives``, where it was not.
        negatives: observations without it, at least 1.

    Raises:
        ConfigError: counts that cannot be.
    """

    true_positives: int
    positives: int
    false_positives: int
    negatives: int

    def __post_init__(self) -> None:
        _check_counts(self.true_positives, self.positives, "true positives")
        _check_counts(self.false_positives, self.negatives, "false positives")

    def rates(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return what the true-positive rate is at least and the false-positive rate at most.

        Both hold together with ``confidence``: each may fail with half of the rest.
        """
        return (
            clopper_pearson(self.true_positives, self.positives, confidence)[0],
            clopper_pearson(self.false_positives, self.negatives, confidence)[1],
        )


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a probability (Clopper and Pearson 1934).

    Each end fails with a probability of at most (1 - confidence) / 2.

    Args:
        successes: from 0 to ``trials``.
        trials: at least 1.
        confidence: in (0, 1).

    Returns:
        The ends, 0 <= low <= high <= 1.

    Raises:
        ConfigError: a value outside its range.
    """
    _check_counts(successes, trials, "successes")
    tail = (1 - _checked(confidence)) / 2
    low = float(_low(successes, trials, tail))
    return low, float(1 - _low(trials - successes, trials, tail))


def count_guesses(present: ArrayLike, absent: ArrayLike, threshold: float) -> Counts:
    """Guess "there" wherever a score is at least ``threshold``, and count.

    Args:
        present: (n,) scores of observations with the canary, finite; high means "there".
        absent: (m,) of observations without it.
        threshold: fixed without looking at these scores.

    Raises:
        ConfigError: no scores, or scores or a threshold that are not numbers.
    """
    here, gone = _scores(present, "present"), _scores(absent, "absent")
    if math.isnan(threshold):
        raise ConfigError("The threshold is not a number, expected one that scores reach or not.")
    return Counts(
        int((here >= threshold).sum()), len(here), int((gone >= threshold).sum()), len(gone)
    )


def held_out_counts(
    present: ArrayLike, absent: ArrayLike, delta: float | None = None, confidence: float = 0.95
) -> Counts:
    """Choose the threshold on every other observation, and count the guesses on the rest.

    Args:
        present, absent: scores as in :func:`count_guesses`, at least 2 each, independent.
        delta: choose the threshold for :func:`epsilon_bound` at this delta; None for
            :func:`mu_bound`.
        confidence: at which the bound is going to be asked for.

    Raises:
        ConfigError: as :func:`count_guesses`; fewer than 2 scores; a delta that cannot be.
    """
    here, gone = _scores(present, "present"), _scores(absent, "absent")
    if min(len(here), len(gone)) < 2:
        raise ConfigError(
            f"{len(here)} scores with and {len(gone)} without the canary were given, expected at "
            "least 2 each: one half chooses the threshold, the other is counted."
        )
    first, other = np.sort(here[::2]), np.sort(gone[::2])
    tail = (1 - _checked(confidence)) / 2
    candidates = np.unique(np.concatenate([first, other]))
    true = len(first) - np.searchsorted(first, candidates)
    false = len(other) - np.searchsorted(other, candidates)
    least = _low(true, len(first), tail)
    most = 1 - _low(len(other) - false, len(other), tail)
    if delta is None:
        values = special.ndtri(least) - special.ndtri(most)
    else:
        check_delta(delta)
        values = _epsilon(least, most, delta)
    return count_guesses(here[1::2], gone[1::2], float(candidates[int(np.argmax(values))]))


def epsilon_bound(counts: Counts, delta: float, confidence: float = 0.95) -> float:
    """Return a lower bound on epsilon that assumes nothing of the mechanism.

    If a mechanism is (epsilon, delta)-private, then TPR <= e^epsilon FPR + delta and 1 - FPR <=
    e^epsilon (1 - TPR) + delta (Kairouz, Oh and Viswanath 2015); both are solved for epsilon at the
    Clopper-Pearson ends (Jagielski, Ullman and Oprea 2020, section 4; Nasr et al. 2021). With n
    observations it cannot exceed about log(n / 4), however much is lost.

    Args:
        counts: of guesses with a threshold that was not chosen on them.
        delta: in (0, 1).
        confidence: in (0, 1).

    Raises:
        ConfigError: a value outside its range.
    """
    check_delta(delta)
    least, most = counts.rates(confidence)
    return float(_epsilon(np.array([least]), np.array([most]), delta)[0])


def mu_bound(counts: Counts, confidence: float = 0.95, *, inserted: float = 1.0) -> float:
    """Return the largest mu for which the guesses refute that an observation is mu-GDP.

    The null hypothesis "at most mu" says that TPR <= g(FPR) = (1 - r) FPR + r Phi(Phi^-1(FPR) +
    mu), where r is ``inserted``. Its p-value is the probability that (TP rate - FP rate) is at least
    what was seen, the greatest over all false-positive rates: an exact test of two binomials with
    one unknown rate, searched where Clopper-Pearson leaves it (Berger and Boos 1994). The bound is
    where the p-value meets 1 - confidence (Buehler 1957). Two separate intervals, as Nasr et al.
    2023 have them, allow for both rates being at their worst at once, and give away twice as much.

    The greatest is sought on a grid of 65 rates, far finer than the p-value varies.

    Args:
        counts: of guesses with a threshold that was not chosen on them.
        confidence: in (0, 1).
        inserted: probability r in (0, 1] with which the canary was in each observation that
            counts as a positive, where nobody looked whether it was.

    Returns:
        mu from 0 to 100.

    Raises:
        ConfigError: a value outside its range.
    """
    error = 1 - _checked(confidence)
    if not 0 < inserted <= 1:
        raise ConfigError(f"inserted is {inserted}, expected above 0 and at most 1.")
    null = _Null.of(counts, OUTSIDE * error)
    low, high = 0.0, LARGEST_MU
    if null.p_value(low, inserted) > error:
        return 0.0
    if null.p_value(high, inserted) <= error:
        return high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        if null.p_value(middle, inserted) <= error:
            low = middle
        else:
            high = middle
    return low


def p_value(counts: Counts, mu: float, error: float = 0.05, inserted: float = 1.0) -> float:
    """Return the p-value of "each observation is at most ``mu``-GDP"; see :func:`mu_bound`.

    Args:
        counts: of the guesses.
        mu: from 0.
        error: that is allowed, in (0, 1): 2 % of it pay for the search's interval.
        inserted: see :func:`mu_bound`.

    Returns:
        At most 1. It grows with ``mu``.

    Raises:
        ConfigError: a negative mu.
    """
    if not mu >= 0:
        raise ConfigError(f"mu is {mu}, expected a number from 0.")
    return _Null.of(counts, OUTSIDE * error).p_value(mu, inserted)


def gaussian_epsilon(counts: Counts, delta: float, confidence: float = 0.95) -> float:
    """Return a lower bound on epsilon of one observation, if it is a Gaussian mechanism.

    Args:
        counts, confidence: see :func:`mu_bound`.
        delta: in (0, 1).

    Raises:
        ConfigError: a value outside its range.
    """
    return audited_epsilon(counts, lambda noise: [Release(noise)], delta, confidence)


def audited_epsilon(
    counts: Counts,
    plan: Plan,
    delta: float,
    confidence: float = 0.95,
    *,
    inserted: float = 1.0,
) -> float:
    """Return a lower bound on epsilon of a whole training, from guesses about single steps.

    The guesses bound the noise multiplier of a step from above, and the accountant (PLD) says what
    the training costs with it; see the module for what is assumed. Constant noise only: of a
    schedule, audit each period by itself.

    Args:
        counts: of guesses from one step each whether the canary was sampled.
        plan: noise multiplier -> all that the training releases, for instance
            ``lambda noise: mechanism.with_noise(noise).plan()``.
        delta: in (0, 1).
        confidence: in (0, 1).
        inserted: see :func:`mu_bound`. 1 where positives are steps that the canary was sampled in;
            the sampling rate where they are all steps with the canary among the data, which
            proves less.

    Returns:
        epsilon from 0; 0 where the guesses prove nothing.

    Raises:
        ConfigError: a value outside its range.
    """
    check_delta(delta)
    mu = mu_bound(counts, confidence, inserted=inserted)
    return epsilon_of(plan(1 / mu), delta) if mu > 0 else 0.0


@dataclass(frozen=True, eq=False)
class _Null:
    """What does not depend on mu in a p-value.

    Attributes:
        positives: n.
        rates: (GRID, 1) false-positive rates that are looked at.
        exactly: (GRID, K) probability of each number of false positives.
        needed: (K,) true positives that it then takes to reach what was seen.
        left_out: probability of all that is not looked at, at most.
    """

    positives: int
    rates: Floats
    exactly: Floats
    needed: NDArray[np.int64]
    left_out: float

    @classmethod
    def of(cls, counts: Counts, outside: float) -> "_Null":
        n, m = counts.positives, counts.negatives
        low, high = clopper_pearson(counts.false_positives, m, 1 - outside)
        rates = np.linspace(low, high, GRID)[:, None]
        false = np.arange(m + 1)
        at_least = _at_least(false, m, rates)
        exactly = at_least - np.concatenate([at_least[:, 1:], np.zeros((GRID, 1))], 1)
        kept = exactly.max(0) > RARE / (m + 1)
        # in whole numbers: true / n - false / m >= what was seen
        seen = counts.true_positives * m - counts.false_positives * n
        needed = -((-(seen + false * n)) // m)
        return cls(n, rates, exactly[:, kept], needed[kept], outside + RARE)

    def p_value(self, mu: float, inserted: float) -> float:
        n, rates, needed = self.positives, self.rates, self.needed
        power = (1 - inserted) * rates + inserted * special.ndtr(special.ndtri(rates) + mu)
        reached = np.where(needed > n, 0.0, _at_least(np.clip(needed, 0, n), n, power))
        return min(1.0, float((self.exactly * reached).sum(1).max()) + self.left_out)


def _low(successes: ArrayLike, trials: int, tail: float) -> Floats:
    """Return the lower Clopper-Pearson ends, each failing with probability ``tail``."""
    hits = np.asarray(successes, dtype=np.float64)
    ends = special.betaincinv(np.maximum(hits, 1), trials - np.maximum(hits, 1) + 1, tail)
    return np.asarray(np.where(hits == 0, 0.0, ends))


def _at_least(successes: NDArray[np.int64], trials: int, rate: Floats) -> Floats:
    """Return the probability of at least so many successes."""
    ends = special.betainc(np.maximum(successes, 1), trials - np.maximum(successes, 1) + 1, rate)
    return np.asarray(np.where(successes == 0, 1.0, ends))


def _epsilon(least: Floats, most: Floats, delta: float) -> Floats:
    """Return epsilon from 0 at a true-positive rate of at least and a false one of at most."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(np.maximum(least - delta, 0)) - np.log(most)
        other = np.log(np.maximum(1 - most - delta, 0)) - np.log(1 - least)
    return np.asarray(np.maximum(np.maximum(one, other), 0.0))


def _scores(values: ArrayLike, name: str) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise ConfigError(
            f"The scores '{name}' have the shape {scores.shape}, expected a list of at least one "
            "number, all finite."
        )
    return scores


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ConfigError(f"The confidence is {confidence}, expected a number between 0 and 1.")
    return confidence


def _check_counts(successes: int, trials: int, name: str) -> None:
    if not (trials >= 1 and 0 <= successes <= trials):
        raise ConfigError(
            f"{successes} {name} were counted in {trials} trials, expected at least one trial and "
            "from 0 to all of them."
        )
