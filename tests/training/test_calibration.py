"""Temperature and reliability: closed forms, scipy's minimum, and bins counted by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from fedlens.errors import ModelError
from fedlens.training.calibration import (
    COLDEST,
    HOTTEST,
    calibration_of,
    fit_temperature,
    probabilities,
    reliability,
)


def drawn(examples: int, classes: int, temperature: float, seed: int = 0):
    """Return logits whose labels are drawn with the probabilities softmax(logits / T)."""
    rng = np.random.default_rng(seed)
    logits = 4 * rng.standard_normal((examples, classes))
    odds = np.exp(log_softmax(logits / temperature, axis=1))
    labels = (odds.cumsum(1) < rng.random((examples, 1))).sum(1).clip(max=classes - 1)
    return torch.from_numpy(logits), torch.from_numpy(labels)


@pytest.mark.parametrize("right", [60, 75, 99])
def test_two_classes_of_one_margin_have_a_closed_form(right: int) -> None:
    # All answers are given with margin 3, and a share p is right: sigmoid(3 / T) = p.
    logits = torch.tensor([[3.0, 0.0]]).repeat(100, 1)
    labels = torch.tensor([0] * right + [1] * (100 - right))
    share = right / 100
    expected = 3 / math.log(share / (1 - share))
    found = fit_temperature(logits, labels)
    assert math.isclose(found.value, expected, rel_tol=1e-8)
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert math.isclose(found.loss_after, entropy, rel_tol=1e-9)
    assert found.examples == 100


@pytest.mark.parametrize("seed", range(4))
def test_the_temperature_is_where_scipy_finds_the_least_loss(seed: int) -> None:
    logits, labels = drawn(300, 5, 1.7, seed)

    def loss(inverse: float) -> float:
        rows = log_softmax(inverse * logits.numpy(), axis=1)
        return float(-rows[np.arange(300), labels.numpy()].mean())

    best = minimize_scalar(loss, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-10})
    found = fit_temperature(logits, labels)
    assert math.isclose(found.value, 1 / best.x, rel_tol=1e-5)
    assert math.isclose(found.loss_after, best.fun, rel_tol=1e-12)
    assert math.isclose(found.loss_before, loss(1.0), rel_tol=1e-12)


@pytest.mark.parametrize("truth", [0.6, 1.0, 2.5])
def test_the_temperature_that_labels_were_drawn_with_comes_back(truth: float) -> None:
    found = fit_temperature(*drawn(40_000, 4, truth))
    assert math.isclose(found.value, truth, rel_tol=0.03)


def test_no_decision_changes_and_probabilities_add_up_to_one() -> None:
    logits, labels = drawn(200, 6, 3.0)
    odds = fit_temperature(logits, labels).probabilities(logits)
    assert (odds.argmax(1) == logits.numpy().argmax(1)).all()
    np.testing.assert_allclose(odds.sum(1), 1, rtol=1e-12)


def test_huge_logits_do_not_overflow() -> None:
    odds = probabilities(torch.tensor([[1e4, 0.0], [-1e4, 0.0]]))
    assert odds.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_where_no_temperature_is_best_it_runs_to_an_end() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(logits, torch.tensor([0, 1])).value == COLDEST
    assert fit_temperature(logits, torch.tensor([1, 0])).value == HOTTEST
    assert fit_temperature(torch.ones(3, 4), torch.tensor([0, 1, 2])).value == 1.0


def test_bins_of_equal_width_counted_by_hand() -> None:
    found = reliability([0.2, 0.4, 0.7, 0.9, 0.8], [0, 1, 1, 1, 0], bins=2)
    assert found.counts.tolist() == [2, 3]
    np.testing.assert_allclose(found.confidence, [0.3, 0.8])
    np.testing.assert_allclose(found.accuracy, [0.5, 2 / 3])
    assert math.isclose(found.error, (2 * 0.2 + 3 * (0.8 - 2 / 3)) / 5)
    assert math.isclose(found.worst, 0.2)


def test_an_edge_belongs_to_the_bin_below_and_empty_bins_are_not_a_number() -> None:
    found = reliability([0.0, 0.5, 1.0], [0, 1, 1], bins=4)
    assert found.counts.tolist() == [1, 1, 0, 1]
    assert math.isnan(found.confidence[2]) and math.isnan(found.accuracy[2])
    assert found.to_json()["confidence"][2] is None
    assert math.isclose(found.error, 0.5 / 3)


def test_bins_of_equal_mass_hold_as_many_each_and_never_part_a_tie() -> None:
    sure = np.random.default_rng(0).beta(8, 1, 700)
    found = reliability(sure, sure > 0.5, bins=7, equal_mass=True)
    assert found.counts.sum() == 700
    assert found.counts.max() - found.counts.min() <= 2
    tied = reliability([0.9] * 50 + [0.95] * 50, [1] * 100, bins=10, equal_mass=True)
    assert sorted(tied.counts[tied.counts > 0].tolist()) in ([50, 50], [100])
    assert reliability([0.7, 0.7], [1, 0], equal_mass=True).counts.tolist() == [2]


def test_one_bin_is_the_gap_of_the_means() -> None:
    rng = np.random.default_rng(1)
    sure, right = rng.random(100), rng.random(100) < 0.5
    for equal_mass in (False, True):
        found = reliability(sure, right, bins=1, equal_mass=equal_mass)
        assert math.isclose(found.error, abs(sure.mean() - right.mean()))


def test_confidence_that_is_true_has_next_to_no_error_and_overconfidence_is_set_right() -> None:
    logits, labels = drawn(40_000, 4, 2.5)
    found = calibration_of(logits, labels, 2.5)
    assert found.before.error > 0.1 and found.before_mass.error > 0.1
    assert found.after.error < 0.01 and found.after_mass.error < 0.01


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(2, 3), torch.tensor([0])),
        (torch.tensor([[0.0, float("nan")]]), torch.tensor([0])),
        (torch.zeros(1, 3), torch.tensor([3])),
        (torch.zeros(1, 3), torch.tensor([-1])),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(ModelError):
        fit_temperature(logits, labels)


@pytest.mark.parametrize("sure", [[1.2], [-0.1], [float("nan")], []])
def test_what_is_no_probability_is_refused(sure: list[float]) -> None:
    with pytest.raises(ModelError):
        reliability(sure, [1] * len(sure))
