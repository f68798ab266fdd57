import math

import pytest
import torch
from scipy.stats import rankdata, spearmanr

from fedlens.errors import ExplanationError
from fedlens.explain.metrics import cosine, pairwise, spearman, top_overlap
from fedlens.explain.metrics.ordering import average_ranks

MEASURES = [spearman, top_overlap, cosine]


@pytest.mark.parametrize("decimals", [1, 15])
def test_spearman_equals_scipy(rand, decimals):
    first = (rand(8, 7, 9) - 0.5).round(decimals=decimals)
    second = (first + rand(8, 7, 9, seed=1)).round(decimals=decimals)
    for a, b, found in zip(first, second, spearman(first, second), strict=True):
        assert float(found) == pytest.approx(spearmanr(a.flatten(), b.flatten()).statistic)
    ranks = average_ranks(first.flatten(1))
    assert ranks.tolist() == rankdata(first.flatten(1).numpy(), axis=1).tolist()


def test_same_and_reversed(rand):
    maps = rand(4, 6, 6).float()
    for measure in MEASURES:
        assert measure(maps, maps).tolist() == pytest.approx([1] * 4, abs=1e-12)
    assert spearman(maps, maps.exp()).tolist() == [1] * 4
    assert spearman(maps, -maps).tolist() == [-1] * 4
    assert cosine(maps, -3e-30 * maps).tolist() == pytest.approx([-1] * 4)


def test_top_overlap_by_hand():
    first = torch.tensor([[[9.0, 8, 7, 6], [5, 4, 3, 2]]])
    second = torch.tensor([[[9.0, 8, 0, 0], [5, 4, 7, 6]]])
    assert top_overlap(first, second, 0.25).tolist() == [1]  # 9 and 8 in both
    assert top_overlap(first, second, 0.5).tolist() == [2 / 6]
    assert top_overlap(first, second, 1).tolist() == [1]
    # Two lit pixels, four wanted: the six others have 2/6 each. Against the four at the top left:
    # of min 2 + 2 * 1/3, of max 4 + 4 * 1/3.
    lit = torch.tensor([[[9.0, 8, 0, 0], [0, 0, 0, 0]]])
    assert top_overlap(first, lit, 0.5).tolist() == pytest.approx([(8 / 3) / (16 / 3)])


def test_random_maps_agree_by_chance(rand):
    first, second = rand(40, 28, 28), rand(40, 28, 28, seed=1)
    assert abs(spearman(first, second).mean()) < 0.02
    assert float(top_overlap(first, second).mean()) == pytest.approx(0.1 / 1.9, abs=0.01)


@pytest.mark.parametrize("measure", MEASURES)
def test_undefined_is_nan(measure, rand):
    maps = rand(4, 5, 5)
    broken = maps.clone()
    broken[0, 0, 0] = float("nan")
    broken[1, 0, 0] = float("inf")
    broken[2] = 0
    for pair in ((maps, broken), (broken, maps), (broken, broken)):
        assert measure(*pair).isnan().tolist() == [True, True, True, False]
    if measure is not cosine:
        flat = torch.full_like(maps, 0.3)
        assert measure(maps, flat).isnan().all() and measure(flat, flat).isnan().all()
    assert measure(maps[:0], maps[:0]).shape == (0,)
    alone = [measure(maps[number : number + 1], maps[:1]) for number in range(4)]
    torch.testing.assert_close(
        torch.cat(alone), measure(maps, maps[:1].repeat(4, 1, 1)), rtol=1e-12, atol=1e-12
    )
    with pytest.raises(ExplanationError, match="expected two of one shape"):
        measure(maps, maps[:, :4])
    with pytest.raises(ExplanationError, match=r"expected a tensor \(B, H, W\)"):
        measure(maps[0], maps[0])


def test_pairwise(rand):
    maps = [rand(3, 4, 4, seed=seed) for seed in range(3)]
    maps.append(torch.zeros(3, 4, 4))
    found = pairwise(maps, cosine)
    assert found.shape == (3, 4, 4)
    torch.testing.assert_close(found, found.mT, equal_nan=True)
    torch.testing.assert_close(found[:, 0, 2], cosine(maps[0], maps[2]))
    assert found[:, 3].isnan().all() and not found[:, :3, :3].isnan().any()
    assert math.isclose(pairwise(maps)[1, 0, 1], spearman(maps[0], maps[1])[1])
    with pytest.raises(ExplanationError, match="no maps to compare"):
        pairwise([])


def test_share():
    for share in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ExplanationError, match="share above 0"):
            top_overlap(torch.rand(1, 2, 2), torch.rand(1, 2, 2), share)
