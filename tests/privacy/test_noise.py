"""Releases: the grid, an attack on the low-order bits, and the size of the noise (seeded)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedlens.errors import ConfigError
from fedlens.privacy.noise import extra_sensitivity, grid_spacing, release
from fedlens.privacy.sources import SecureSource, SeededSource


def on_grid(values: torch.Tensor, spacing: float) -> bool:
    steps = values.double() / spacing
    return bool((steps == steps.round()).all())


@pytest.mark.parametrize("std", [1.0, 1.999, 2.0, 0.7, 1e-12, 3e8, 0.1])
def test_the_grid_is_a_power_of_two_just_below_the_noise(std: float) -> None:
    spacing = grid_spacing(std)
    assert math.frexp(spacing)[0] == 0.5
    assert spacing <= std / 2**30 < 2 * spacing


@given(
    std=st.floats(1e-9, 1e9),
    magnitude=st.floats(-6, 6),
    seed=st.integers(0, 2**32),
    double=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_every_output_lies_on_the_grid_whatever_went_in(
    std: float, magnitude: float, seed: int, double: bool
) -> None:
    values = np.random.default_rng(seed).normal(size=(5, 8)) * std * 10.0**magnitude
    dtype = torch.float64 if double else torch.float32
    vector = torch.from_numpy(values).to(dtype)
    before = vector.clone()
    released = release(vector, std, SeededSource(seed))
    assert released.dtype == dtype
    assert released.shape == vector.shape
    assert on_grid(released, grid_spacing(std))
    assert torch.equal(vector, before)


def test_the_noise_does_not_depend_on_what_it_hides() -> None:
    # in steps of the grid, the output is the rounded input plus the same integers
    spacing = grid_spacing(1.0)
    vector = torch.from_numpy(np.random.default_rng(1).normal(size=1000) * 5)
    noise = release(torch.zeros(1000, dtype=torch.float64), 1.0, SeededSource(2))
    released = release(vector, 1.0, SeededSource(2))
    steps = ((released - noise) / spacing).numpy()
    assert steps.tolist() == np.round(vector.numpy() / spacing).tolist()


@pytest.mark.parametrize("std", [0.37, 1.0, 25.0])
def test_mean_and_variance(std: float) -> None:
    count = 400_000
    vector = torch.full((count,), 0.3 * std, dtype=torch.float64)
    noise = ((release(vector, std, SeededSource(3)) - vector) / std).numpy()
    assert abs(noise.mean()) < 4 / math.sqrt(count)
    assert 1e-3 < stats.chi2.cdf((noise**2).sum(), count) < 1 - 1e-3
    assert stats.kstest(noise, "norm").pvalue > 1e-3


def test_rounding_moves_a_value_by_half_a_step_at_most() -> None:
    std, spacing = 0.8, grid_spacing(0.8)
    vector = torch.from_numpy(np.random.default_rng(4).normal(size=10_000))
    noise = release(torch.zeros_like(vector), std, SeededSource(5))
    moved = release(vector, std, SeededSource(5)) - noise - vector
    assert float(moved.abs().max()) <= spacing / 2 * (1 + 1e-6)
    assert abs(float(moved.mean())) < spacing / 50  # of a step of 2^-30 sigma: no bias to speak of


def test_neighbours_come_no_further_apart_than_is_said() -> None:
    std, dimension = 0.5, 4096
    rng = np.random.default_rng(6)
    one = torch.from_numpy(rng.normal(size=dimension))
    other = one + torch.from_numpy(rng.normal(size=dimension)) * grid_spacing(std)
    spread = release(one, std, SeededSource(7)) - release(other, std, SeededSource(7))
    assert float(spread.norm() - (one - other).norm()) <= extra_sensitivity(std, dimension)
    assert extra_sensitivity(1.0, 65_354) < 2.4e-7
    assert extra_sensitivity(0.0, 100) == 0.0


# --- the attack ------------------------------------------------------------------------------------

SHIFT, PARAMETERS, TRIALS = 2.0**-6, 4096, 40


def verdict(released: torch.Tensor, grain: float) -> bool:
    """Return whether the low-order bits say that the secret was 0.

    Where the secret is 2^-6, float32 noise cannot land between the multiples of 2^-30: near 0, where
    floats are finer, only noise near -2^-6 leads, which is a multiple itself. A secret of 0 lets
    the fine floats around 0 through.
    """
    return not on_grid(released, grain)


def success(mechanism: str, grains: list[float]) -> list[float]:
    """Return how often the attack is right, for each grain that it may look at."""
    right = np.zeros(len(grains))
    for trial in range(TRIALS):
        for secret in (0.0, SHIFT):
            source = SeededSource(8, trial, int(secret > 0))
            vector = torch.full((PARAMETERS,), secret)
            if mechanism == "naive":
                released = vector + source.gaussian(PARAMETERS, 1.0)
            else:
                released = release(vector, 1.0, source)
            right += [verdict(released, grain) == (secret == 0.0) for grain in grains]
    return list(right / (2 * TRIALS))


def test_naive_noise_is_broken_by_its_low_order_bits() -> None:
    # what Gaussian noise allows between vectors that are 1 sigma apart: half + TV / 2 = 69 %
    distance = SHIFT * math.sqrt(PARAMETERS)
    allowed = stats.norm.cdf(distance / 2)
    assert math.isclose(distance, 1.0) and allowed < 0.70
    assert success("naive", [2.0**-30]) == [1.0]


def test_a_release_is_not() -> None:
    # the same question of every bit, so also of those around the grid: no better than guessing
    for rate in success("release", [2.0**-bits for bits in range(20, 36)]):
        assert abs(rate - 0.5) <= 0.05


def test_no_low_order_bit_of_a_release_knows_the_secret() -> None:
    count = 400_000
    zero = release(torch.zeros(count), 1.0, SeededSource(9))
    small = release(torch.full((count,), SHIFT), 1.0, SeededSource(10))
    for bits in range(20, 31):
        grain = 2.0**-bits
        shares = [
            float((values.double() / grain % 1 != 0).double().mean()) for values in (zero, small)
        ]
        spread = math.sqrt(2 * max(shares) * (1 - max(shares)) / count)
        assert abs(shares[0] - shares[1]) <= 4.5 * spread + 1e-5
    # and of the integers below: fair, whatever the secret
    for vector in (torch.zeros(count, dtype=torch.float64), torch.full((count,), 0.1).double()):
        steps = release(vector, 1.0, SeededSource(11)) / grid_spacing(1.0)
        counts = np.bincount(steps.to(torch.int64).numpy() & 7, minlength=8)
        assert stats.chisquare(counts).pvalue > 1e-3


# --- edges -----------------------------------------------------------------------------------------


def test_no_noise_returns_a_copy() -> None:
    vector = torch.tensor([0.1, -3.0])
    released = release(vector, 0.0, SecureSource())
    assert torch.equal(released, vector)
    assert released.data_ptr() != vector.data_ptr()


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf, 1e-200, 1e200])
def test_impossible_noise_is_refused(std: float) -> None:
    with pytest.raises(ConfigError, match="standard deviation"):
        release(torch.zeros(3), std, SecureSource())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e11])
def test_a_vector_that_cannot_have_been_clipped_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="clip it first"):
        release(torch.tensor([0.0, value]), 1.0, SecureSource())


def test_an_empty_vector_and_a_gradient() -> None:
    assert release(torch.zeros(0), 1.0, SecureSource()).shape == (0,)
    assert not release(torch.zeros(3, requires_grad=True), 1.0, SecureSource()).requires_grad
