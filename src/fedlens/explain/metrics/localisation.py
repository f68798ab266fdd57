"""Whether a map points to where the evidence is known to be. Higher is better throughout.

Each function takes maps, float (B, H, W), and the region, bool (B, H, W), and returns float64 (B,)
in [0, 1]. A map that knows nothing gets :func:`area_share` on average, so that a figure is to be
read next to that one. NaN where the region is empty or the map is not finite.
"""

import torch
from torch import Tensor

from fedlens.explain.metrics.checks import check_region, nan_where_not_finite
from fedlens.explain.metrics.ordering import top_membership


def relevance_mass(maps: Tensor, region: Tensor) -> Tensor:
    """Return the share of the positive values' sum that lies in the region, (B,).

    Arras et al. 2022 (relevance mass accuracy). Negative values count as zero. NaN where no value is
    positive.

    Raises:
        ExplanationError: the region is not bool, or not as large as the maps.
    """
    check_region(maps, region)
    positive = maps.detach().double().clamp_min(0).flatten(1)
    positive = positive / positive.amax(1, keepdim=True)  # tiny values must not vanish in the sum
    found = (positive * region.to(maps.device).flatten(1)).sum(1) / positive.sum(1)
    return _where_known(found, maps, region)


def pointing_game(maps: Tensor, region: Tensor) -> Tensor:
    """Return 1 where the map's maximum lies in the region, else 0, (B,).

    Zhang et al. 2018, without a margin. Where several pixels are the maximum it is the share of them
    in the region, what a random choice gets on average.

    Raises:
        ExplanationError: the region is not bool, or not as large as the maps.
    """
    check_region(maps, region)
    ones = torch.ones(len(maps), dtype=torch.int64, device=maps.device)
    return _top_inside(maps, region, ones)


def rank_accuracy(maps: Tensor, region: Tensor) -> Tensor:
    """Return the share of the map's top pixels that lie in the region, (B,).

    Arras et al. 2022 (relevance rank accuracy). The top has as many pixels as the region. Pixels that
    tie at the threshold count in part, what a random order of them gets on average.

    Raises:
        ExplanationError: the region is not bool, or not as large as the maps.
    """
    check_region(maps, region)
    return _top_inside(maps, region, region.to(maps.device).flatten(1).sum(1).clamp_min(1))


def area_share(region: Tensor) -> Tensor:
    """Return the region's share of the pixels, float64 (B,): what a flat map gets.

    Args:
        region: bool (B, H, W).

    Raises:
        ExplanationError: the region is not bool (B, H, W).
    """
    check_region(torch.empty(region.shape), region)
    found = region.flatten(1).double().mean(1)
    return torch.where(found > 0, found, torch.nan)


def _top_inside(maps: Tensor, region: Tensor, counts: Tensor) -> Tensor:
    top = top_membership(maps.detach().flatten(1), counts)
    found = (top * region.to(maps.device).flatten(1)).sum(1) / counts
    return _where_known(found, maps, region)


def _where_known(values: Tensor, maps: Tensor, region: Tensor) -> Tensor:
    empty = ~region.to(maps.device).flatten(1).any(1)
    return nan_where_not_finite(torch.where(empty, torch.nan, values), maps)
