"""How much a reader has to take in: a map of few pixels is read more easily, whether right or not.

Each function looks at the maps alone. A random map is not sparse and a blank one says nothing, so
that no figure here is of use without one of faithfulness beside it.
"""

import torch
from torch import Tensor

from fedlens.explain.explanation import degenerate_maps
from fedlens.explain.metrics.checks import check_count, check_maps, nan_where_not_finite


def sparseness(maps: Tensor) -> Tensor:
    """Return the Gini index of the magnitudes of each map, float64 (B,).

    Chalasani et al. 2020. In [0, 1 - 1 / (H W)]: 0 where all pixels are equal, the upper end where a
    single pixel holds everything; higher is sparser. NaN where a map is zero or not finite.

    Args:
        maps: float (B, H, W).

    Raises:
        ExplanationError: they are not maps.
    """
    check_maps(maps)
    sizes = _sizes(maps).sort(dim=1).values
    count = sizes.shape[1]
    weights = 2 * torch.arange(1, count + 1, device=sizes.device).double() - count - 1
    found = (sizes @ weights) / (count * sizes.sum(1))
    # Equal magnitudes sum to 0 only up to rounding.
    return nan_where_not_finite(found.clamp_min(0), maps)


def magnitude_entropy(maps: Tensor) -> Tensor:
    """Return the entropy of the shares that the pixels have in the sum of magnitudes, float64 (B,).

    Bhatt et al. 2020. In nats, in [0, ln(H W)]: 0 where a single pixel holds everything; lower is
    simpler. NaN where a map is zero or not finite.

    Args:
        maps: float (B, H, W).

    Raises:
        ExplanationError: they are not maps.
    """
    check_maps(maps)
    sizes = _sizes(maps)
    shares = sizes / sizes.sum(1, keepdim=True)
    return nan_where_not_finite(-torch.xlogy(shares, shares).sum(1), maps)


def degenerate_rate(maps: Tensor) -> float:
    """Return the share of maps that are all zero or not finite, in [0, 1]; lower is better.

    NaN where there are no maps.

    Args:
        maps: float (B, H, W).

    Raises:
        ExplanationError: they are not maps.
    """
    check_maps(maps)
    return float(degenerate_maps(maps.detach()).double().mean())


def histogram_entropy(maps: Tensor, bins: int = 100) -> Tensor:
    """Return the entropy of the histogram of each map's values, float64 (B,), in nats.

    The bins have equal widths from the smallest to the largest value of the map. In [0, ln(bins)];
    0 where a map is flat; NaN where it is not finite. Neither direction is better: it is what
    :func:`fedlens.explain.metrics.efficient_randomisation` compares.

    Args:
        maps: float (B, H, W), signed.
        bins: at least 2.

    Raises:
        ExplanationError: they are not maps, or there are too few bins.
    """
    check_maps(maps)
    check_count("bins", bins, 2)
    values = torch.nan_to_num(maps.detach().double().flatten(1), 0, 0, 0)
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    width = torch.where(high > low, high - low, 1.0)
    places = ((values - low) / width * bins).long().clamp(0, bins - 1)
    counts = torch.zeros(len(maps), bins, dtype=torch.float64, device=maps.device)
    counts.scatter_add_(1, places, torch.ones_like(values))
    shares = counts / values.shape[1]
    return nan_where_not_finite(-torch.xlogy(shares, shares).sum(1), maps)


def _sizes(maps: Tensor) -> Tensor:
    """Return the magnitudes over the largest, (B, H * W): tiny gradients are maps like others."""
    sizes = maps.detach().double().abs().flatten(1)
    return sizes / sizes.amax(1, keepdim=True)
