"""How far a client's optimiser goes: the accumulated weight of its gradients."""

import dataclasses
from functools import lru_cache

import torch

from fedlens.errors import ConfigError
from fedlens.training.local import LocalTraining
from fedlens.training.optimizers import FlatOptimizer


def path_length(
    local: LocalTraining, steps: int, *, planned: int | None = None, pull: float = 0.0
) -> float:
    """Return ||a||_1, where a client's update is -lr sum_k a_k g_k over its local steps.

    FedNova's normaliser (Wang et al. 2020, section 4), found by running the optimiser itself on
    one number whose gradient is always 1, so that it holds for any momentum, proximal term and
    schedule: ``steps`` for plain SGD; [steps - rho (1 - rho^steps) / (1 - rho)] / (1 - rho) with
    momentum rho; [1 - (1 - lr pull)^steps] / (lr pull) with a proximal term. Weight decay counts
    as part of the gradient, not of the path. For Adam and AdamW, whose steps do not grow with the
    gradient, it is ``steps`` where there is no proximal term.

    Args:
        local: the settings of the client's training.
        steps: optimiser steps taken, at least 1.
        planned: steps of the whole local work, for the schedule; ``steps`` if not given.
        pull: strength of the proximal term.

    Raises:
        ConfigError: lr * pull is 1 or more: each step would jump past the point that it is pulled
            to, and the a_k change sign.
    """
    check_pull(local, pull)
    # epochs, batch size and precision have no part in it; a list of epochs could not be a key
    plain = dataclasses.replace(
        local, epochs=1, batch_size=None, precision="float32", threads=1, averaging=0.0
    )
    return _path_length(plain, steps, planned or steps, pull)


def check_pull(local: LocalTraining, pull: float) -> None:
    """Raise ``ConfigError`` where ||a||_1 of the settings has no meaning; see :func:`path_length`."""
    if local.lr * pull >= 1:
        raise ConfigError(
            f"local.lr times federation.parameters.mu is {local.lr * pull:g}, expected below 1: a "
            "step would jump past the point that it is pulled to."
        )


def check_stable_pull(local: LocalTraining, pull: float, name: str = "mu") -> None:
    """Raise ``ConfigError`` where SGD would swing ever further about the point that it is pulled to.

    With momentum rho that is from lr pull = 2 (1 + rho) on, whatever the loss is (the largest
    curvature that heavy-ball descent bears: Polyak 1964). Adam and AdamW, whose steps do not grow
    with the gradient, are not asked.

    Args:
        local: the settings of the clients' training.
        pull: strength of the pull.
        name: of the algorithm's parameter, for the sentence.
    """
    bound = 2 * (1 + local.momentum)
    if local.optimizer == "sgd" and local.lr * pull >= bound:
        raise ConfigError(
            f"local.lr times federation.parameters.{name} is {local.lr * pull:g}, expected below "
            f"{bound:g} (twice 1 + local.momentum): the clients would swing ever further about the "
            "point that they are pulled to."
        )


@lru_cache(maxsize=4096)
def _path_length(local: LocalTraining, steps: int, planned: int, pull: float) -> float:
    place = torch.zeros(1, dtype=torch.float64)
    gradient = torch.ones(1, dtype=torch.float64)
    optimizer = FlatOptimizer(place, gradient, dataclasses.replace(local, weight_decay=0.0))
    for step in range(steps):
        gradient.fill_(1.0).add_(place, alpha=pull)
        optimizer.lr = local.rate(step, planned)
        optimizer.step()
    return abs(float(place)) / local.lr
