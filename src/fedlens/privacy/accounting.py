"""Epsilon of what was released: privacy-loss distributions, with Renyi privacy as the cross-check.

The accountants are those of dp-accounting; what is here says what was released, in plain numbers,
and asks them. All of it is for Gaussian noise under the adding or removing of one unit.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedlens.errors import ConfigError

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

Accountant = Literal["pld", "rdp"]
ACCOUNTANTS = ("pld", "rdp")
FINE, COARSE = 1e-4, 1e-3  # discretisation of the privacy loss; both give upper bounds
MANY_KINDS = 12  # different releases from which the coarse grid is used
MOST_NOISE, MOST_STEPS = 1e6, 10**9
COARSER = 8  # the grid on which accounts are ranked, over the one on which they are worked out
DEEP = 100  # kinds of release that are composed in one go
LEAST_NOISE = 1e-3  # below it epsilon is past a million: no guarantee
LEAST_RANKED = 1e-9  # delta below which the ranking bound is none: every account is worked out


@dataclass(frozen=True)
class Release:
    """One kind of release, made ``count`` times: a sum of clipped vectors with Gaussian noise.

    Attributes:
        noise_multiplier: standard deviation of the noise over the clip norm; 0 for no noise.
        rate: probability with which each unit is in the sum, independently (Poisson sampling). 1
            where every unit is in it, or where it is not known or not random who is: then nothing
            is amplified.
        count: how many times.

    Raises:
        ConfigError: a number that it cannot be.
    """

    noise_multiplier: float
    rate: float = 1.0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier <= MOST_NOISE:
            raise ConfigError(
                f"The noise multiplier is {self.noise_multiplier}, expected a number from 0 to "
                f"{MOST_NOISE:g}."
            )
        if not 0 < self.rate <= 1:
            raise ConfigError(f"The sampling rate is {self.rate}, expected above 0 and at most 1.")
        if type(self.count) is not int or not 0 <= self.count <= MOST_STEPS:
            raise ConfigError(
                f"The number of steps is {self.count}, expected a whole number from 0 to "
                f"{MOST_STEPS:,}."
            )

    def event(self) -> Any:
        """Return what dp-accounting calls it: a ``DpEvent``."""
        import dp_accounting  # a second of imports that only private runs need

        event: Any = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        if self.rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(self.rate, event)
        return dp_accounting.SelfComposedDpEvent(event, self.count)


Plan = Callable[[float], Sequence[Release]]
"""Scale of noise -> all that is released at it."""


@dataclass(frozen=True)
class Budget:
    """What all releases of a unit together may cost.

    Attributes:
        epsilon: above 0.
        delta: in (0, 1), well below one over the number of units.

    Raises:
        ConfigError: a number that it cannot be.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)
        check_delta(self.delta)

    def covers(self, releases: Iterable[Release]) -> bool:
        """Tell whether the releases cost no more than it, by PLD."""
        return epsilon_of(releases, self.delta) <= self.epsilon


def epsilon_of(
    releases: Iterable[Release], delta: float, *, accountant: Accountant = "pld"
) -> float:
    """Return epsilon of all releases together; infinite if one had (next to) no noise.

    Args:
        releases: what was released, in any order; chosen before the data were seen, or each by what
            the earlier ones had released, with the whole schedule of noise fixed beforehand.
        delta: in (0, 1).
        accountant: ``pld`` (tight, Koskela et al. 2020, as dp-accounting has it) or ``rdp``
            (Mironov 2017, always larger).

    Raises:
        ConfigError: a delta outside (0, 1), or an accountant that there is not.
    """
    check_delta(delta)
    if accountant not in ACCOUNTANTS:
        raise ConfigError(
            f"There is no accountant '{accountant}'; they are {', '.join(ACCOUNTANTS)}."
        )
    together = merged(releases)
    if any(release.noise_multiplier < LEAST_NOISE for release in together):
        return math.inf
    return _epsilon(together, delta, accountant)


def largest(accounts: Mapping[str, Iterable[Release]], delta: float) -> tuple[str, float]:
    """Return which account has the largest epsilon by PLD, the first of equals, and that epsilon.

    Only those that may have it are worked out: accounts are ranked by an upper bound that is several
    times as quick, and those with the same releases count once.

    Args:
        accounts: name -> what was released of it; at least one.
        delta: in (0, 1).

    Raises:
        ConfigError: a delta outside (0, 1).
    """
    check_delta(delta)
    kinds = {name: merged(releases) for name, releases in accounts.items()}
    bounds = {kind: _bounded(kind, delta) for kind in set(kinds.values())}
    if delta < LEAST_RANKED:
        bounds = dict.fromkeys(bounds, math.inf)
    found: dict[tuple[Release, ...], float] = {}
    most = 0.0
    for kind in sorted(bounds, key=lambda kind: bounds[kind], reverse=True):
        if bounds[kind] * (1 + 1e-9) < most:  # what a bound may lose by rounding
            break
        found[kind] = epsilon_of(kind, delta)
        most = max(most, found[kind])
    return next((name, most) for name, kind in kinds.items() if found.get(kind) == most)


