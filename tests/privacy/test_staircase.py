"""The staircase that the discrete Gaussian is drawn under, in exact arithmetic."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from fedlens.privacy.staircase import BINS, LOW_BITS, alias_table, staircase

SIGMAS = [
    Fraction(1, 2**100),
    Fraction(1, 3),
    Fraction(1),
    Fraction(10_000),
    Fraction(127**2 + 1, 2),
    Fraction(2**60),
    Fraction(2**61 - 1),
    Fraction(2**60 + 1, 3),
    Fraction(2**112 - 1),
]


def drawn_by(cuts: list[int], aliases: list[int], height: int) -> list[int]:
    """Return how much of the columns is each number's."""
    found = [0] * len(cuts)
    for number, (cut, alias) in enumerate(zip(cuts, aliases, strict=True)):
        assert 0 <= cut <= height
        found[number] += cut
        found[alias] += height - cut
    return found


@pytest.mark.parametrize(
    "weights", [[4], [2, 2], [1, 3], [0, 0, 9], [3, 0, 0], [5, 1, 1, 1], [1, 6, 2, 3], [7, 5, 0, 0]]
)
def test_columns_hold_what_the_weights_say(weights: list[int]) -> None:
    cuts, aliases = alias_table(weights)
    assert drawn_by(cuts, aliases, sum(weights) // len(weights)) == weights


@pytest.mark.parametrize("seed", range(5))
def test_columns_of_random_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = [int(w) for w in rng.integers(0, 50, 64) ** 3]
    weights[0] += -sum(weights) % 64
    assert drawn_by(*alias_table(weights), sum(weights) // 64) == weights


@pytest.mark.parametrize("sigma2", SIGMAS, ids=str)
def test_the_table_draws_each_bin_with_its_height(sigma2: Fraction) -> None:
    steps = staircase(sigma2)
    assert sum(steps.heights) == 2**64 and min(steps.heights) > 0
    cuts = [int(cut) for cut in steps.cuts]
    aliases = [int(alias) for alias in steps.aliases]
    assert drawn_by(cuts, aliases, 1 << LOW_BITS) == list(steps.heights)
    assert steps.heights[BINS] < 2**45  # hardly a word is lost


def test_words_become_bins_as_the_table_says() -> None:
    steps = staircase(Fraction(2**60))
    column = 1500  # far out, so that most of it is another's
    cut, alias = int(steps.cuts[column]), int(steps.aliases[column])
    assert 0 < cut < 1 << LOW_BITS and alias != column
    top = column << LOW_BITS
    words = np.array([top, top + cut - 1, top + cut, top + (1 << LOW_BITS) - 1], dtype=np.uint64)
    assert steps.bins(words).tolist() == [column, column, alias, alias]


@pytest.mark.parametrize("sigma2", SIGMAS, ids=str)
def test_the_density_lies_under_the_stairs(sigma2: Fraction) -> None:
    mpmath.mp.prec = 200
    steps = staircase(sigma2)
    width = 1 << steps.width_bits

    def density(x: int) -> mpmath.mpf:
        """Return s exp(-x^2 / 2 sigma^2)."""
        power = mpmath.mpf(x) ** 2 * sigma2.denominator / (2 * sigma2.numerator)
        return mpmath.exp(-power) * steps.scale

    assert BINS * width >= 31 * math.sqrt(sigma2)
    for number in range(BINS):
        lower, upper = number * width, (number + 1) * width - 1
        height = steps.heights[number]
        assert density(lower) <= height
        # what is accepted without a look is below the least density of the bin
        assert int(steps.sure[number]) <= 2**steps.word_bits * density(upper) / height
    assert steps.sure[BINS] == 0 and steps.levels[BINS] == 0


def test_a_table_as_fine_as_it_should_be_accepts_nearly_all() -> None:
    for sigma2 in (Fraction(2**60), Fraction(2**61 - 1)):
        steps = staircase(sigma2)
        heights = np.array(steps.heights[:-1], dtype=float)
        sure = steps.sure[:-1] / 2.0**steps.word_bits
        assert float((heights * sure).sum() / 2**64) > 0.97


def test_what_is_kept_for_the_next_call_cannot_be_changed() -> None:
    steps = staircase(Fraction(3))
    assert steps is staircase(Fraction(3))
    for array in (steps.cuts, steps.aliases, steps.levels, steps.sure):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
