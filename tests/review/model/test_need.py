"""The need of a case, worked by hand."""

import numpy as np
import pytest
import torch

from fedlens.review.model.need import behind_others, need_of
from fedlens.training.evaluation import Evaluation, evaluate_logits

ALL = {"uncertainty": 0.5, "novelty": 0.25, "disagreement": 1.0, "weak-class": 0.0}


def test_need_is_the_weighted_mean_of_the_signals_that_there_are() -> None:
    assert need_of(ALL) == pytest.approx(0.7 * 0.5 + 0.2 * 0.25 + 0.05)
    without = {name: value for name, value in ALL.items() if name != "disagreement"}
    assert need_of(without) == pytest.approx((0.7 * 0.5 + 0.2 * 0.25) / 0.95)
    assert need_of({"novelty": 0.3}) == pytest.approx(0.3)
    assert need_of({}) == 0


@pytest.mark.parametrize("name", list(ALL))
def test_every_signal_raises_the_need(name: str) -> None:
    assert need_of({**ALL, name: 1.0}) >= need_of({**ALL, name: 0.0}) + 0.04


def _figures(truth: list[int], said: list[int], classes: int) -> Evaluation:
    return evaluate_logits(torch.eye(classes)[said], torch.tensor(truth))


def test_a_class_is_weak_by_how_far_it_is_behind_the_others() -> None:
    # Classes 2 and 3 have no error: F1 1. Of 20 in each of 0 and 1, 3 and 1 are taken for the other:
    # F1 = 2 * 17 / (20 + 18) = 17/19 and 2 * 19 / (20 + 22) = 19/21.
    truth = [0] * 20 + [1] * 20 + [2] * 5 + [3] * 5
    said = [0] * 17 + [1] * 3 + [0] + [1] * 19 + [2] * 5 + [3] * 5
    figures = _figures(truth, said, 4)
    assert behind_others(figures, 0) == pytest.approx(((19 / 21 + 2) / 3 - 17 / 19) / 0.2)
    assert behind_others(figures, 1) == pytest.approx(((17 / 19 + 2) / 3 - 19 / 21) / 0.2)
    assert behind_others(figures, 2) == behind_others(figures, 3) == 0


def test_a_tenth_behind_is_a_half_and_two_tenths_are_all() -> None:
    figures = _figures([0, 1, 2, 3], [0, 1, 2, 3], 4)
    for f1, weak in ((0.95, 0.0), (0.8, 0.5), (0.7, 1.0), (0.1, 1.0)):
        figures.f1[:] = (0.85, f1, 0.9, 0.95)
        assert behind_others(figures, 1) == pytest.approx(weak)


def test_classes_that_are_equally_bad_are_not_weak_beside_each_other() -> None:
    figures = _figures([0, 0, 1, 1], [0, 1, 1, 0], 2)
    np.testing.assert_array_equal(figures.f1, [0.5, 0.5])
    assert behind_others(figures, 0) == behind_others(figures, 1) == 0


def test_a_class_without_an_example_counts_for_nothing_among_the_others() -> None:
    figures = _figures([0, 0, 1, 1], [0, 0, 1, 1], 3)
    assert behind_others(figures, 0) == 0
    assert behind_others(figures, 2) == 1  # never seen, so that nothing speaks for it
    assert behind_others(_figures([0, 0], [0, 0], 2), 0) == 0
    assert figures.support.tolist() == [2, 2, 0]  # left as it was