def _bounded(releases: tuple[Release, ...], delta: float) -> float:
    if any(release.noise_multiplier < LEAST_NOISE for release in releases):
        return math.inf
    return _bound(releases, delta) if releases else 0.0


def delta_of(releases: Iterable[Release], epsilon: float) -> float:
    """Return the least delta with which the releases are (epsilon, delta)-private, by PLD."""
    together = merged(releases)
    if any(release.noise_multiplier < LEAST_NOISE for release in together):
        return 1.0
    return float(_pld(together).get_delta_for_epsilon(epsilon)) if together else 0.0


def attack_bound(releases: Iterable[Release], false_positives: float = 0.01) -> float:
    """Return the highest true-positive rate of any membership test at a false-positive rate.

    It bounds every attacker, whatever it knows or computes. If delta(e) is the least delta for
    each e, then TPR <= e^e FPR + delta(e) and 1 - FPR <= e^e (1 - TPR) + delta(e) (Wasserman and
    Zhou 2010; Dong, Roth and Su 2022, proposition 6); the least of all those bounds is returned.

    Args:
        releases: what was released.
        false_positives: in [0, 1].
    """
    together = merged(releases)
    if any(release.noise_multiplier < LEAST_NOISE for release in together):
        return 1.0
    if not together:
        return false_positives
    highest = max(epsilon_of(together, 1e-12), 1e-6)
    levels = np.linspace(0.0, highest, 2000)
    deltas = np.asarray(_pld(together).get_delta_for_epsilon(levels))
    with np.errstate(over="ignore"):
        one = np.exp(levels) * false_positives + deltas
    other = 1 - np.exp(-levels) * np.maximum(1 - false_positives - deltas, 0)
    return float(min(1.0, one.min(), other.min()))


def calibrate(plan: Plan, epsilon: float, delta: float, *, accountant: Accountant = "pld") -> float:
    """Return the least scale of noise with which a plan costs at most ``epsilon``, to 0.1 %.

    Args:
        plan: scale -> what is released at it, for instance
            ``lambda s: [Release(s, rate=0.01, count=1000)]``; more scale must cost less.
        epsilon: what may be spent, above 0.
        delta: in (0, 1).
        accountant: who counts.

    Raises:
        ConfigError: a budget that cannot be, or a plan without any release.
    """
    return calibrate_each([plan], epsilon, delta, accountant=accountant)[0]


def calibrate_each(
    plans: Sequence[Plan], epsilon: float, delta: float, *, accountant: Accountant = "pld"
) -> list[float]:
    """Return :func:`calibrate` of each plan; alike plans are quicker than one by one."""
    check_delta(delta)
    _check_epsilon(epsilon)
    found: dict[tuple[Release, ...], float] = {}
    ratio = 0.95  # of the scale that PLD needs to the one that RDP needs: alike for alike plans
    scales = []
    for plan in plans:
        kind = merged(plan(1.0))
        if not kind:
            raise ConfigError(
                "There is nothing to calibrate: the plan has no training step; train for at least "
                "one."
            )
        if kind not in found:
            rough = _calibrated(plan, epsilon, delta, "rdp", None)
            found[kind] = rough
            if accountant == "pld":
                found[kind] = _calibrated(plan, epsilon, delta, "pld", rough * ratio)
                ratio = found[kind] / rough
        scales.append(found[kind])
    return scales


def _calibrated(
    plan: Plan, epsilon: float, delta: float, accountant: Accountant, guess: float | None
) -> float:
    def cost(scale: float) -> float:
        return epsilon_of(plan(scale), delta, accountant=accountant)

    low, high = _bracket(cost, epsilon, guess)
    return _least(cost, epsilon, low, high)


def check_delta(delta: float) -> None:
    """Raise ``ConfigError`` unless ``delta`` lies in (0, 1)."""
    if not 0 < delta < 1:
        raise ConfigError(
            f"delta is {delta}, expected a number between 0 and 1, such as 1e-5: well below one "
            "over the number of units."
        )


def _check_epsilon(epsilon: float) -> None:
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ConfigError(f"epsilon is {epsilon}, expected a number above 0.")


