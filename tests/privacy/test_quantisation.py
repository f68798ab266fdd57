"""Integers for secure aggregation: bounds, rounding, wrapping, and the noise of the sum (seeded)."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedlens.errors import ConfigError
from fedlens.privacy import quantisation
from fedlens.privacy.quantisation import (
    IntegerCode,
    dequantise,
    quantise,
    rounded_norm_bound,
    sum_divergence,
    unwrap,
    wrap,
)
from fedlens.privacy.sources import SecureSource, SeededSource


@pytest.mark.parametrize(
    ("gamma", "beta", "expected"),
    [
        # values that TensorFlow Federated asserts, in units of gamma: norm 1, d = 10^9
        (1e-9, 0.01, 1.000000001642451),
        (1e-2, 0.01, 158.13231445360802),
        (1e-9, 0.5, 1.0000000007137142),
        (1e-2, 0.5, 158.12296930808552),
        (1e-2, 1.0, 158.11704525445697),
    ],
)
def test_the_bound_after_rounding(gamma: float, beta: float, expected: float) -> None:
    assert math.isclose(gamma * rounded_norm_bound(1 / gamma, 10**9, beta), expected, rel_tol=1e-9)


def test_the_bound_of_few_coordinates_is_the_plain_one() -> None:
    assert rounded_norm_bound(1000.0, 1) < 1001
    assert rounded_norm_bound(0.0, 4, 1e-9) == 2.0


@given(
    seed=st.integers(0, 2**32),
    dimension=st.integers(1, 300),
    scale=st.floats(0.01, 1e6),
    size=st.floats(0, 100),
)
@settings(max_examples=150, deadline=None)
def test_the_norm_of_the_integers_is_bounded_for_certain(
    seed: int, dimension: int, scale: float, size: float
) -> None:
    vector = np.random.default_rng(seed).normal(size=dimension) * size
    integers = quantise(vector, scale, 1.5, SeededSource(seed))
    assert integers.dtype == np.int64
    assert math.sqrt(int(integers @ integers)) <= rounded_norm_bound(scale * 1.5, dimension)
    norm = np.linalg.norm(vector)
    clipped = vector * min(1.0, 1.5 / norm) if norm else vector
    assert np.abs(dequantise(integers, scale) - clipped).max() <= 1 / scale * (1 + 1e-9)


def test_rounding_keeps_the_expectation() -> None:
    vector = np.array([0.25, -0.3, 0.5, 0.0, 0.123])
    source = SeededSource(1)
    mean = np.mean([quantise(vector, 3.0, 2.0, source) for _ in range(20_000)], axis=0)
    assert np.abs(mean - 3 * vector).max() < 4 * 0.5 / math.sqrt(20_000)


def test_when_no_attempt_succeeds_all_is_rounded_towards_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantisation, "rounded_norm_bound", lambda *_: 0.0)
    assert quantise([0.9, -0.9, 1.7], 1.0, 10.0, SeededSource(2)).tolist() == [0, 0, 1]


@pytest.mark.parametrize("vector", [[math.nan], [math.inf], [[1.0]]])
def test_what_cannot_be_quantised_is_refused(vector: list[float]) -> None:
    with pytest.raises(ConfigError, match="flat"):
        quantise(vector, 1.0, 1.0, SeededSource(1))


@pytest.mark.parametrize(("scale", "clip"), [(0, 1), (1, 0), (-1, 1), (math.nan, 1), (2.0**31, 1)])
def test_impossible_scales_are_refused(scale: float, clip: float) -> None:
    with pytest.raises(ConfigError, match="cannot be quantised"):
        quantise([1.0], scale, clip, SeededSource(1))


def test_wrapping_there_and_back() -> None:
    integers = np.array([0, 1, -1, 2**31 - 1, -(2**31)])
    assert unwrap(wrap(integers)).tolist() == integers.tolist()
    assert wrap(np.array([-1])).tolist() == [2**32 - 1]


def test_the_sum_is_exact_without_noise() -> None:
    code = IntegerCode(dimension=500, clip_norm=1.0, scale=2.0**16, clients=50)
    rng = np.random.default_rng(3)
    vectors = [rng.normal(size=500) * 0.2 for _ in range(50)]
    total = np.zeros(500, dtype=np.uint32)
    expected = np.zeros(500, dtype=np.int64)
    for number, vector in enumerate(vectors):
        total += code.encode(vector, SeededSource(4, number))
        expected += quantise(vector, code.scale, 1.0, SeededSource(4, number))
    assert code.decode(total).tolist() == (expected / 2**16).tolist()


def test_the_noise_of_the_sum_is_that_of_all_shares() -> None:
    sigma2 = Fraction(10_000)
    code = IntegerCode(20_000, 1.0, 2.0**12, clients=8, sigma2=sigma2)
    total = np.zeros(20_000, dtype=np.uint32)
    for number in range(8):
        total += code.encode(np.zeros(20_000), SeededSource(5, number))
    noise = code.decode(total) * 2**12 / math.sqrt(8 * sigma2)
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert 1e-3 < stats.chi2.cdf((noise**2).sum(), len(noise)) < 1 - 1e-3


def test_a_sum_that_does_not_fit_is_an_error() -> None:
    fits = IntegerCode(100, 1.0, 2.0**20, clients=500)
    assert fits.clients * 2**fits.bits < 2**32
    with pytest.raises(ConfigError, match="does not fit below 2\\^32"):
        IntegerCode(100, 1.0, 2.0**20, clients=2000)
    with pytest.raises(ConfigError, match="does not fit"):
        IntegerCode(100, 1.0, 2.0**10, clients=1000, sigma2=Fraction(10**12))


def test_the_fullest_cohort_does_not_wrap() -> None:
    code = IntegerCode(1, 1.0, 1000.0, clients=1)
    with pytest.raises(ConfigError, match="does not fit"):
        IntegerCode(1, 1.0, 1000.0, clients=2 ** (32 - code.bits))
    most = 2 ** (32 - code.bits) - 1
    for sign in (1, -1):
        one = code.encode([sign * 5.0], SeededSource(6))
        total = (one.astype(np.uint64) * most % 2**32).astype(np.uint32)
        assert code.decode(total)[0] == sign * most * 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [({"dimension": 0}, "at least 1"), ({"clients": 0}, "at least 1"), ({"sigma2": -1}, "sigma")],
)
def test_impossible_codes_are_refused(change: dict[str, int], message: str) -> None:
    settings = {"dimension": 10, "clip_norm": 1.0, "scale": 100.0, "clients": 3}
    with pytest.raises(ConfigError, match=message):
        IntegerCode(**(settings | change))  # type: ignore[arg-type]


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 10"):
        IntegerCode(10, 1.0, 100.0, 3).encode(np.zeros(9), SecureSource())


def test_how_far_a_sum_of_discrete_gaussians_is_from_one() -> None:
    assert sum_divergence(Fraction(1), 1) == 0.0
    assert math.isclose(sum_divergence(Fraction(1, 4), 2), 10 * math.exp(-(math.pi**2) / 4))
    assert sum_divergence(Fraction(4), 1000) < 1e-13
    # against the truth: two shares of sigma^2 = 1/2 against one of 1
    values = np.arange(-30, 31)
    share = np.exp(-(values**2.0) / 1.0)
    share /= share.sum()
    both = np.convolve(share, share)[30:-30]
    one = np.exp(-(values**2.0) / 2)
    one /= one.sum()
    likely = one > 1e-12
    furthest = np.abs(np.log(both[likely] / one[likely])).max()
    assert 0 < furthest <= sum_divergence(Fraction(1, 2), 2)
