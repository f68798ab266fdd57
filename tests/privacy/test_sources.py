"""The random sources. Statistical tests are seeded: they always give the same answer."""

import copy
import math
import multiprocessing
import os
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from fedlens.errors import ConfigError
from fedlens.privacy import sources
from fedlens.privacy.sources import RandomSource, SecureSource, SeededSource
from fedlens.randomness import Purpose, generator

BOTH = pytest.mark.parametrize(
    "source", [SecureSource(), SeededSource(1)], ids=["secure", "seeded"]
)


@BOTH
def test_what_comes_out_has_the_size_and_type_that_was_asked_for(source: RandomSource) -> None:
    for count in (0, 1, 7, 8, 1001):
        assert len(source.bytes(count)) == count
        assert source.uniform64(count).shape == (count,)
        assert source.uniform64(count).dtype == np.uint64
        for dtype in (torch.float32, torch.float64):
            noise = source.gaussian(count, 2.0, dtype)
            assert noise.shape == (count,)
            assert noise.dtype == dtype
    assert source.gaussian(5, 0.0).abs().tolist() == [0.0] * 5
    assert source.description


def test_who_guarantees_and_who_does_not() -> None:
    assert SecureSource().guarantee
    assert not SeededSource(1).guarantee
    assert "no guarantee" in SeededSource(1).description


@BOTH
def test_impossible_values_are_refused(source: RandomSource) -> None:
    for std in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="standard deviation"):
            source.gaussian(3, std)
    for rate in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match="sampling rate"):
            source.poisson_sample(3, rate)
    for draw in (
        lambda: source.bytes(-1),
        lambda: source.uniform64(-1),
        lambda: source.gaussian(-1, 1.0),
        lambda: source.poisson_sample(-1, 0.5),
    ):
        with pytest.raises(ConfigError, match="-"):
            draw()
    with pytest.raises(ConfigError, match="float16"):
        source.gaussian(3, 1.0, torch.float16)


# --- streams ---------------------------------------------------------------------------------------


def test_two_secure_sources_differ() -> None:
    assert SecureSource().bytes(32) != SecureSource().bytes(32)  # equal by chance: 2^-256


def test_a_copy_of_a_secure_source_is_another_one() -> None:
    source = SecureSource()
    for other in (copy.copy(source), copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert other.bytes(32) != source.bytes(32)


def test_the_key_is_replaced_and_nothing_is_lost_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "KEY_LIFE", 100)
    monkeypatch.setattr(os, "urandom", lambda count: bytes(count))  # the same key again and again
    drawn = SecureSource().bytes(250)
    assert drawn[:100] == drawn[100:200]
    assert drawn[200:] == drawn[:50]
    assert len(set(drawn[:100])) > 50


def forked_bytes(source: SecureSource) -> bytes:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, source.bytes(32))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read()


def test_a_forked_child_does_not_repeat_its_parent() -> None:
    source = SecureSource()
    source.bytes(8)
    children = [forked_bytes(source) for _ in range(3)]
    assert all(len(drawn) == 32 for drawn in children)
    assert len({*children, source.bytes(32)}) == 4


def test_nor_does_one_that_has_its_parents_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # both are the first of their container
    source = SecureSource()
    assert forked_bytes(source) != source.bytes(32)


def test_a_change_of_process_is_seen_without_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    source = SecureSource()
    stream = source._stream
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork that Python did not make
    source.bytes(1)
    assert source._stream is not stream


def test_a_forked_worker_does_not_repeat_either() -> None:
    source = SecureSource()
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        drawn = pool.map(source.__class__.bytes.__get__(source), [32, 32], chunksize=1)
    assert len({*drawn, source.bytes(32)}) == 3


def test_a_seeded_source_repeats_itself() -> None:
    first, second = SeededSource(5, 1, 2), SeededSource(5, 1, 2)
    assert first.bytes(100) == second.bytes(100)
    assert torch.equal(first.gaussian(1001, 2.0), second.gaussian(1001, 2.0))
    assert first.poisson_sample(1000, 0.1).tolist() == second.poisson_sample(1000, 0.1).tolist()


def test_every_seed_and_path_has_a_stream_of_its_own() -> None:
    # trailing zeros and large seeds are where NumPy's seeds collide
    paths = [(0,), (1,), (1, 0), (1, 0, 0), (1, 1), (1, 0, 1), (1, 1, 0), (2**32,), (2**64, 1)]
    drawn = {SeededSource(*path).bytes(16) for path in paths}
    drawn.add(generator(1, Purpose.MODEL).bit_generator.random_raw(2).tobytes())
    assert len(drawn) == len(paths) + 1


def test_streams_of_two_paths_are_uncorrelated() -> None:
    one = SeededSource(1, 0).gaussian(100_000, 1.0)
    other = SeededSource(1, 1).gaussian(100_000, 1.0)
    assert abs(float((one * other).mean())) < 5 / math.sqrt(100_000)


@pytest.mark.parametrize("seed_and_path", [(-1,), (2**128,), (1, -1), (1, 2**32)])
def test_seeds_that_would_collide_are_refused(seed_and_path: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"expected (a )?whole number"):
        SeededSource(*seed_and_path)


# --- Gaussian noise --------------------------------------------------------------------------------


def test_the_noise_is_gaussian() -> None:
    noise = SeededSource(2).gaussian(1_000_001, 3.0, torch.float64).numpy() / 3.0
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(noise.mean()) < 5e-3
    # the sum of squares is chi-square with as many degrees of freedom
    assert 1e-3 < stats.chi2.cdf((noise**2).sum(), len(noise)) < 1 - 1e-3
    assert abs(stats.kurtosis(noise)) < 0.025
    # both halves of a pair, and their joint behaviour
    half = len(noise) // 2
    assert abs(np.corrcoef(noise[:half], noise[-half:])[0, 1]) < 5 / math.sqrt(half)
    assert abs(np.corrcoef(noise[:half] ** 2, noise[-half:] ** 2)[0, 1]) < 5 / math.sqrt(half)


