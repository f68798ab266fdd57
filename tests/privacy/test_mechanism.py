"""The mechanism: what it charges is what it samples and adds, worked out by hand."""

import itertools
import math
from dataclasses import replace

import pytest

from fedlens.errors import ConfigError
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.adaptive_clip import AdaptiveClip
from fedlens.privacy.mechanism import ADD_OR_REMOVE, REPLACE, ZERO_OUT, Mechanism
from fedlens.privacy.releases import Release
from fedlens.privacy.schedule import NoiseSchedule

DP_SGD = Mechanism("example", 60_000, 600, 0.5, 2.0, periods=3, steps=100)
CLIENTS = Mechanism("client", 1000, 100, 0.5, 2.0, periods=4)


def test_examples_by_poisson_sampling() -> None:
    assert DP_SGD.rate == 0.01 and DP_SGD.noise_std(0) == 1.0
    assert DP_SGD.plan() == [Release(2.0, 0.01, 100)] * 3
    assert DP_SGD.plan(1) == [Release(2.0, 0.01, 100)]
    assert DP_SGD.relation == ADD_OR_REMOVE


def test_shuffled_batches_are_charged_once_an_epoch_and_not_amplified() -> None:
    shuffled = replace(DP_SGD, sampling="fixed")
    assert shuffled.plan() == [Release(2.0, 1.0, 1)] * 3
    assert shuffled.relation == ZERO_OUT
    cohort = replace(CLIENTS, sampling="fixed")
    assert cohort.plan() == [Release(2.0, 1.0, 1)] * 4


def test_where_the_noise_is_added() -> None:
    assert CLIENTS.plan() == [Release(2.0, 0.1, 1)] * 4 and CLIENTS.noise_std(0) == 1.0
    local = replace(CLIENTS, placement="local")
    # each client's own vector: std s C, two of length C differ by up to 2 C, nobody is hidden
    assert local.noise_std(0) == 1.0 and local.plan() == [Release(1.0, 1.0, 1)] * 4
    assert local.relation == REPLACE
    shared = replace(CLIENTS, placement="distributed", least=64)
    assert shared.noise_std(0) == 1.0 / 8 and shared.plan() == CLIENTS.plan()
    # 64 shares add up to the server's noise, more to more
    assert math.sqrt(64) * shared.noise_std(0) == CLIENTS.noise_std(0)


def test_the_schedule_falls_as_it_says() -> None:
    def factors(shape: str, periods: int, **more: float) -> list[float]:
        schedule = NoiseSchedule(shape, **more)
        return [schedule.factor(period, periods) for period in range(periods)]

    assert factors("constant", 3) == [1, 1, 1]
    assert factors("linear", 5, end=0.2) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert factors("exponential", 3, end=0.25) == pytest.approx([1, 0.5, 0.25])
    assert factors("cosine", 3, end=0.5) == pytest.approx([1, 0.75, 0.5])
    assert factors("step", 4, end=0.25, stairs=2) == pytest.approx([1, 1, 0.25, 0.25])
    assert factors("step", 6, end=0.25, stairs=3) == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    for shape in ("linear", "exponential", "cosine", "step"):
        assert factors(shape, 1) == [1]
        many = factors(shape, 40, end=0.3)
        assert many[0] == 1 and many[-1] == pytest.approx(0.3)
        assert all(a >= b for a, b in itertools.pairwise(many))


def test_a_schedule_is_charged_as_it_is_added() -> None:
    falling = replace(DP_SGD, schedule=NoiseSchedule("linear", end=0.5))
    assert falling.plan() == [
        Release(2.0, 0.01, 100),
        Release(1.5, 0.01, 100),
        Release(1.0, 0.01, 100),
    ]
    for period, release in enumerate(falling.plan()):
        assert falling.noise_std(period) == release.noise_multiplier * falling.clip_norm


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"unit": "patient"}, "example, client"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"clip_norm": math.inf}, "clip_norm"),
        ({"noise_multiplier": -1.0}, "noise_multiplier"),
        ({"noise_multiplier": math.nan}, "noise_multiplier"),
        ({"expected": 0}, "expected at least 1"),
        ({"expected": 60_001}, "at most all"),
        ({"periods": 0}, "at least one step"),
        ({"steps": 0}, "at least one step"),
        ({"sampling": "shuffled"}, "poisson, fixed"),
        ({"placement": "cloud"}, "server, local, distributed"),
        ({"placement": "local"}, "client-level"),
        ({"unit": "client", "placement": "distributed"}, "honest clients"),
        ({"unit": "client", "placement": "distributed", "least": 601}, "honest clients"),
    ],
)
def test_a_mechanism_that_cannot_be_is_one_sentence(values, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(DP_SGD, **values)


@pytest.mark.parametrize(
    "values", [{"shape": "steep"}, {"end": 0.0}, {"end": 1.5}, {"shape": "step", "stairs": 1}]
)
def test_a_schedule_that_cannot_be_is_one_sentence(values) -> None:
    with pytest.raises(ConfigError, match="expected"):
        NoiseSchedule(**values)


# --- adaptive clipping


@pytest.mark.parametrize("start", [1e-2, 0.5, 1.0, 1e2])
def test_the_clip_norm_walks_to_the_quantile_from_either_side(start: float) -> None:
    """Lengths 0.01 .. 1: with the sign turned round, C would run away to 0 or to infinity."""
    lengths = [n / 100 for n in range(1, 101)]
    rule = AdaptiveClip(quantile=0.7, rate=0.2)
    clip = start
    for _ in range(300):
        count = sum((length <= clip) - 0.5 for length in lengths)
        clip = rule.next_clip(clip, count, expected=100)
    assert clip == pytest.approx(0.7, abs=0.02)


def test_one_step_of_the_clip_norm_by_hand() -> None:
    # 30 of 40 are short enough: share 0.75, too many for the quantile 0.5: C exp(-0.2 * 0.25)
    rule = AdaptiveClip(quantile=0.5, rate=0.2)
    assert rule.next_clip(2.0, 30 * 0.5 - 10 * 0.5, 40) == pytest.approx(2.0 * math.exp(-0.05))


def test_the_count_is_paid_for() -> None:
    """A sum with z_sum and a count of sensitivity 1/2 with sigma_b cost one release with z."""
    rule = AdaptiveClip(count_noise=5.0)
    z_sum = rule.sum_multiplier(1.0)
    assert z_sum == pytest.approx(1 / math.sqrt(1 - 1 / 100))
    both = [Release(z_sum), Release(5.0 / 0.5)]
    assert epsilon_of(both, 1e-5) == pytest.approx(epsilon_of([Release(1.0)], 1e-5), rel=1e-3)
    with pytest.raises(ConfigError, match="the count alone"):
        AdaptiveClip(count_noise=0.5).sum_multiplier(1.0)


@pytest.mark.parametrize("values", [{"quantile": 1.1}, {"rate": 0.0}, {"count_noise": 0.0}])
def test_an_adaptive_clip_that_cannot_be_is_one_sentence(values) -> None:
    with pytest.raises(ConfigError, match="expected"):
        AdaptiveClip(**values)
