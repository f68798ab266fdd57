"""The contract of a federated algorithm: pure functions over plain, serialisable values.

An algorithm owns no data, no model and no input or output, so that one object runs in a single
process, in a worker pool, and inside a distributed engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Update:
    """What a client returns after its local work.

    Attributes:
        client: client number.
        examples: number of its training examples, at least 1.
        steps: optimiser steps it took, at least 1.
        weights: (P,) its parameters after training, of the model's dtype.
    """

    client: int
    examples: int
    steps: int
    weights: Tensor


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server knows between rounds, beyond the round's number.

    Attributes:
        parameters: (P,) the global model, of the model's dtype.
        memory: further vectors of the algorithm by name (momenta, control variates, ...).
    """

    parameters: Tensor
    memory: dict[str, Tensor] = field(default_factory=dict)


class Algorithm(Protocol):
    """One federated optimisation algorithm: one file, one paper."""

    @property
    def name(self) -> str:
        """Name in configurations and reports, e.g. ``fedavg``."""
        ...

    def start(self, parameters: Tensor) -> ServerState:
        """Return the state before the first round, for initial parameters (P,)."""
        ...

    def aggregate(self, state: ServerState, updates: Sequence[Update]) -> ServerState:
        """Return the state after a round; ``updates`` come in client order, at least one."""
        ...


def weighted_mean(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return sum_i weights_i vectors_i / sum_i weights_i in float64, added up in the given order.

    With one vector the result is that vector exactly: the one weight is then exactly 1.
    """
    total = sum(weights)
    mean = vectors[0].to(torch.float64) * (weights[0] / total)
    for vector, weight in zip(vectors[1:], weights[1:], strict=True):
        mean.add_(vector.to(torch.float64), alpha=weight / total)
    return mean
