"""The aggregation rules against hand-worked examples, NumPy and SciPy, and against liars."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import trim_mean
from torch import Tensor

from fedlens.errors import ConfigError
from fedlens.federated import AGGREGATIONS, CoordinateMedian, Krum, Mean, TrimmedMean
from fedlens.federated.aggregation import BLOCK, Aggregation, build_aggregation

ROBUST = [CoordinateMedian(), TrimmedMean(), Krum(), Krum(keep=None)]


def column(*values: float) -> list[Tensor]:
    """Vectors of one coordinate."""
    return [torch.tensor([value], dtype=torch.float64) for value in values]


def apply(rule: Aggregation, rows) -> np.ndarray:
    """The rule on the rows of an array, all of weight 1."""
    return rule([torch.from_numpy(np.array(row)) for row in rows], [1.0] * len(rows)).numpy()


def whole_numbers(most_rows: int = 7, least_rows: int = 1, reach: int = 50):
    """Arrays (n, P) of whole numbers in float64, whose sums and differences are exact."""
    shapes = st.tuples(st.integers(least_rows, most_rows), st.integers(1, 4))
    elements = st.integers(-reach, reach).map(float)
    return shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=elements))


def krum_scores(rows: np.ndarray, neighbours: int) -> list[float]:
    """Blanchard et al. 2017, section 4, word for word."""
    scores = []
    for i, row in enumerate(rows):
        gaps = sorted(float(((row - rows[j]) ** 2).sum()) for j in range(len(rows)) if j != i)
        scores.append(sum(gaps[:neighbours]))
    return scores


# by hand


def test_the_mean_counts_by_weight() -> None:
    assert float(Mean()(column(1.0, 5.0), [3.0, 1.0])) == 2.0


def test_the_median_by_hand() -> None:
    vectors = [torch.tensor(row) for row in ([1.0, 9.0], [7.0, -2.0], [3.0, 4.0])]
    assert CoordinateMedian()(vectors, [1.0] * 3).tolist() == [3.0, 4.0]
    # of an even number, the mean of the middle two: (3 + 7) / 2 and (4 + 5) / 2
    assert CoordinateMedian()([*vectors, torch.tensor([8.0, 5.0])], [1.0] * 4).tolist() == [5, 4.5]


def test_the_trimmed_mean_by_hand() -> None:
    values = column(100.0, 2.0, -50.0, 3.0, 7.0)
    # a fifth of five at either end: -50 and 100 go, (2 + 3 + 7) / 3 stays
    assert float(TrimmedMean(0.2)(values, [1.0] * 5)) == 4.0
    # 0.21 of five is more than one: two go at either end
    assert float(TrimmedMean(0.21)(values, [1.0] * 5)) == 3.0
    assert float(TrimmedMean(0.0)(values, [1.0] * 5)) == pytest.approx(62 / 5)


def test_each_coordinate_is_trimmed_by_itself() -> None:
    rows = [[0.0, 5.0], [1.0, 100.0], [50.0, 6.0], [2.0, -9.0], [3.0, 7.0]]
    assert apply(TrimmedMean(0.2), rows).tolist() == [2.0, 6.0]


def test_krum_by_hand() -> None:
    """Values 0, 1, 3, 4, 100; f = 1, so that each counts its 5 - 1 - 2 = 2 nearest.

    Squared gaps: 0 has 1 + 9 = 10, 1 has 1 + 4 = 5, 3 has 1 + 4 = 5, 4 has 1 + 9 = 10, and 100 has
    96^2 + 97^2. Of the two fives the earlier is taken.
    """
    values = column(0.0, 1.0, 3.0, 4.0, 100.0)
    assert Krum(0.2).chosen(values) == [1]
    assert float(Krum(0.2)(values, [1.0] * 5)) == 1.0
    assert float(Krum(0.2)(values[::-1], [1.0] * 5)) == 3.0
    assert Krum(0.2, keep=2).chosen(values) == [1, 2]
    assert Krum(0.2, keep=3).chosen(values) == [0, 1, 2]
    # n - f = 4 of them: (0 + 1 + 3 + 4) / 4
    assert Krum(0.2, keep=None).chosen(values) == [0, 1, 2, 3]
    assert float(Krum(0.2, keep=None)(values, [1.0] * 5)) == 2.0
    assert Krum(0.2, keep=99).chosen(values) == [0, 1, 2, 3, 4]


def test_krum_returns_a_whole_vector_where_the_median_mixes() -> None:
    rows = [[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [1.0, 2.0], [90.0, 90.0]]
    # two nearest each: 5 + 2, 1 + 5, 8 + 5, 1 + 2 (from (1, 1) and (0, 3)), far
    assert apply(Krum(0.2), rows).tolist() == [1.0, 2.0]
    assert apply(CoordinateMedian(), rows).tolist() == [1.0, 2.0]
    rows[3] = [2.0, 2.0]
    # now 5 + 5, 2 + 5, 5 + 5, 2 + 5: the earlier seven; the median is nobody's vector
    assert apply(Krum(0.2), rows).tolist() == [1.0, 1.0]
    assert apply(CoordinateMedian(), rows).tolist() == [2.0, 2.0]


def test_the_number_of_liars_is_rounded_up() -> None:
    """f = 2 of 6 at 0.2: two neighbours, where f = 1 would make them three."""
    values = column(0.0, 1.0, 2.2, 10.0, 12.0, 13.5)
    # two nearest: 1 + 4.84, 1 + 1.44, 1.44 + 4.84, 4 + 12.25, 4 + 2.25, 2.25 + 12.25
    assert Krum(0.2, keep=None).chosen(values) == [0, 1, 2, 4]
    assert Krum(1 / 6, keep=None).chosen(values) != [0, 1, 2, 4]


def test_a_share_that_is_a_whole_number_is_not_rounded_up_by_the_last_bit() -> None:
    assert 0.28 * 25 > 7
    values = [2.0**k for k in range(25)]
    assert float(TrimmedMean(0.28)(column(*values), [1.0] * 25)) == pytest.approx(
        (2**18 - 2**7) / 11
    )
    assert len(Krum(0.28, keep=None).chosen(column(*values))) == 18


# few vectors


@pytest.mark.parametrize("rule", ROBUST, ids=str)
def test_one_vector_is_returned_as_it_is(rule) -> None:
    vector = torch.tensor([0.1, -3.0, 7e30], dtype=torch.float64)
    assert torch.equal(rule([vector], [5.0]), vector)


@pytest.mark.parametrize(
    ("rule", "two", "three"),
    [
        # two: nothing can be told of who lies; three: 10 is the middle, 10 and 11 are close
        (CoordinateMedian(), 5.5, 10.0),
        (TrimmedMean(0.0), 5.5, 22 / 3),
        (TrimmedMean(0.2), 5.5, 10.0),
        (TrimmedMean(0.49), 5.5, 10.0),
        (Krum(0.0), 1.0, 10.0),
        (Krum(0.2), 1.0, 10.0),
        (Krum(0.49), 1.0, 10.0),
        (Krum(0.2, keep=None), 1.0, 10.5),
        (Krum(0.0, keep=None), 5.5, 22 / 3),
    ],
    ids=str,
)
def test_two_and_three_vectors(rule, two, three) -> None:
    assert float(rule(column(1.0, 10.0), [1.0] * 2)) == two
    assert float(rule(column(1.0, 10.0, 11.0), [1.0] * 3)) == pytest.approx(three)


# against NumPy and SciPy


@given(whole_numbers())
@settings(max_examples=60, deadline=None)
def test_the_median_is_numpys(rows) -> None:
    assert np.array_equal(apply(CoordinateMedian(), rows), np.median(rows, axis=0))


@pytest.mark.parametrize(("trim", "count"), [(0.0, 6), (0.2, 5), (0.25, 8), (0.4, 10), (0.28, 25)])
def test_the_trimmed_mean_is_scipys_where_the_cut_is_a_whole_number(trim, count) -> None:
    """SciPy rounds the number that is cut down, we round it up."""
    rows = np.random.default_rng(count).standard_normal((count, 40))
    np.testing.assert_allclose(
        apply(TrimmedMean(trim), rows), trim_mean(rows, trim, axis=0), rtol=1e-12
    )


@given(whole_numbers(most_rows=8, least_rows=3), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.49]))
@settings(max_examples=60, deadline=None)
def test_krum_keeps_the_least_scores(rows, share) -> None:
    count = len(rows)
    liars = math.ceil(round(share * count, 6))
    scores = krum_scores(rows, max(1, count - liars - 2))
    vectors = [torch.from_numpy(row) for row in rows]
    by_score = sorted(range(count), key=lambda k: (scores[k], k))  # the earlier of equals
    for keep in (1, 2, None):
        expected = sorted(by_score[: keep or count - liars])
        assert Krum(share, keep).chosen(vectors) == expected
        np.testing.assert_allclose(
            apply(Krum(share, keep), rows), rows[expected].mean(0), rtol=1e-12, atol=1e-12
        )


def test_vectors_longer_than_a_block() -> None:
    rows = np.random.default_rng(1).standard_normal((5, 2 * BLOCK + 7))
    assert np.array_equal(apply(CoordinateMedian(), rows), np.median(rows, axis=0))
    trimmed = np.sort(rows, axis=0)[1:-1].mean(0)
    np.testing.assert_allclose(apply(TrimmedMean(0.2), rows), trimmed, rtol=0, atol=1e-14)
    best = int(np.argmin(krum_scores(rows, 2)))
    assert np.array_equal(apply(Krum(0.2), rows), rows[best])
    # a multiple of the block has no empty rest
    even = rows[:, :BLOCK]
    assert np.array_equal(apply(CoordinateMedian(), even), np.median(even, axis=0))


# what no rule depends on


@given(whole_numbers(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_clients_is_of_no_account(rows, random) -> None:
    order = random.sample(range(len(rows)), len(rows))
    for rule in (CoordinateMedian(), TrimmedMean(), TrimmedMean(0.4), TrimmedMean(0.0)):
        assert np.array_equal(apply(rule, rows), apply(rule, rows[order]))


@given(whole_numbers(least_rows=5, reach=1000), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_decides_in_krum_only_between_equal_scores(rows, random) -> None:
    count = len(rows)
    scores = krum_scores(rows, count - math.ceil(count / 5) - 2)
    assume(len(set(scores)) == count)
    order = random.sample(range(count), count)
    for rule in (Krum(), Krum(keep=2), Krum(keep=None)):
        vectors = [torch.from_numpy(row) for row in rows]
        shuffled = [vectors[k] for k in order]
        assert {order[k] for k in rule.chosen(shuffled)} == set(rule.chosen(vectors))
        np.testing.assert_allclose(
            apply(rule, rows), apply(rule, rows[order]), rtol=1e-12, atol=1e-9
        )


@given(whole_numbers(), st.data())
@settings(max_examples=60, deadline=None)
def test_the_origin_is_of_no_account(rows, data) -> None:
    """Weights or updates: the rule of v + s is the rule of v, plus s."""
    elements = st.integers(-1000, 1000).map(float)
    shift = data.draw(hnp.arrays(np.float64, rows.shape[1], elements=elements))
    for rule in (Mean(), *ROBUST):
        np.testing.assert_allclose(
            apply(rule, rows + shift), apply(rule, rows) + shift, rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("rule", ROBUST, ids=str)
def test_a_liar_gains_nothing_by_claiming_examples(rule) -> None:
    values = column(1.0, 2.0, 3.0, 4.0, 1000.0)
    assert torch.equal(rule(values, [1.0] * 5), rule(values, [1.0, 1.0, 1.0, 1.0, 1e12]))
    # which the mean does not withstand
    assert float(Mean()(values, [1.0, 1.0, 1.0, 1.0, 1e12])) > 999


@pytest.mark.parametrize("rule", [Mean(), *ROBUST], ids=str)
def test_the_given_vectors_are_not_changed(rule) -> None:
    values = column(5.0, 1.0, 4.0, 2.0, 3.0)
    rule(values, [1.0] * 5)
    assert [float(value) for value in values] == [5.0, 1.0, 4.0, 2.0, 3.0]


@pytest.mark.parametrize("rule", [Mean(), *ROBUST], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_result_is_in_double_precision(rule, dtype, count) -> None:
    result = rule([torch.arange(4, dtype=dtype) + k for k in range(count)], [1.0] * count)
    assert result.dtype == torch.float64
    assert result.shape == (4,)


def test_values_are_averaged_in_double_precision() -> None:
    """1 + 2^-24 lies between two neighbours in float32."""
    pair = [torch.tensor([1.0]), torch.tensor([1.0 + 2**-23])]
    for rule in (CoordinateMedian(), TrimmedMean(0.0), Krum(0.0, keep=None)):
        assert float(rule(pair, [1.0] * 2)) == 1 + 2**-24
    # 2^24 + 1 + 1 in float32 would stay 2^24
    lone = [torch.tensor([3.0 * 2**24]), torch.tensor([3.0]), torch.tensor([3.0])]
    assert float(TrimmedMean(0.0)(lone, [1.0] * 3)) == 2**24 + 2


# liars


@st.composite
def with_liars(draw, most_liars, least: int = 3, most: int = 11):
    """(rows, which of them are honest): honest values are small, liars' anything at all."""
    count = draw(st.integers(least, most))
    liars = draw(st.integers(0, most_liars(count)))
    length = draw(st.integers(1, 3))
    anything = st.sampled_from([1e30, -1e30, 1e5, -1e5, 0.0, 11.0, -11.0])
    rows = draw(hnp.arrays(np.float64, (count, length), elements=st.integers(-10, 10).map(float)))
    who = draw(st.permutations(range(count)))[:liars]
    for liar in who:
        rows[liar] = draw(hnp.arrays(np.float64, length, elements=anything))
    honest = np.ones(count, dtype=bool)
    honest[who] = False
    return rows, honest


