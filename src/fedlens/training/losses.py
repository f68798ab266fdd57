"""Losses that return one value an example, so that sampling and clipping can weigh each one."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
"""``loss(outputs, targets)`` returns one value per example, shape (N,)."""


def default_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return (N,): cross-entropy for class numbers, mean binary cross-entropy for label rows.

    Args:
        outputs: float (N, L) logits.
        targets: int64 (N,) class numbers, or uint8 (N, L) labels of 0 and 1.
    """
    if targets.dim() == 1 and not torch.is_floating_point(targets):
        return F.cross_entropy(outputs, targets, reduction="none")
    losses = F.binary_cross_entropy_with_logits(
        outputs, targets.to(outputs.dtype), reduction="none"
    )
    return losses.mean(1)
