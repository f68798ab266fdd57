"""Epsilon against values from other libraries' tests and from closed forms."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedlens.errors import ConfigError
from fedlens.privacy.accounting import (
    attack_bound,
    calibrate,
    calibrate_each,
    delta_of,
    epsilon_of,
    worst_attack_bound,
)
from fedlens.privacy.releases import Release, merged

R = Release
FALLING = [R(float(noise), 0.1) for noise in np.linspace(2.0, 0.8, 100)]
BY_EPOCH = [R(1.5 * 0.95**epoch, 256 / 60_000, 234) for epoch in range(20)]
# (name, releases, delta, epsilon by PLD or None, epsilon by RDP or None)
ROWS = [
    ("MNIST tutorial", [R(1.1, 256 / 60_000, 14_062)], 1e-5, 2.381686, 2.596556),
    ("Opacus test", [R(1.5, 0.04, 2250)], 1e-5, 6.768787, 7.329335),
    ("Opacus test, its RDP", [R(1.5, 0.04, 2250)], 1e-5, None, 7.32911117),
    ("its PRV's case", [R(1.5, 0.04, 2249)], 1e-5, 6.767051, None),
    ("jax-privacy's docs", [R(3, 0.1, 512)], 1e-6, 3.769687, 4.050970),
    ("TF-privacy", [R(1.3, 150 / 60_000, 15 * 400)], 1e-5, None, 0.7242234026),
    ("TF-privacy, 2", [R(1.0, 100 / 100_000, 30 * 1000)], 1e-7, None, 1.4154988495),
    ("low noise", [R(0.7, 256 / 60_000, 10_546)], 1e-5, 5.639447, 6.3195),
    ("more noise", [R(1.3, 256 / 60_000, 3515)], 1e-5, 0.864459, 0.954430),
    ("one Gaussian", [R(1.0)], 1e-5, 4.377178, None),
    ("one Gaussian, half", [R(0.5)], 1e-5, 9.997256, None),
    ("one Gaussian, a tenth", [R(0.1)], 1e-5, 91.8173, None),
    ("one Gaussian, 0.03", [R(0.03)], 1e-5, 696.78, None),
    ("one Gaussian, 0.01", [R(0.01)], 1e-5, 5425.51, None),
    ("one Gaussian, its RDP", [R(4.530877117)], 1e-6, None, 1.0),
    ("1.2 epochs, nothing amplified", [R(0.7, 1.0, 2)], 1e-5, 10.1224946, 10.8602036),
    ("1.2 epochs, rate 0.01", [R(0.7, 0.01, 120)], 1e-5, 2.4612381, 3.2392676),
    ("least noise for one query", [R(0.67379294682, 0.01)], 1e-5, 1.0, None),
    ("least noise for 25", [R(3.20956502598 / 6, 0.001, 25)], 1e-5, 1.0, None),
    ("falling noise", FALLING, 1e-5, 5.567394, 6.402794),
    ("constant beside it", [R(1.2, 0.1, 100)], 1e-5, 5.075092, None),
    ("falling by epoch", BY_EPOCH, 1e-5, 4.139565, 5.1485),
    ("every client, every round", [R(4.24426, 1.0, 50)], 1e-5, 8.0, None),
    ("eps 3", [R(0.9684, 256 / 60_000, 14_062)], 1e-5, 3.0, None),
    ("eps 1", [R(2.0252, 256 / 60_000, 14_062)], 1e-5, 1.0, None),
    ("eps 3, RDP", [R(1.0141, 256 / 60_000, 14_062)], 1e-5, None, 3.0),
    ("eps 1, RDP", [R(2.1785, 256 / 60_000, 14_062)], 1e-5, None, 1.0),
]


@pytest.mark.parametrize(
    ("name", "releases", "delta", "tight", "renyi"),
    ROWS,
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_published_values(name, releases, delta, tight, renyi) -> None:
    if tight is not None:
        assert epsilon_of(releases, delta) == pytest.approx(tight, rel=1e-3)
    if renyi is not None:
        assert epsilon_of(releases, delta, accountant="rdp") == pytest.approx(renyi, rel=1e-3)


@pytest.mark.parametrize(
    ("rate", "steps", "epsilon", "tight", "renyi"),
    [
        (2048 / 60_000, 1172, 1, 4.4684, 4.8354),
        (2048 / 60_000, 1172, 3, 1.8086, 1.9287),
        (2048 / 60_000, 1172, 8, 0.9826, 1.0293),
        (512 / 60_000, 2344, 1, 1.7262, 1.8493),
        (0.1, 100, 1, 3.9421, 4.2777),
        (0.1, 100, 8, 0.9360, 0.9937),
        (1.0, 100, 3, 13.91, 14.93),
        (0.04, 2250, 8, 1.3460, 1.4160),
        (0.04, 2000, 8, None, 1.3562),
    ],
)
def test_calibration_finds_the_published_noise(rate, steps, epsilon, tight, renyi) -> None:
    def plan(scale: float) -> list[Release]:
        return [R(scale, rate, steps)]

    if tight is not None:
        found = calibrate(plan, epsilon, 1e-5)
        # theirs were found on a coarser grid, whose error asks for a little more noise
        assert tight * (1 - 3e-3) <= found <= tight * (1 + 1e-3)
        assert epsilon_of(plan(found), 1e-5) <= epsilon
        assert epsilon_of(plan(found / 1.002), 1e-5) > epsilon
    found = calibrate(plan, epsilon, 1e-5, accountant="rdp")
    assert found == pytest.approx(renyi, rel=2e-3)


def test_each_plan_gets_the_noise_that_it_would_get_alone() -> None:
    """Clients of different sizes with one batch size: the smaller are sampled more often."""
    plans = [lambda scale, n=n: [R(scale, 100 / n, 5 * n // 100)] for n in (1000, 300, 1000)]
    epsilon = 0.5  # the smaller it is, the quicker it is worked out
    together = calibrate_each(plans, epsilon, 1e-5)
    assert together[0] == together[2]
    for plan, noise in zip(plans, together, strict=True):
        assert noise == pytest.approx(calibrate(plan, epsilon, 1e-5), rel=2e-3)
        assert epsilon_of(plan(noise), 1e-5) <= epsilon < epsilon_of(plan(noise / 1.002), 1e-5)
    assert together[1] > together[0]


def test_a_whole_schedule_is_calibrated() -> None:
    def plan(scale: float) -> list[Release]:
        return [R(scale * (1 - 0.2 * period), 0.1, 10) for period in range(3)]

    scale = calibrate(plan, 0.5, 1e-5)
    assert epsilon_of(plan(scale), 1e-5) == pytest.approx(0.5, rel=2e-3)
    assert epsilon_of(plan(scale), 1e-5) <= 0.5


@pytest.mark.parametrize(
    ("releases", "delta"),
    [([R(math.sqrt(3), 1.0, 3)], 0.126936), ([R(0.5, 0.2, 3)], 0.15594)],
)
def test_delta_at_epsilon_one(releases, delta) -> None:
    assert delta_of(releases, 1.0) == pytest.approx(delta, rel=1e-3)


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.3])
def test_the_attack_bound_of_one_gaussian_is_its_trade_off_curve(noise: float, rate: float) -> None:
    """TPR = Phi(Phi^-1(FPR) + 1 / noise): the Neyman-Pearson test of N(0, s^2) and N(1, s^2)."""
    exact = norm.cdf(norm.ppf(rate) + 1 / noise)
    bound = attack_bound([R(noise)], rate)
    assert bound == pytest.approx(exact, rel=1e-3)
    assert bound >= exact * (1 - 1e-9)
    # two releases with sqrt(2) times the noise are one with the noise
    assert attack_bound([R(noise * math.sqrt(2), 1.0, 2)], rate) == pytest.approx(exact, rel=1e-3)


def test_nothing_released_costs_nothing_and_no_noise_costs_all() -> None:
    assert epsilon_of([], 1e-5) == 0 and delta_of([], 0.0) == 0 and attack_bound([], 0.02) == 0.02
    assert epsilon_of([R(1.0, 0.5, 0)], 1e-5) == 0
    for releases in ([R(0.0)], [R(1.0, 0.01, 10), R(0.0, 0.001, 1)]):
        assert epsilon_of(releases, 1e-5) == math.inf
        assert delta_of(releases, 50.0) == 1 and attack_bound(releases) == 1


def test_the_order_of_releases_does_not_matter() -> None:
    parts = [R(1.0, 0.1, 3), R(2.0, 0.1, 1), R(1.0, 0.1, 4), R(2.0, 1.0, 1)]
    assert merged(parts) == (R(1.0, 0.1, 7), R(2.0, 0.1, 1), R(2.0, 1.0, 1))
    assert epsilon_of(parts, 1e-5) == epsilon_of(parts[::-1], 1e-5)


def test_more_steps_a_higher_rate_and_less_noise_cost_more() -> None:
    base = epsilon_of([R(2.0, 0.05, 100)], 1e-5)
    assert base < epsilon_of([R(2.0, 0.05, 110)], 1e-5)
    assert base < epsilon_of([R(2.0, 0.06, 100)], 1e-5)
    assert base < epsilon_of([R(1.8, 0.05, 100)], 1e-5)
    assert base < epsilon_of([R(2.0, 0.05, 100)], 1e-6)
    assert base < epsilon_of([R(2.0, 0.05, 100)], 1e-5, accountant="rdp")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: R(-1.0), "noise multiplier"),
        (lambda: R(math.nan), "noise multiplier"),
        (lambda: R(1.0, 0.0), "sampling rate"),
        (lambda: R(1.0, 1.1), "sampling rate"),
        (lambda: R(1.0, 0.5, -1), "steps"),
        (lambda: epsilon_of([R(1.0)], 0.0), "delta"),
        (lambda: epsilon_of([R(1.0)], 1.0), "delta"),
        (lambda: epsilon_of([R(1.0)], 0.1, accountant="prv"), "pld, rdp"),
        (lambda: calibrate(lambda s: [R(s)], 0.0, 1e-5), "epsilon"),
        (lambda: calibrate(lambda s: [R(s)], math.inf, 1e-5), "epsilon"),
        (lambda: calibrate(lambda s: [R(s, 1.0, 0)], 1.0, 1e-5), "no training step"),
    ],
)
def test_what_cannot_be_is_one_sentence(call, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()


def test_renyi_at_given_orders() -> None:
    """dp-accounting's own test vector: our events are those that it means."""
    from dp_accounting.rdp import RdpAccountant

    counter = RdpAccountant(orders=[1.5, 2.5, 5, 50, 100])
    counter.compose(R(2.5, 0.01, 50).event())
    expected = [6.70579741e-4, 1.08548710e-3, 2.18075656e-3, 2.38460375e-2, 167.416308]
    assert counter._rdp == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("noise", [0.001, 0.003, 0.02, 0.05])
