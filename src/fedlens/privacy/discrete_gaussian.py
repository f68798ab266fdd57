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
from fedlens.privacy.sources import RandomSource
from fedlens.privacy.staircase import BINS, Staircase, floor_root, staircase

LARGEST_STEP = 1 << 56  # of sigma; with it a proposal stays below 2^62
LEAST_SIGMA2 = Fraction(1, 2**100)
CHUNK = 1 << 16  # proposals at a time, so that they stay in the processor's cache
SIGN = 1 << 63
ONE = Fraction(1)
DOUBT = 2.0**-36  # relative; bounds the error of the float64 acceptance below, with room


def discrete_gaussian(
    count: int, sigma2: Fraction | int, source: RandomSource
) -> NDArray[np.int64]:
    """Return independent draws of the discrete Gaussian: int64 (count,).

    Exact rejection. |x| is proposed under a :class:`~fedlens.privacy.staircase.Staircase` and accepted
    with density over height. A float64 decides by a uniform number wherever its error, at most 2^-37,
    cannot matter; the rest, one in 10^10 where sigma is below 2^31, is decided by :func:`accepts` in
    rational arithmetic. The only departure is that |x| stays below 31 sigma, beyond which lies less
    than e^-480 of the mass.

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
    step = floor_root(sigma2) + 1
    if sigma2 < LEAST_SIGMA2 or step > LARGEST_STEP:
        raise ConfigError(
            "The discrete Gaussian was asked for with a sigma^2 that is neither 0 nor between 2^-100 "
            "and 2^112."
        )
    steps = staircase(sigma2)
    drawn = np.empty(count, dtype=np.int64)
    for start in range(0, count, CHUNK):
        part = drawn[start : start + CHUNK]
        part[:], accepted = _proposed(len(part), steps, source)
        missing = np.flatnonzero(~accepted)
        while len(missing):
            part[missing], accepted = _proposed(len(missing), steps, source)
            missing = missing[~accepted]
    return drawn


def _proposed(
    count: int, steps: Staircase, source: RandomSource
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return ``count`` proposals, and which of them are accepted."""
    words = source.uniform64(2 * count)
    bins, words = steps.bins(words[:count]), words[count:]
    # of the second word one bit is the sign, the lowest are the place in the bin, the rest decide
    negative = words >= np.uint64(SIGN)
    offset = (words & np.uint64((1 << steps.width_bits) - 1)).astype(np.int64)
    word = (words & np.uint64(SIGN - 1)) >> np.uint64(steps.width_bits)
    size = (bins << steps.width_bits) + offset

    # most lie below what is accepted anywhere in their bin
    accepted = word < steps.sure[bins]
    rest = np.flatnonzero(~accepted)
    accepted[rest] = _accepted(size[rest], bins[rest], word[rest], steps, source)

    # 0 has one sign only, or it would come twice as often
    accepted &= ~(negative & (size == 0))
    return np.where(negative, -size, size), accepted


def _accepted(
    size: NDArray[np.int64],
    bins: NDArray[np.int64],
    words: NDArray[np.uint64],
    steps: Staircase,
    source: RandomSource,
) -> NDArray[np.bool_]:
    """Return whether words lie below density over height of ``size``."""
    # exp in float64. Its argument is off by less than 2^-50 of itself, hence the threshold by less
    # than 2^-39 of itself up to 2^11, beyond which it is 0 and :func:`accepts` decides.
    squares = size.astype(np.float64)
    squares *= squares
    threshold = np.exp(squares * steps.rate) * steps.levels[bins]
    level = words.astype(np.float64)
    margin = threshold * DOUBT + 2
    accepted = level < threshold - margin
    for place in np.flatnonzero(np.abs(level - threshold) <= margin):
        number = int(bins[place])
        power = Fraction(int(size[place]) ** 2) / (2 * steps.sigma2)
        accepted[place] = number < BINS and accepts(
            int(words[place]), power, source, steps.ratio(number), steps.word_bits
        )
    return accepted


def accepts(
    word: int, power: Fraction, source: RandomSource, factor: Fraction = ONE, bits: int = 64
) -> bool:
    """Return whether a uniform number in [0, 1) lies below ``factor`` exp(-power), exactly.

    Args:
        word: the first bits of the uniform number; more are drawn until the answer is certain.
        power: at least 0.
        source: where further bits come from.
        factor: greater than 0.
        bits: how many ``word`` has.
    """
    while True:
        scale = factor * 2**bits
        context = decimal.Context(
            prec=(bits + scale.numerator.bit_length()) // 3 + 40,
            Emin=decimal.MIN_EMIN,
            Emax=decimal.MAX_EMAX,
        )
        ratio = context.divide(Decimal(-power.numerator), Decimal(power.denominator))
        times = context.divide(Decimal(scale.numerator), Decimal(scale.denominator))
        threshold = context.multiply(context.exp(ratio), times)
        # each operation rounds correctly: a relative error of (power + 3) 10^(1 - prec) at most
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
    step = floor_root(sigma2) + 1
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
