import numpy as np
import pytest
from scipy.stats import friedmanchisquare, rankdata

from fedlens.errors import ExplanationError
from fedlens.explain.metrics import concordance, places, rank_methods

NAN = float("nan")


def rank(figures, higher=None, **given):
    figures = {name: np.array(values, dtype=float) for name, values in figures.items()}
    higher = dict.fromkeys(figures, True) if higher is None else higher
    return rank_methods(figures, higher, generator=np.random.default_rng(0), **given)


def test_by_hand():
    found = rank(
        {"area": [[0.1, 0.3], [0.5, 0.5], [0.2, 0.2]], "gap": [[9, 9], [5, 7], [6, 6]]},
        {"area": False, "gap": True},
    )
    assert found.metrics == ("area", "gap")
    np.testing.assert_allclose(found.means, [[0.2, 9], [0.5, 6], [0.2, 6]])
    assert found.ranks.tolist() == [[1.5, 1], [3, 2.5], [1.5, 2.5]]
    assert found.mean_rank.tolist() == [1.25, 2.75, 2]
    assert (found.low <= found.mean_rank).all() and (found.mean_rank <= found.high).all()


def test_places_equal_scipy(rand):
    scores = rand(7, 5).numpy().round(1)
    assert places(scores).tolist() == rankdata(-scores, axis=0).tolist()
    scores[2:4, 1] = NAN
    assert places(scores)[2:4, 1].tolist() == [6.5, 6.5]


def test_concordance():
    ranks = np.array([[1.0, 1, 1], [2, 2, 2], [3, 3, 3]])
    assert concordance(ranks) == 1
    assert concordance(np.array([[1.0, 3], [2, 2], [3, 1]])) == 0
    # W is Friedman's statistic over K (M - 1), ties corrected.
    table = np.random.default_rng(1).random((5, 6)).round(1)
    expected = friedmanchisquare(*table).statistic / (6 * 4)
    assert concordance(rankdata(table, axis=0)) == pytest.approx(expected)
    assert np.isnan(concordance(np.ones((1, 3)))) and np.isnan(concordance(np.full((2, 3), 1.5)))


def test_how_sure_the_order_is():
    noise = np.random.default_rng(2).normal(size=(3, 200))
    apart = noise + np.array([[0], [5], [10]])
    clear = rank({"a": apart, "b": apart})
    assert clear.mean_rank.tolist() == [3, 2, 1]
    assert clear.low.tolist() == clear.high.tolist() == [3, 2, 1]
    assert clear.kept.tolist() == [1, 1, 1] and clear.concordance == 1
    unclear = rank({"a": noise})
    assert (unclear.kept < 0.9).all() and (unclear.low < unclear.high).all()
    again = rank({"a": noise})
    assert again.kept.tolist() == unclear.kept.tolist()


def test_images_are_drawn_together():
    """The first method is better on each image, though images differ by far more than methods."""
    images = np.random.default_rng(3).normal(size=50) * 100
    found = rank({"a": [images + 1, images]}, resamples=200)
    assert found.kept.tolist() == [1, 1]


def test_failing_is_no_advantage():
    # The first method is the best where it has a figure, and counts as the worst where it has none.
    gaps = [[9.0, NAN, NAN, NAN], [5, 4, 3, NAN], [6, 3, 4, NAN]]
    found = rank({"a": gaps})
    np.testing.assert_allclose(found.means[:, 0], [15 / 3, 12 / 3, 13 / 3])
    np.testing.assert_allclose(found.missing[:, 0], [0.75, 0.25, 0.25])
    low = rank({"a": gaps}, {"a": False})
    np.testing.assert_allclose(low.means[:, 0], [(9 + 4 + 4) / 3, 4, 13 / 3])
    assert low.ranks[:, 0].tolist() == [3, 1, 2]
    none = rank({"a": [[NAN, NAN], [1, 2], [1, 1]]})
    assert none.ranks[:, 0].tolist() == [3, 1, 2]


def test_one_figure_for_all_images():
    found = rank(
        {"a": [[1.0, 2, 3], [3, 2, 2]], "rate": [[0.0], [0.5]]}, {"a": True, "rate": False}
    )
    assert found.ranks.tolist() == [[2, 1], [1, 2]]
    assert found.low.min() >= 1 and not np.isnan(found.low).any()
    only = rank({"rate": [[0.0], [0.5]]})
    assert only.kept.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({}, "no metrics"),
        ({"a": [1.0, 2]}, r"shape \(2,\), expected \(M, B\)"),
        ({"a": [[], []]}, r"shape \(2, 0\)"),
        ({"a": [[np.inf, 1], [1, 1]]}, "none of them infinite"),
        ({"a": [[1, 2], [1, 2]], "b": [[1, 2]]}, "'b' has figures of 1 methods and 'a' of 2"),
        ({"a": [[1, 2]], "b": [[1, 2, 3]]}, "3 images and others of 2"),
    ],
)
def test_refusals(figures, says):
    with pytest.raises(ExplanationError, match=says):
        rank(figures)


def test_refusals_of_directions_and_numbers():
    with pytest.raises(ExplanationError, match="'a' has no direction"):
        rank({"a": [[1, 2]]}, {})
    for given in ({"resamples": 0}, {"level": 1.0}):
        with pytest.raises(ExplanationError, match="at least 1 and a level"):
            rank({"a": [[1, 2]]}, **given)