def merged(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return the releases with those of one kind added up, in the order of noise and rate."""
    counts: dict[tuple[float, float], int] = {}
    for release in releases:
        kind = (release.noise_multiplier, release.rate)
        counts[kind] = counts.get(kind, 0) + release.count
    return tuple(Release(*kind, count) for kind, count in sorted(counts.items()) if count)


def no_more_than(releases: Iterable[Release], others: Iterable[Release]) -> bool:
    """Tell whether of no kind there are more in ``releases`` than in ``others``.

    Then they cost no more, whatever epsilon of either is.
    """
    most = {(one.noise_multiplier, one.rate): one.count for one in merged(others)}
    return all(
        one.count <= most.get((one.noise_multiplier, one.rate), 0) for one in merged(releases)
    )


def _bracket(
    cost: Callable[[float], float], target: float, guess: float | None
) -> tuple[float, float]:
    """Return a scale that costs too much (or is next to nothing) and one that does not."""
    step = 2.0 if guess is None else 1.003
    low = high = guess or 1.0
    while cost(high) > target:
        low, high, step = high, step * high, step**2
        if high > MOST_NOISE / 4:
            raise ConfigError(
                f"No noise up to {high:g} times the clip norm meets epsilon {target:g}; ask for "
                "fewer steps or a larger budget."
            )
    while low == high or (cost(low) <= target and low > LEAST_NOISE):
        low, high, step = low / step, low, step**2
    return low, high


def _least(cost: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Return the least affordable scale in (low, high], to 0.1 %; ``high`` is affordable.

    The logarithm of the cost is nearly straight over that of the scale, so that each guess lies by
    interpolation, a little to either side in turn, and the bracket closes in a few evaluations.
    """
    costs = {low: cost(low), high: cost(high)}
    side = 1.0004
    while high / low > 1.001:
        guess = math.sqrt(low * high)
        if math.isfinite(costs[low]) and costs[high] > 0:
            steep = math.log(costs[low] / costs[high])
            share = math.log(costs[low] / target) / steep if steep > 0 else 0.5
            guess = low * (high / low) ** share * side
            guess = min(max(guess, low * 1.0002), high / 1.0002)
        costs[guess] = cost(guess)
        if costs[guess] <= target:
            high, side = guess, 1 / 1.0004
        else:
            low, side = guess, 1.0004
    return high


@lru_cache(maxsize=1024)
def _epsilon(releases: tuple[Release, ...], delta: float, accountant: Accountant) -> float:
    if not releases:
        return 0.0
    if accountant == "pld":
        return max(0.0, float(_pld(releases).get_epsilon_for_delta(delta)))
    from dp_accounting.rdp import compute_epsilon

    orders = _renyi(releases[0].noise_multiplier, releases[0].rate)[0]
    together = sum(one.count * _renyi(one.noise_multiplier, one.rate)[1] for one in releases)
    with _quiet():
        return max(0.0, float(compute_epsilon(orders, together, delta)[0]))


@lru_cache(maxsize=4096)
def _renyi(noise_multiplier: float, rate: float) -> tuple[Any, Any]:
    """Return the orders, and the Renyi divergence of one release at each."""
    from dp_accounting.rdp import RdpAccountant

    counter = RdpAccountant()
    with _quiet():
        counter.compose(Release(noise_multiplier, rate).event())
    return counter._orders, counter._rdp


@lru_cache(maxsize=1024)
def _bound(releases: tuple[Release, ...], delta: float) -> float:
    """Return what epsilon by PLD is at most: the same on a grid whose points are some of its own.

    The curve of delta over epsilon is convex, and dp-accounting draws it straight between the
    points of a grid (Doroshenko et al. 2022, "Connect the dots"), so that fewer of the points give
    a curve that is nowhere lower, and compositions keep that order. Each composition cuts tails of
    about 1e-15 off, so that it is no bound for a delta near that.
    """
    return max(0.0, float(_pld(releases, COARSER).get_epsilon_for_delta(delta)))


def _pld(releases: tuple[Release, ...], coarser: int = 1) -> "PrivacyLossDistribution":
    # A grid errs on the safe side by at most its spacing for each composition, so that it may be
    # the coarser the larger epsilon is, and has to be finer for a few kinds of release than it
    # can be afforded for many. Doublings alone, so that from one round to the next it is the same.
    rough = _epsilon(releases, 1e-5, "rdp")
    interval = max(FINE, rough * 1e-5)
    if len(releases) >= MANY_KINDS:
        interval = max(interval, min(COARSE, rough * 2e-4))
    interval = coarser * FINE * 2.0 ** round(math.log2(interval / FINE))
    for start in range(len(releases) - DEEP, 0, -DEEP):
        _composed(releases[start:], interval)
    return _composed(releases, interval)


@lru_cache(maxsize=32)  # each may hold some megabytes
def _composed(releases: tuple[Release, ...], interval: float) -> "PrivacyLossDistribution":
    """Return all releases together; as noise falls, what was there before is their end."""
    last = releases[0]
    added = _one(last.noise_multiplier, last.rate, interval).self_compose(last.count)
    return _composed(releases[1:], interval).compose(added) if len(releases) > 1 else added


@lru_cache(maxsize=128)  # each may hold a megabyte
def _one(noise_multiplier: float, rate: float, interval: float) -> "PrivacyLossDistribution":
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier, value_discretization_interval=interval, sampling_prob=rate
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the accountant's remarks on orders that it drops, which is safe and frequent."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
