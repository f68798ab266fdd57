"""The accountants themselves: distributions of the privacy loss, and Renyi divergences.

They are dp-accounting's. What is here chooses their grids, so that an answer is tight, safe and soon
there, and keeps what they have worked out. All of it takes releases as :func:`merged` returns them.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fedlens.privacy.releases import Release, merged

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

Accountant = Literal["pld", "rdp"]
FINE, COARSE = 1e-4, 1e-3  # discretisation of the privacy loss; both give upper bounds
MANY_KINDS = 12  # different releases from which the coarse grid is used
COARSER = 8  # the grid on which accounts are ranked, over the one on which they are worked out
DEEP = 100  # kinds of release that are composed in one go
MOST_KINDS = 128  # different releases, beyond which those of nearly one noise count as one
LEAST_NOISE = 1e-3  # below it epsilon is past a million: no guarantee
LARGEST_LOSS = 1e7  # epsilon by RDP from which it is not worked out more closely


@lru_cache(maxsize=1024)
def epsilon_by(releases: tuple[Release, ...], delta: float, accountant: Accountant) -> float:
    """Return epsilon at ``delta``; of noise that hides nothing what RDP says, if by ``pld``."""
    if not releases:
        return 0.0
    if accountant == "pld":
        most = epsilon_by(releases, delta, "rdp")
        if most > LARGEST_LOSS:
            return most
        return _least_epsilon(releases, delta)
    from dp_accounting.rdp import compute_epsilon

    orders = renyi(releases[0].noise_multiplier, releases[0].rate)[0]
    together = sum(one.count * renyi(one.noise_multiplier, one.rate)[1] for one in releases)
    with quiet():
        return max(0.0, float(compute_epsilon(orders, together, delta)[0]))


@lru_cache(maxsize=4096)
def renyi(noise_multiplier: float, rate: float) -> tuple[Any, Any]:
    """Return the orders, and the Renyi divergence of one release at each."""
    from dp_accounting.rdp import RdpAccountant

    counter = RdpAccountant()
    with quiet():
        counter.compose(Release(noise_multiplier, rate).event())
    return counter._orders, counter._rdp


@lru_cache(maxsize=1024)
def coarse_epsilon(releases: tuple[Release, ...], delta: float) -> float:
    """Return what epsilon by PLD is at most: the same on a grid whose points are some of its own.

    The curve of delta over epsilon is convex, and dp-accounting draws it straight between the
    points of a grid (Doroshenko et al. 2022, "Connect the dots"), so that fewer of the points give
    a curve that is nowhere lower, and compositions keep that order. Each composition cuts tails of
    about 1e-15 off, so that it is no bound for a delta near that; a ten-thousandth is added for
    what rounding takes from epsilons in the thousands.
    """
    if hide_nothing(releases):
        return math.inf
    return _least_epsilon(releases, delta, COARSER) * (1 + 1e-4)


def hide_nothing(releases: tuple[Release, ...]) -> bool:
    """Tell whether so little noise was in the releases that any test may succeed."""
    if any(release.noise_multiplier < LEAST_NOISE for release in releases):
        return True
    return epsilon_by(releases, 1e-5, "rdp") > LARGEST_LOSS


def _of_few_kinds(releases: tuple[Release, ...]) -> tuple[Release, ...]:
    """Return releases of fewer kinds that cost no less, if there are very many.

    Each noise is rounded down to a power of 2^(1 / 64), so by at most 1.1 %.
    """
    if len(releases) <= MOST_KINDS:
        return releases
    return merged(
        Release(
            min(one.noise_multiplier, 2 ** (math.floor(64 * math.log2(one.noise_multiplier)) / 64)),
            one.rate,
            one.count,
        )
        for one in releases
    )


def _least_epsilon(releases: tuple[Release, ...], delta: float, coarser: int = 1) -> float:
    with quiet():
        found = float(_pld(releases, coarser).get_epsilon_for_delta(delta))
    return math.inf if math.isnan(found) else max(0.0, found)


def deltas_of(
    releases: tuple[Release, ...], levels: npt.ArrayLike, coarser: int = 1
) -> npt.NDArray[np.float64]:
    """Return the least delta for each epsilon of ``levels``, or more with a coarser grid."""
    with quiet():
        found = np.asarray(_pld(releases, coarser).get_delta_for_epsilon(np.asarray(levels)))
    # exp(epsilon) is past all floats from 710 on, and infinity less infinity is no delta
    deltas: npt.NDArray[np.float64] = np.where(np.isfinite(found), np.clip(found, 0, 1), 1.0)
    return deltas


def _pld(releases: tuple[Release, ...], coarser: int = 1) -> "PrivacyLossDistribution":
    releases = _of_few_kinds(releases)
    # A grid errs on the safe side by at most its spacing for each composition, so that it may be
    # the coarser the larger epsilon is, and has to be finer for a few kinds of release than it
    # can be afforded for many. Doublings alone, so that from one round to the next it is the same.
    rough = epsilon_by(releases, 1e-5, "rdp")
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
def quiet() -> Iterator[None]:
    """Keep back the accountant's remarks: on orders that it drops, and on losses past all floats.

    Both are frequent and safe: what is dropped could only make epsilon smaller.
    """
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    finally:
        logger.setLevel(before)