def check_range(result, honest_rows) -> None:
    # of whole numbers the mean is rounded once, and rounding leaves no interval of whole ends
    assert (result >= honest_rows.min(0)).all()
    assert (result <= honest_rows.max(0)).all()


@given(with_liars(lambda count: (count - 1) // 2))
@settings(max_examples=100, deadline=None)
def test_a_minority_cannot_move_the_median_out_of_the_honest_range(drawn) -> None:
    rows, honest = drawn
    check_range(apply(CoordinateMedian(), rows), rows[honest])


@pytest.mark.parametrize("trim", [0.1, 0.2, 0.34, 0.49])
def test_a_share_of_trim_cannot_move_the_trimmed_mean_out_of_the_honest_range(trim) -> None:
    # of two there is no middle; from three on, as many as the share rounded up
    liars = with_liars(lambda count: min(math.ceil(round(trim * count, 6)), (count - 1) // 2))

    @given(liars)
    @settings(max_examples=60, deadline=None)
    def check(drawn) -> None:
        rows, honest = drawn
        check_range(apply(TrimmedMean(trim), rows), rows[honest])

    check()


def test_one_liar_moves_the_mean_anywhere() -> None:
    """What the tests above would show of a rule that does not resist."""
    rows = [[1.0], [2.0], [3.0], [4.0], [1e30]]
    assert apply(Mean(), rows)[0] > 1e29
    assert apply(TrimmedMean(0.0), rows)[0] > 1e29
    assert apply(TrimmedMean(0.2), [*rows[:4], [1e30], [1e30], [1e30]])[0] > 1e29


@st.composite
def far_liars(draw):
    """(share, rows, liars): n > 2f + 2, up to f liars far from the honest, together or apart."""
    share = draw(st.sampled_from([0.1, 0.2, 0.3, 0.4]))
    possible = [n for n in range(4, 16) if n > 2 * math.ceil(round(share * n, 6)) + 2]
    count = draw(st.sampled_from(possible))
    most = math.ceil(round(share * count, 6))
    rows = draw(hnp.arrays(np.float64, (count, 2), elements=st.integers(-10, 10).map(float)))
    liars = draw(st.permutations(range(count)))[: draw(st.integers(1, most))]
    together = draw(st.booleans())
    size = draw(st.sampled_from([1e3, 1e9, 1e30, 1e200]))
    for number, liar in enumerate(liars):
        rows[liar] = size * (1.0 if together else (-1.0) ** number * (1 + number))
    return share, rows, set(liars)


@given(far_liars())
@settings(max_examples=150, deadline=None)
def test_krum_never_chooses_a_liar(drawn) -> None:
    share, rows, liars = drawn
    vectors = [torch.from_numpy(row) for row in rows]
    for keep in (1, 2, None):
        assert not liars & set(Krum(share, keep).chosen(vectors))


def test_krum_needs_more_than_twice_the_liars_and_two() -> None:
    """Two who agree among five (2f + 2 = 6) have each other as the one neighbour that counts."""
    values = column(1.0, 2.0, 3.5, 900.0, 900.0)
    assert Krum(0.4).chosen(values) == [3]
    assert Krum(0.4).chosen(column(1.0, 2.0, 3.5, 5.0, 7.0, 900.0, 900.0)) != [5]


# by name


def test_rules_are_built_by_name() -> None:
    assert build_aggregation("mean") == Mean()
    assert build_aggregation("median", trim=None, byzantine=None) == CoordinateMedian()
    assert build_aggregation("trimmed-mean", trim=0.3) == TrimmedMean(0.3)
    assert build_aggregation("trimmed-mean", trim=None) == TrimmedMean(0.2)
    assert build_aggregation("krum", byzantine=0.3) == Krum(0.3, keep=1)
    assert build_aggregation("multi-krum", byzantine=0.3) == Krum(0.3, keep=None)
    assert build_aggregation("multi-krum") == Krum(0.2, keep=None)


def test_an_unknown_rule_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"federation\.aggregation is 'mode'") as caught:
        build_aggregation("mode")
    assert all(name in str(caught.value) for name in AGGREGATIONS)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mean", {"trim": 0.1}),
        ("median", {"byzantine": 0.1}),
        ("trimmed-mean", {"byzantine": 0.1}),
        ("krum", {"trim": 0.1}),
        ("multi-krum", {"byzantine": 0.1, "trim": 0.0}),
        ("multi-krum", {"keep": 3}),
    ],
)
def test_a_setting_that_the_rule_does_not_take_is_refused(name, settings) -> None:
    key = next(key for key in settings if key != "byzantine" or name in ("median", "trimmed-mean"))
    with pytest.raises(ConfigError, match=rf"federation\.{key} is set.*'{name}' does not take it"):
        build_aggregation(name, **settings)


@pytest.mark.parametrize("value", [-0.1, 0.5, 1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("name", "key"), [("trimmed-mean", "trim"), ("krum", "byzantine"), ("multi-krum", "byzantine")]
)
def test_impossible_shares_are_refused(name, key, value) -> None:
    with pytest.raises(ConfigError, match=rf"federation\.{key} is {value}"):
        build_aggregation(name, **{key: value})


@pytest.mark.parametrize("keep", [0, -1])
def test_krum_keeps_at_least_one(keep) -> None:
    with pytest.raises(ConfigError, match=f"keeps {keep} vectors"):
        Krum(keep=keep)
