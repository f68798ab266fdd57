import pytest
import torch

from fedlens.errors import ExplanationError
from fedlens.explain.metrics import area_share, pointing_game, rank_accuracy, relevance_mass

METRICS = [relevance_mass, pointing_game, rank_accuracy]
LEFT = torch.tensor([[[True, True, False, False], [False, False, False, False]]])


@pytest.mark.parametrize(
    ("values", "mass", "pointing", "rank"),
    [
        ([[3.0, 1, 2, -9], [0, 0, 0, 0]], 4 / 6, 1, 1 / 2),
        ([[1.0, 3, 0, -9], [0, -1, -2, 0]], 1, 1, 1),
        ([[-8.0, -9, 2, 2], [1, 1, 1, 1]], 0, 0, 0),
        ([[2.0, 0, 2, 2], [0, 0, 0, 2]], 1 / 4, 1 / 4, 1 / 4),  # ties at the top
        ([[5.0, 0, 0, 0], [0, 0, 0, 0]], 1, 1, (1 + 1 / 7) / 2),  # ties below it
        ([[1.0, 1, 1, 1], [1, 1, 1, 1]], 1 / 4, 1 / 4, 1 / 4),  # flat: the area's share
    ],
)
def test_by_hand(values, mass, pointing, rank):
    for scale in (1.0, 1e-38):
        maps = torch.tensor([values]) * scale
        assert float(relevance_mass(maps, LEFT)) == pytest.approx(mass)
        assert float(pointing_game(maps, LEFT)) == pytest.approx(pointing)
        assert float(rank_accuracy(maps, LEFT)) == pytest.approx(rank)
    assert area_share(LEFT).tolist() == [0.25]


def test_maps_at_random_get_the_share_of_the_area(rand):
    maps, region = rand(4000, 6, 6), torch.zeros(4000, 6, 6, dtype=torch.bool)
    region[:, 1:4, 2:5] = True
    assert area_share(region).unique().tolist() == [0.25]
    for metric in METRICS:
        assert float(metric(maps, region).mean()) == pytest.approx(0.25, abs=0.02)


def test_undefined_is_nan(rand):
    maps, region = rand(4, 2, 4), LEFT.repeat(4, 1, 1)
    maps[0, 1, 1] = float("nan")
    maps[1, 1, 1] = float("inf")
    region[2] = False
    for metric in METRICS:
        assert metric(maps, region).isnan().tolist() == [True, True, True, False]
        assert metric(maps[:0], region[:0]).shape == (0,)
        alone = torch.cat([metric(maps[i : i + 1], region[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(alone, metric(maps, region), equal_nan=True)
    assert area_share(region).isnan().tolist() == [False, False, True, False]
    # Without positive values there is no mass; the two others still see an order.
    assert relevance_mass(-maps[3:], region[3:]).isnan().all()
    assert not rank_accuracy(-maps[3:], region[3:]).isnan().any()


@pytest.mark.parametrize("metric", METRICS)
def test_refusals(metric, rand):
    with pytest.raises(ExplanationError, match=r"torch.float32 \(1, 2, 4\), expected bool"):
        metric(rand(1, 2, 4), LEFT.float())
    with pytest.raises(ExplanationError, match=r"expected bool \(2, 2, 4\)"):
        metric(rand(2, 2, 4), LEFT)
    with pytest.raises(ExplanationError, match=r"expected a tensor \(B, H, W\)"):
        metric(rand(2, 4), LEFT[0])
