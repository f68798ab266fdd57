"""Losses that return one value an example, so that sampling and clipping can weigh each one."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from fedlens.errors import ConfigError

Loss = Callable[[Tensor, Tensor], Tensor]
"""``loss(outputs, targets)`` returns one value per example, shape (N,)."""


def default_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return (N,): cross-entropy for class numbers, mean binary cross-entropy for label rows.

    Args:
        outputs: float (N, L) logits.
        targets: int64 (N,) class numbers, or (N, L) labels from 0 to 1, uint8 or float.
    """
    if _are_classes(targets):
        return F.cross_entropy(outputs, targets, reduction="none")
    losses = F.binary_cross_entropy_with_logits(
        outputs, targets.to(outputs.dtype), reduction="none"
    )
    return losses.mean(1)


def chosen_loss(loss: Loss | None, targets: Iterable[Tensor]) -> Loss:
    """Return ``loss``, or :func:`default_loss` where none is given and the targets are for it.

    Args:
        loss: the caller's choice.
        targets: all that will be trained on.

    Raises:
        ConfigError: no loss is given, and some targets are neither class numbers nor label rows:
            binary cross-entropy of a regression's numbers has no lower bound.
    """
    if loss is not None:
        return loss
    for some in {id(tensor): tensor for tensor in targets}.values():
        if not (_are_classes(some) or _are_labels(some)):
            raise ConfigError(
                f"No loss was given, and targets of shape {tuple(some.shape)} and {some.dtype} are "
                "neither class numbers nor rows of labels from 0 to 1; give a loss that returns one "
                "value per example."
            )
    return default_loss


def _are_classes(targets: Tensor) -> bool:
    return targets.dim() == 1 and not torch.is_floating_point(targets)


def _are_labels(targets: Tensor) -> bool:
    return targets.dim() == 2 and bool(((targets >= 0) & (targets <= 1)).all())
