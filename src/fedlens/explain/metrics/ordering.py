"""Pixels in order, and what is done about ties."""

import torch
from torch import Tensor


def removal_places(maps: Tensor, order: str, generator: torch.Generator) -> Tensor:
    """Return the place of each pixel in the order of removal, int64 (B, H * W), from 0.

    Pixels with equal values follow each other in a random order, which is drawn once and is the
    same for every map: a flat map gets a random order, never the order of reading.

    Args:
        maps: float (B, H, W).
        order: "most-first" from the largest value down, "least-first" from the smallest up.
        generator: CPU generator of the order of ties; it draws H * W numbers.
    """
    flat = maps.detach().flatten(1).cpu()
    shuffled = torch.randperm(flat.shape[1], generator=generator)
    # A stable sort of the shuffled pixels leaves ties in their shuffled order.
    found = flat[:, shuffled].sort(dim=1, descending=order == "most-first", stable=True).indices
    places = torch.arange(flat.shape[1]).expand_as(found)
    return torch.empty_like(found).scatter_(1, shuffled[found], places)


def average_ranks(values: Tensor) -> Tensor:
    """Return the rank of each value in its row, float64 (B, N), from 1; ties share their mean rank.

    A row with a NaN has ranks that mean nothing.
    """
    values = values.contiguous()
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values, right=False)
    up_to = torch.searchsorted(ordered, values, right=True)
    return (below + up_to + 1).double() / 2


def top_membership(values: Tensor, counts: Tensor) -> Tensor:
    """Return how far each value belongs to the ``counts`` largest of its row, float64 (B, N).

    It is 1 above the threshold and 0 below it. Values that tie at the threshold share the places
    that are left, which is what a random order of ties gives on average.

    Args:
        values: float (B, N), without NaN.
        counts: int64 (B,), each from 1 to N.
    """
    ordered = values.sort(dim=1, descending=True).values
    threshold = ordered.gather(1, counts[:, None] - 1)
    above, tied = values > threshold, values == threshold
    left = counts - above.sum(1)
    return above.double() + tied * (left / tied.sum(1).double())[:, None]
