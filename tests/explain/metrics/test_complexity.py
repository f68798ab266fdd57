import math

import numpy as np
import pytest
import torch

from fedlens.errors import ExplanationError
from fedlens.explain.metrics import (
    degenerate_rate,
    histogram_entropy,
    magnitude_entropy,
    sparseness,
)

BY_HAND = torch.tensor(
    [[[0.0, 0], [0, -5]], [[1, -1], [1, 1]], [[0, 2], [0, -2]], [[1, 2], [3, 4]]]
)


def test_by_hand():
    # Gini of (1, 2, 3, 4): (-3 * 1 - 1 * 2 + 1 * 3 + 3 * 4) / (4 * 10)
    assert sparseness(BY_HAND).tolist() == pytest.approx([0.75, 0, 0.5, 0.25])
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    entropy = -(shares * np.log(shares)).sum()
    expected = [0, math.log(4), math.log(2), entropy]
    assert magnitude_entropy(BY_HAND).tolist() == pytest.approx(expected)
    assert sparseness(BY_HAND * 1e-30).tolist() == sparseness(BY_HAND).tolist()


def test_histogram_against_numpy(rand):
    maps = rand(5, 9, 9) - 0.5
    maps[1] = maps[1].square()
    maps[2] = maps[2].clamp_min(0)
    for bins in (2, 7, 100):
        for number, found in enumerate(histogram_entropy(maps, bins).tolist()):
            counts = np.histogram(maps[number], bins=bins)[0] / 81
            counts = counts[counts > 0]
            assert found == pytest.approx(-(counts * np.log(counts)).sum())
    assert histogram_entropy(torch.full((1, 3, 3), 7.0)).tolist() == [0]


@pytest.mark.parametrize("metric", [sparseness, magnitude_entropy, histogram_entropy])
def test_undefined_is_nan(metric, rand):
    maps = rand(4, 3, 3)
    maps[0, 1, 1] = float("nan")
    maps[1, 1, 1] = float("inf")
    maps[2] = 0
    zero = metric is not histogram_entropy  # of which a flat map has 0
    assert metric(maps).isnan().tolist() == [True, True, zero, False]
    assert metric(maps[:0]).shape == (0,)
    alone = torch.cat([metric(one[None]) for one in maps])
    torch.testing.assert_close(alone, metric(maps), equal_nan=True)
    with pytest.raises(ExplanationError, match=r"expected a tensor \(B, H, W\)"):
        metric(maps[0])


def test_degenerate_rate():
    maps = BY_HAND.clone()
    assert degenerate_rate(maps) == 0
    maps[0] = 0
    maps[1, 0, 0] = float("nan")
    maps[2, 0, 0] = -float("inf")
    assert degenerate_rate(maps) == 0.75
    assert math.isnan(degenerate_rate(maps[:0]))
    with pytest.raises(ExplanationError, match="bins is 1"):
        histogram_entropy(maps, 1)
