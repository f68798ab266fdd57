"""A staircase above the discrete Gaussian's density, and bins drawn under it with exact chances.

|x| is cut into bins of equal width, a power of two. A bin comes with a chance proportional to a whole
number that is at least the density at its lower edge, hence anywhere in it; x is uniform within its
bin, and is then accepted with density over height, which is nearly always 1 for bins this narrow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BIN_BITS = 12
BINS = (1 << BIN_BITS) - 1  # one more number stands for no bin at all
FINENESS = 6  # 2^6 to 2^7 bins a standard deviation, or a bin for each number where that is less
LOW_BITS = 64 - BIN_BITS
ROOM = 2.0**-39  # relative; above the error of a float64 exponential of up to -745, 2^-40.4


@dataclass(frozen=True, eq=False)
class Staircase:
    """The bins of one sigma, and the table that draws them (Walker 1977; Vose 1991).

    Of a uniform 64-bit word the highest 12 bits name a column. If the others are below its cut, the
    column is the bin, else its alias is. The bin ``BINS`` is none: the word is to be drawn again.

    Attributes:
        sigma2: sigma^2.
        rate: -1 / 2 sigma^2, the density's exponent over x^2, as a float.
        width_bits: a bin holds 2^width_bits numbers |x|.
        scale: s; the density exp(-x^2 / 2 sigma^2) times s is at most the height of x's bin.
        heights: of the bins from 0, and what is left to 2^64: each is the number of words for its bin.
        cuts: uint64 (4096,), from 0 to 2^52.
        aliases: int64 (4096,).
        levels: float64 (4096,), 2^word_bits s over the height of each bin, 0 for none.
        sure: uint64 (4096,), at most 2^word_bits times density over height anywhere in the bin.
    """

    sigma2: Fraction
    rate: float
    width_bits: int
    scale: int
    heights: tuple[int, ...]
    cuts: NDArray[np.uint64]
    aliases: NDArray[np.int64]
    levels: NDArray[np.float64]
    sure: NDArray[np.uint64]

    @property
    def word_bits(self) -> int:
        """How many bits of a word decide whether x is accepted: sign and place take the others."""
        return 63 - self.width_bits

    def bins(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the bins of uniform words, uint64 (n,): int64 (n,)."""
        column = (words >> np.uint64(LOW_BITS)).astype(np.int64)
        low = words & np.uint64((1 << LOW_BITS) - 1)
        return np.where(low < self.cuts[column], column, self.aliases[column])

    def ratio(self, number: int) -> Fraction:
        """Return s over the height of a bin."""
        return Fraction(self.scale, self.heights[number])


@lru_cache(maxsize=16)
def staircase(sigma2: Fraction) -> Staircase:
    """Return the staircase of ``sigma2``, greater than 0 and below 2^112.

    Its bins reach to at least 31 sigma, beyond which lies less than e^-480 of the mass.
    """
    width_bits = max(0, floor_root(sigma2).bit_length() - 1 - FINENESS)
    edges = np.arange(BINS + 1) * 2.0**width_bits
    rate = -float(1 / (2 * sigma2))
    density = np.exp(edges**2 * rate)
    scale = int((2.0**64 - 2.0**44) / density[:-1].sum())
    heights = [int(height) + 1 for height in (density[:-1] * float(scale) * (1 + ROOM)).tolist()]
    levels = np.array([scale / height for height in heights] + [0.0]) * 2.0 ** (63 - width_bits)
    heights.append((1 << 64) - sum(heights))
    cuts, aliases = alias_table(heights)
    least = np.append(density[1:], 0.0) * levels * (1 - 16 * ROOM)
    arrays = (
        np.array(cuts, dtype=np.uint64),
        np.array(aliases, dtype=np.int64),
        levels,
        least.astype(np.uint64),
    )
    for array in arrays:
        array.setflags(write=False)  # they are kept for the next call
    return Staircase(sigma2, rate, width_bits, scale, tuple(heights), *arrays)


def floor_root(number: Fraction) -> int:
    """Return the whole part of the square root of ``number``, from 0."""
    return math.isqrt(number.numerator // number.denominator)


def alias_table(weights: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return cuts and aliases of columns that draw 0, 1, ... with chances exactly as ``weights``.

    All columns are of one height, the mean of the weights, which must be whole. A column is filled by
    its own number up to its cut, and above it by its alias.
    """
    height = sum(weights) // len(weights)
    cuts, aliases = list(weights), list(range(len(weights)))
    lacking = [number for number, weight in enumerate(weights) if weight < height]
    too_high = [number for number, weight in enumerate(weights) if weight > height]
    while lacking:
        low, high = lacking.pop(), too_high[-1]
        aliases[low] = high
        cuts[high] -= height - cuts[low]
        if cuts[high] <= height:
            too_high.pop()
            if cuts[high] < height:
                lacking.append(high)
    return cuts, aliases
