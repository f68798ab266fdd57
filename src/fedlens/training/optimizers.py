"""The local optimisers, acting on the whole parameter vector as one tensor."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedlens.models.vector import FlatParameters
from fedlens.training.local import LocalTraining

# The value that the study's Keras has. Keras adds it before the bias correction of v, PyTorch after:
# the two differ only where a gradient is below some 1e-6.
KERAS_EPSILON = 1e-7


def build_optimizer(flat: FlatParameters, settings: LocalTraining) -> torch.optim.Optimizer:
    """Return a new optimiser of ``flat.vector`` that reads its gradient from ``flat.gradient``."""
    return optimizer_of(flat.vector, flat.gradient, settings)


def optimizer_of(
    vector: Tensor, gradient: Tensor, settings: LocalTraining
) -> torch.optim.Optimizer:
    """Return a new optimiser that changes ``vector`` (P,) in place by ``gradient`` (P,)."""
    target = torch.nn.Parameter(vector)
    target.grad = gradient
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            [target],
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(
        [target],
        lr=settings.lr,
        eps=KERAS_EPSILON,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's memory (moments, step count) as plain tensors by name."""
    state = optimizer.state_dict()["state"].get(0, {})
    return {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_state` returned."""
    content = optimizer.state_dict()
    content["state"] = {0: {name: value.clone() for name, value in state.items()}} if state else {}
    optimizer.load_state_dict(content)
