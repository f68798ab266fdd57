"""Epsilon of what was released: privacy-loss distributions, with Renyi privacy as the cross-check.

The accountants are those of dp-accounting; what is here says what was released, in plain numbers,
and asks them. All of it is for Gaussian noise under the adding or removing of one unit.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedlens.errors import ConfigError
from fedlens.privacy.privacy_loss import (
    COARSER,
    LEAST_NOISE,
    Accountant,
    coarse_epsilon,
    deltas_of,
    epsilon_by,
    hide_nothing,
)
from fedlens.privacy.releases import MOST_NOISE, Release, merged

ACCOUNTANTS = ("pld", "rdp")
LEAST_RANKED = 1e-9  # delta below which the ranking bound is none: every account is worked out


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
    return epsilon_by(together, delta, accountant)


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
    return coarse_epsilon(releases, delta) if releases else 0.0


def delta_of(releases: Iterable[Release], epsilon: float) -> float:
    """Return the least delta with which the releases are (epsilon, delta)-private, by PLD."""
    together = merged(releases)
    if hide_nothing(together):
        return 1.0
    return float(deltas_of(together, [epsilon])[0]) if together else 0.0


def attack_bound(releases: Iterable[Release], false_positives: float = 0.01) -> float:
    """Return the highest true-positive rate of any membership test at a false-positive rate.

    It bounds every attacker, whatever it knows or computes. If delta(e) is the least delta for
    each e, then TPR <= e^e FPR + delta(e) and 1 - FPR <= e^e (1 - TPR) + delta(e) (Wasserman and
    Zhou 2010; Dong, Roth and Su 2022, proposition 6); the least of all those bounds is returned.

    Args:
        releases: what was released.
        false_positives: in [0, 1].
    """
    return _attack_bound(merged(releases), false_positives, 2000)


def _attack_bound(
    together: tuple[Release, ...], false_positives: float, count: int, coarser: int = 1
) -> float:
    """Return :func:`attack_bound` from ``count`` levels; with fewer or a coarser grid it is no less."""
    if hide_nothing(together):
        return 1.0
    if not together:
        return false_positives
    epsilon = (
        epsilon_by(together, 1e-12, "pld") if coarser == 1 else coarse_epsilon(together, 1e-12)
    )
    highest = max(epsilon, 1e-6)
    levels = np.linspace(0.0, highest, count)
    deltas = deltas_of(together, levels, coarser)
    with np.errstate(over="ignore"):
        one = np.exp(levels) * false_positives + deltas
    other = 1 - np.exp(-levels) * np.maximum(1 - false_positives - deltas, 0)
    return float(min(1.0, one.min(), other.min()))


def worst_attack_bound(
    accounts: Iterable[Iterable[Release]], false_positives: float = 0.01
) -> float:
    """Return :func:`attack_bound` where a unit may be in any of several accounts: the largest.

    It need not be that of the account with the largest epsilon: of two that cost the same epsilon
    at one delta the rest of their curves may differ by much.

    Args:
        accounts: what was released of each, at least one.
        false_positives: in [0, 1].
    """
    rough = {
        releases: _attack_bound(releases, false_positives, 100, COARSER)
        for releases in {merged(releases) for releases in accounts}
    }
    most = 0.0
    for releases in sorted(rough, key=lambda releases: rough[releases], reverse=True):
        if rough[releases] < most:  # and so are the others: they need not be worked out
            break
        most = max(most, attack_bound(releases, false_positives))
    return most


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
            if accountant == "rdp":
                found[kind] = _calibrated(plan, epsilon, delta, "rdp", None)
            elif (rough := _rough(plan, epsilon, delta)) is None:
                found[kind] = _calibrated(plan, epsilon, delta, "pld", None)
            else:
                found[kind] = _calibrated(plan, epsilon, delta, "pld", rough * ratio)
                ratio = found[kind] / rough
        scales.append(found[kind])
    return scales


def _rough(plan: Plan, epsilon: float, delta: float) -> float | None:
    """Return what RDP needs; None where no noise is enough for it, as for a very small epsilon."""
    try:
        return _calibrated(plan, epsilon, delta, "rdp", None)
    except ConfigError:
        return None


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


def _bracket(
    cost: Callable[[float], float], target: float, guess: float | None
) -> tuple[float, float]:
    """Return a scale that costs too much (or is next to nothing) and one that does not."""
    step = 2.0 if guess is None else 1.003
    low = high = guess or 1.0
    while cost(high) > target:
        if high >= MOST_NOISE:
            raise ConfigError(
                f"No noise up to {high:g} times the clip norm meets epsilon {target:g}; ask for "
                "fewer steps or a larger budget."
            )
        low, high, step = high, min(step * high, MOST_NOISE), step**2
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
