"""How alike two maps of the same image are. Each function takes float (B, H, W) and returns (B,).

Signed values are compared as they are; give ``maps.abs()`` to compare magnitudes. A map that is not
finite gives NaN. Pixels that the network cannot see (:func:`fedlens.explain.blind_area`) are 0 in
every map of a gradient, and what all maps share raises their likeness: cut them off first, as in
``maps[:, :22, :22]`` for the 22 x 22 of 28 x 28 pixels that the study's network sees.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedlens.errors import ExplanationError
from fedlens.explain.metrics.checks import check_pair, check_share, nan_where_not_finite
from fedlens.explain.metrics.ordering import average_ranks, top_membership


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation over the pixels, float64 (B,), in [-1, 1].

    Ties share their mean rank. 1 is the same order of pixels, 0 none in common. NaN where a map is
    flat.

    Raises:
        ExplanationError: the two are not maps of one shape.
    """
    check_pair(first, second)
    a, b = (average_ranks(maps.detach().flatten(1)) for maps in (first, second))
    middle = (a.shape[1] + 1) / 2  # of the ranks of any row
    a, b = a - middle, b - middle
    # One root of the product, whose square is exact: equal maps get 1 and not a little less.
    found = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    return _nan_where_broken(found, first, second)


def top_overlap(first: Tensor, second: Tensor, share: float = 0.1) -> Tensor:
    """Return the intersection of the top pixels of two maps over their union, float64 (B,).

    In [0, 1]; 1 is the same top pixels; two maps at random have about share / (2 - share). Pixels
    that tie at the threshold belong in part, so that no tie is broken in favour of agreement. NaN
    where a map is flat: it has no top.

    Args:
        first, second: float (B, H, W).
        share: share of the pixels that are the top, above 0 and at most 1; at least one pixel.

    Raises:
        ExplanationError: the two are not maps of one shape, or the share is not one.
    """
    check_pair(first, second)
    check_share("share", share)
    flat = [maps.detach().flatten(1) for maps in (first, second)]
    count = max(1, round(share * flat[0].shape[1]))
    counts = torch.full((len(first),), count, device=first.device)
    a, b = (top_membership(values, counts) for values in flat)
    found = torch.minimum(a, b).sum(1) / torch.maximum(a, b).sum(1)
    for values in flat:
        found = torch.where(values.amin(1) == values.amax(1), torch.nan, found)
    return _nan_where_broken(found, first, second)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine of the angle between two maps, float64 (B,), in [-1, 1].

    1 is the same map but for a positive factor. NaN where a map is zero.

    Raises:
        ExplanationError: the two are not maps of one shape.
    """
    check_pair(first, second)
    a, b = (maps.detach().double().flatten(1) for maps in (first, second))
    # Each at its own scale first: squares of small gradients would vanish.
    a, b = (values / values.abs().amax(1, keepdim=True) for values in (a, b))
    found = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    return _nan_where_broken(found.clamp(-1, 1), first, second)


def pairwise(
    maps: Sequence[Tensor], measure: Callable[[Tensor, Tensor], Tensor] = spearman
) -> Tensor:
    """Return how alike each two of M methods are on each image, float64 (B, M, M).

    Args:
        maps: M tensors (B, H, W), of the same images.
        measure: symmetric, one of this module's functions.

    Raises:
        ExplanationError: there are no maps, or two are not of one shape.
    """
    if len(maps) == 0:
        raise ExplanationError(
            "There are no maps to compare, expected those of one method or more."
        )
    found = torch.empty((len(maps[0]), len(maps), len(maps)), dtype=torch.float64)
    for i, first in enumerate(maps):
        for j, second in enumerate(maps[: i + 1]):
            found[:, i, j] = found[:, j, i] = measure(first, second).cpu()
    return found


def _nan_where_broken(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return nan_where_not_finite(nan_where_not_finite(values, first), second)