def test_noise_that_hides_nothing_costs_a_finite_number_and_no_warning(noise: float) -> None:
    releases = [R(noise, 256 / 60_000, 14_000)]
    assert 1e4 < epsilon_of(releases, 1e-5) < 1e11
    assert attack_bound(releases) > 0.999 and delta_of(releases, 1.0) > 0.999
    # 60 sums of everybody are one Gaussian of noise / sqrt(60)
    whole, one = noise / math.sqrt(60), epsilon_of([R(noise, 1.0, 60)], 1e-5)
    assert 0.5 / whole**2 < one < 1.2 * (0.5 / whole**2 + 6 / whole)


def test_a_small_epsilon_is_calibrated() -> None:
    """The search squares its steps, and must not step over all the noise there is."""
    noise = calibrate(lambda s: [R(s, 256 / 60_000, 14_062)], 1e-3, 1e-5)
    assert 0.99e-3 < epsilon_of([R(noise, 256 / 60_000, 14_062)], 1e-5) <= 1e-3


def test_of_many_kinds_of_noise_those_that_are_nearly_one_count_as_one_on_the_safe_side() -> None:
    """Sums of everybody have a closed form: one Gaussian whose 1 / noise^2 is the sum of theirs."""
    releases = [R(20 - 10 * step / 400, 1.0, 1) for step in range(400)]
    noise = sum(one.noise_multiplier**-2 for one in releases) ** -0.5

    def delta(epsilon: float) -> float:
        half = 0.5 / noise
        return norm.cdf(half - epsilon * noise) - math.exp(epsilon) * norm.cdf(
            -half - epsilon * noise
        )

    exact = brentq(lambda epsilon: delta(epsilon) - 1e-5, 1e-3, 100)
    assert exact <= epsilon_of(releases, 1e-5) <= 1.015 * exact


def test_the_worst_attack_bound_is_not_that_of_the_largest_epsilon() -> None:
    """Two accounts of epsilon 8: one image in all steps, or one of twenty in each of many."""
    often, seldom = [R(1.201, 1.0, 4)], [R(0.6719, 0.05, 80)]
    assert epsilon_of(often, 1e-5) == pytest.approx(8.0, rel=2e-3)
    assert epsilon_of(seldom, 1e-5) == pytest.approx(8.0, rel=2e-3)
    bounds = [attack_bound(often), attack_bound(seldom)]
    assert bounds[0] > 1.5 * bounds[1]
    assert worst_attack_bound([seldom, often, seldom]) == bounds[0]
    assert worst_attack_bound([seldom]) == bounds[1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("release", [R(0.3, 1.0, 100), R(0.03), R(3.0, 1.0, 10_200)], ids=str)
def test_where_exp_of_epsilon_is_past_all_floats_nothing_is_promised(release: Release) -> None:
    assert 600 < epsilon_of([release], 1e-5) < 1_000
    assert attack_bound([release]) == worst_attack_bound([[release], [R(5.0)]]) == 1
    assert delta_of([release], 720.0) == 1
