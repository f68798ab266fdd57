"""The discrete Gaussian N_Z(0, sigma^2), drawn exactly: P(x) is proportional to exp(-x^2/2 sigma^2).

Canonne, Kamath and Steinke, "The discrete Gaussian for differential privacy" (NeurIPS 2020). Added to
integers it costs what the continuous Gaussian costs (their theorem 4: sensitivity^2 / 2 sigma^2
zero-concentrated privacy) and has no bits below the point that could betray the input.
:func:`discrete_gaussian` fills vectors; :func:`discrete_gaussian_single` is the paper's own algorithm,
one value at a time. Both are exact; neither takes the same time for every draw.
"""

import decimal
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedlens.errors import ConfigError
from fedlens.privacy.sources import WORD, RandomSource

LARGEST_STEP = 1 << 56  # with it a proposal stays below 2^62
LEAST_SIGMA2 = Fraction(1, 2**100)
CHUNK = 1 << 14  # proposals at a time, so that they stay in the processor's cache
MOST_HALVINGS = 62
SLACK = Fraction(1, 5)  # at least ln 2 - 1/2, so that no acceptance exceeds 1
DOUBT = 2.0**-40  # relative; bounds the error of the float64 acceptance below, with room


def discrete_gaussian(
    count: int, sigma2: Fraction | int, source: RandomSource
) -> NDArray[np.int64]:
    """Return independent draws of the discrete Gaussian: int64 (count,).

    Exact rejection. |x| = u + t v is proposed with u uniform below t = floor(sigma) + 1 and v
    halving its probability at each step, and accepted with probability
    exp(-x^2 / 2 sigma^2 + v ln 2 - 1/5), which is at most 1 because t > sigma. A float64 decides by
    a 64-bit uniform wherever its error, at most 2^-43, cannot matter; the rest, one in 10^12, is
    decided by :func:`accepts` in rational arithmetic. The only departure is that |x| stays below
    63 t, beyond which lies less than e^-1900 of the mass.

    Args:
        count: how many, from 0.
        sigma2: sigma^2 as an exact number: 0, which gives zeros, or from 2^-100 to below 2^112. The
            variance is less than sigma^2; the two are as good as equal from sigma = 2.
        source: where the randomness comes from.

    Raises:
        ConfigError: a value outside its range.
    """
    sigma2 = _checked(sigma2)
    if count < 0:
        raise ConfigError(f"{count} random values were asked for, expected a number from 0.")
    if sigma2 == 0:
        return np.zeros(count, dtype=np.int64)
    step = _floor_root(sigma2) + 1
    if sigma2 < LEAST_SIGMA2 or step > LARGEST_STEP:
        raise ConfigError(
            "The discrete Gaussian was asked for with a sigma^2 that is neither 0 nor between 2^-100 "
            "and 2^112."
        )
    drawn = np.empty(count, dtype=np.int64)
    done = 0
    while done < count:
        missing = count - done
        # about one proposal in two is accepted where sigma is large, one in four at worst
        proposals = min(CHUNK, missing * 2 + missing // 8 + 64)
        found = _proposed(proposals, sigma2, step, source)[:missing]
        drawn[done : done + len(found)] = found
        done += len(found)
    return drawn


def _proposed(count: int, sigma2: Fraction, step: int, source: RandomSource) -> NDArray[np.int64]:
    """Return those of ``count`` proposals that are accepted."""
    words = source.uniform64(count)
    negative = words >> np.uint64(63) == 1
    low = words & np.uint64((1 << 63) - 1)
    # zeros below the lowest 1 bit; 64 where there is none
    halvings = np.bitwise_count(~low & (low - np.uint64(1))).astype(np.int64)
    size = uniform_below(count, step, source) + step * halvings

    # exp in float64. Wherever 2^64 exp(...) > 1, both terms are below 64, hence its error below 2^-44
    # before and below 2^-43 after the exponential; where it is less, the 2 below decides.
    squares = size.astype(np.float64)
    squares *= squares
    exponent = halvings * math.log(2) - squares * float(1 / (2 * sigma2)) - float(SLACK)
    threshold = np.exp(exponent) * float(WORD)
    words = source.uniform64(count)
    level = words.astype(np.float64)
    margin = threshold * DOUBT + 2
    accepted = level < threshold - margin
    for place in np.flatnonzero(np.abs(level - threshold) <= margin):
        power = Fraction(int(size[place]) ** 2) / (2 * sigma2) + SLACK
        accepted[place] = accepts(int(words[place]), power, source, int(halvings[place]))

    # 0 has one sign only, or it would come twice as often
    accepted &= (halvings <= MOST_HALVINGS) & ~(negative & (size == 0))
    signed: NDArray[np.int64] = np.where(negative, -size, size)[accepted]
    return signed


def uniform_below(count: int, bound: int, source: RandomSource) -> NDArray[np.int64]:
    """Return exactly uniform integers in [0, bound), ``bound`` from 1 to 2^63: int64 (count,)."""
    words = source.uniform64(count)
    last = np.uint64(WORD - WORD % bound - 1)  # beyond it the remainders would be uneven
    if last < np.uint64(WORD - 1):
        while (uneven := words > last).any():
            words = words.copy()
            words[uneven] = source.uniform64(int(uneven.sum()))
    return (words % np.uint64(bound)).astype(np.int64)


def accepts(word: int, power: Fraction, source: RandomSource, halvings: int = 0) -> bool:
    """Return whether a uniform number in [0, 1) lies below 2^halvings exp(-power), exactly.

    Args:
        word: the first 64 bits of the uniform number; more are drawn until the answer is certain.
        power: at least 0.
        source: where further bits come from.
        halvings: from 0.
    """
    bits = 64
    while True:
        context = decimal.Context(
            prec=(bits + halvings) // 3 + 40, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX
        )
        ratio = context.divide(Decimal(-power.numerator), Decimal(power.denominator))
        scale = Decimal(2 ** (bits + halvings))
        threshold = context.multiply(context.exp(ratio), scale)
        # each operation rounds correctly: a relative error of (power + 2) 10^(1 - prec) at most
        error = context.multiply(
            threshold,
            context.multiply(Decimal(math.ceil(power) + 10), Decimal(10) ** (1 - context.prec)),
        )
        if context.add(threshold, -error) >= word + 1:
            return True
        if context.add(threshold, error) <= word:
            return False
        word = word << 64 | int.from_bytes(source.bytes(8), "little")
        bits += 64


def discrete_gaussian_single(sigma2: Fraction | int, source: RandomSource) -> int:
    """Return one draw of the discrete Gaussian, by integers alone and for any sigma.

    Canonne, Kamath and Steinke 2020, algorithm 3; about 30 microseconds a draw.

    Args:
        sigma2: sigma^2 as an exact number, from 0 (which gives 0).
        source: where the randomness comes from.

    Raises:
        ConfigError: a negative ``sigma2``.
    """
    sigma2 = _checked(sigma2)
    if sigma2 == 0:
        return 0
    step = _floor_root(sigma2) + 1
    while True:
        drawn = _laplace(step, source)
        if _bernoulli_exp((abs(drawn) - sigma2 / step) ** 2 / (2 * sigma2), source):
            return drawn


def _laplace(scale: int, source: RandomSource) -> int:
    """Return a draw with P(x) proportional to exp(-|x| / scale): algorithm 2, with s = 1."""
    while True:
        offset = _below(scale, source)
        if not _bernoulli_exp(Fraction(offset, scale), source):
            continue
        turns = 0
        while _bernoulli_exp(Fraction(1), source):
            turns += 1
        size = offset + scale * turns
        negative = _below(2, source) == 1
        if not (negative and size == 0):
            return -size if negative else size


def _bernoulli_exp(power: Fraction, source: RandomSource) -> bool:
    """Return true with probability exp(-power), ``power`` at least 0: algorithm 1."""
    while power > 1:
        if not _bernoulli_exp(Fraction(1), source):
            return False
        power -= 1
    turns = 1
    while _below(power.denominator * turns, source) < power.numerator:
        turns += 1
    return turns % 2 == 1


def _below(bound: int, source: RandomSource) -> int:
    """Return a uniform integer in [0, bound) of any size."""
    bits = (bound - 1).bit_length()
    size = (bits + 7) // 8
    while True:
        drawn = int.from_bytes(source.bytes(size), "little") >> (8 * size - bits)
        if drawn < bound:
            return drawn


def _checked(sigma2: Fraction | int) -> Fraction:
    if not isinstance(sigma2, (Fraction, int)) or sigma2 < 0:
        raise ConfigError(
            f"sigma^2 of a discrete Gaussian is {sigma2!r}, expected an integer or a Fraction from 0."
        )
    return Fraction(sigma2)


def _floor_root(sigma2: Fraction) -> int:
    return math.isqrt(sigma2.numerator // sigma2.denominator)