def test_the_tail_is_as_heavy_as_it_should_be() -> None:
    noise = SeededSource(3).gaussian(4_000_000, 1.0, torch.float64).abs().numpy()
    for level in (3.0, 4.0, 4.75):
        expected = len(noise) * 2 * stats.norm.sf(level)
        assert abs((noise > level).sum() - expected) < 5 * math.sqrt(expected) + 1


class Extreme(SeededSource):
    """Every word is the same."""

    def __init__(self, word: int) -> None:
        super().__init__(0)
        self.word = word

    def uniform64(self, count: int) -> np.ndarray:
        return np.full(count, self.word, dtype=np.uint64)


def test_the_words_that_could_give_infinity_do_not() -> None:
    for word in (0, 1, 2**63, 2**64 - 1):
        assert torch.isfinite(Extreme(word).gaussian(4, 1.0)).all()
    # where the tail is cut: sqrt(2 ln 2^65)
    largest = float(Extreme(0).gaussian(2, 1.0, torch.float64)[0])
    assert math.isclose(largest, math.sqrt(2 * 65 * math.log(2)))
    assert 2 * stats.norm.sf(largest) < 2.5e-21


def test_the_noise_does_not_depend_on_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = SeededSource(4).gaussian(200_001, 1.0)
        torch.set_num_threads(2)
        two = SeededSource(4).gaussian(200_001, 1.0)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, two)


def test_the_secure_noise_has_its_size() -> None:
    # unseeded: the sum of squares is off by 5.5 of its standard deviations with probability < 1e-7
    noise = SecureSource().gaussian(1_000_000, 2.0, torch.float64) / 2
    assert abs(float((noise**2).mean()) - 1) < 5.5 * math.sqrt(2 / len(noise))


# --- Poisson sampling ------------------------------------------------------------------------------


def test_a_sample_is_sorted_positions_without_repeats() -> None:
    sample = SeededSource(6).poisson_sample(10_000, 0.3)
    assert sample.dtype == np.int64
    assert (np.diff(sample) > 0).all()
    assert sample[0] >= 0 and sample[-1] < 10_000


def test_the_ends_of_the_range() -> None:
    source = SeededSource(7)
    assert source.poisson_sample(100, 0.0).tolist() == []
    assert source.poisson_sample(0, 0.5).tolist() == []
    for whole in (1.0, 1, Fraction(1)):
        assert source.poisson_sample(100, whole).tolist() == list(range(100))


def test_each_member_comes_equally_often_and_the_size_is_binomial() -> None:
    population, rate, rounds = 60, 0.15, 20_000
    source = SeededSource(8)
    samples = [source.poisson_sample(population, rate) for _ in range(rounds)]
    times = np.bincount(np.concatenate(samples), minlength=population)
    deviation = math.sqrt(rounds * rate * (1 - rate))
    assert (np.abs(times - rounds * rate) < 5 * deviation).all()
    # chi-square over members: independent binomials
    spread = ((times - rounds * rate) ** 2).sum() / deviation**2
    assert 1e-3 < stats.chi2.cdf(spread, population) < 1 - 1e-3
    # the size is not fixed: binomial
    sizes = np.bincount([len(sample) for sample in samples], minlength=population + 1)
    expected = rounds * stats.binom.pmf(np.arange(population + 1), population, rate)
    many = expected >= 5
    observed = np.append(sizes[many], sizes[~many].sum())
    wanted = np.append(expected[many], expected[~many].sum())
    assert stats.chisquare(observed, wanted).pvalue > 1e-3
    # two members are independent
    both = sum(1 for sample in samples if {3, 4} <= set(sample.tolist()))
    assert abs(both - rounds * rate**2) < 5 * math.sqrt(rounds * rate**2)


def test_the_secure_sample_has_its_rate() -> None:
    # unseeded: 5.5 standard deviations, false alarm below 1e-7
    size = len(SecureSource().poisson_sample(1_000_000, 0.25))
    assert abs(size - 250_000) < 5.5 * math.sqrt(1_000_000 * 0.25 * 0.75)


@pytest.mark.parametrize("rate", [0.1, 1 / 3, 2048 / 60_000, 2.0**-12, Fraction(1, 3)])
def test_the_threshold_is_exact_to_the_last_word(rate: float | Fraction) -> None:
    threshold = math.floor(Fraction(rate) * 2**64)
    assert Extreme(threshold - 1).poisson_sample(3, rate).tolist() == [0, 1, 2]
    assert Extreme(threshold).poisson_sample(3, rate).tolist() == []
    missing = Fraction(rate) - Fraction(threshold, 2**64)
    assert 0 <= missing < Fraction(1, 2**64)
    if isinstance(rate, float):
        assert missing == 0


def test_tiny_rates_are_never_rounded_up() -> None:
    assert Extreme(0).poisson_sample(3, 2.0**-65).tolist() == []
    just_below = math.nextafter(1.0, 0.0)
    assert Extreme(2**64 - 1).poisson_sample(3, just_below).tolist() == []


def test_a_large_population_is_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SeededSource(9).poisson_sample(10_000, 0.2)
    monkeypatch.setattr(sources, "CHUNK", 1000)
    assert SeededSource(9).poisson_sample(10_000, 0.2).tolist() == whole.tolist()
