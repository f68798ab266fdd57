"""The contract of a federated algorithm: pure functions over plain, serialisable values.

An algorithm owns no data, no model and no input or output, so that one object runs in a single
process, in a worker pool, and inside a distributed engine. A round calls, in this order,

- on the server :meth:`Algorithm.broadcast`: what goes to the clients beside the parameters;
- on each client :meth:`Algorithm.prepare`: how its local gradients are corrected;
- on each client :meth:`Algorithm.conclude`: what it returns beside its weights, and remembers;
- on the server :meth:`Algorithm.aggregate`: the next state.

Before all of them, :meth:`Algorithm.check` may refuse the clients' settings.

All but ``aggregate`` have defaults that do nothing: docs/algorithms.md writes one in twenty lines.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedlens.training.local import LocalTraining
from fedlens.training.loop import Correction

Observation = Literal["nothing", "mean-gradient", "start-gradient"]
"""What a client measures for ``conclude``: nothing more than its weights; the mean of the raw
gradients of its steps; or the full-batch gradient at the parameters that it received."""


@dataclass(frozen=True)
class Federation:
    """What is known of a federation from its beginning.

    Attributes:
        sizes: each client's number of training examples.
        local: settings of the clients' training.
    """

    sizes: tuple[int, ...]
    local: LocalTraining

    @property
    def clients(self) -> int:
        """Number of clients N, of which a round may see a part."""
        return len(self.sizes)

    def share(self, client: int) -> float:
        """Return the client's fixed weight n_i / n over *all* clients."""
        return self.sizes[client] / sum(self.sizes)


@dataclass(frozen=True, eq=False)
class Update:
    """What a client returns after its local work.

    Attributes:
        client: client number.
        examples: number of its training examples, at least 1.
        steps: optimiser steps it took, at least 1.
        weights: (P,) its parameters after training, of the model's dtype.
        planned: optimiser steps of its whole local work; more than ``steps`` if it was cut short.
        message: (reports, P) what :meth:`Algorithm.conclude` returned, or None.
    """

    client: int
    examples: int
    steps: int
    weights: Tensor
    planned: int = 0
    message: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server knows between rounds, beyond the round's number.

    Attributes:
        parameters: (P,) the global model, of the model's dtype.
        memory: further vectors of the algorithm by name (momenta, control variates, ...).
        figures: what the algorithm has to say of its last step, for the round's record; nothing
            depends on it.
    """

    parameters: Tensor
    memory: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LocalWork:
    """What a client did, for :meth:`Algorithm.conclude`.

    Attributes:
        start, end: (P,) its parameters before and after.
        gradient: (P,) what the algorithm's ``observes`` asks for, or None.
        steps, planned: optimiser steps taken, and those of the whole work.
        local: the settings it trained with.
    """

    start: Tensor
    end: Tensor
    gradient: Tensor | None
    steps: int
    planned: int
    local: LocalTraining


class Algorithm(ABC):
    """One federated optimisation algorithm: one file, one paper; a frozen dataclass as a rule.

    Attributes:
        name: in configurations and reports, e.g. ``fedavg``.
        broadcasts: how many vectors (P,) go to each client beside the parameters.
        reports: how many vectors (P,) a client returns beside its weights.
        remembers: how many vectors (P,) each client keeps from one of its rounds to the next; they
            are zero before its first.
        uses_each_update: False where ``aggregate`` uses the updates only through the mean of their
            weights, so that client-level privacy may show it a noisy mean as the one update.
        observes: see :data:`Observation`.
    """

    name: ClassVar[str]
    broadcasts: ClassVar[int] = 0
    reports: ClassVar[int] = 0
    remembers: ClassVar[int] = 0
    uses_each_update: ClassVar[bool] = True

    @property
    def observes(self) -> Observation:
        """Return what each client has to measure; nothing, unless an algorithm says otherwise."""
        return "nothing"

    def check(self, federation: Federation) -> None:
        """Raise ``ConfigError`` where it cannot go with the clients' settings, before any round."""
        return

    def start(self, parameters: Tensor, federation: Federation) -> ServerState:
        """Return the state before the first round, for initial parameters (P,)."""
        return ServerState(parameters.clone())

    def broadcast(self, state: ServerState) -> Tensor | None:
        """Return the (broadcasts, P) vectors that go out with the parameters."""
        return None

    def prepare(self, start: Tensor, broadcast: Tensor, memory: Tensor) -> Correction | None:
        """Return how the client's gradients are corrected, or None.

        Args:
            start: (P,) the parameters that the client received.
            broadcast: (broadcasts, P) what came with them.
            memory: (remembers, P) what the client remembers.
        """
        return None

    def conclude(
        self, work: LocalWork, broadcast: Tensor, memory: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the client's message (reports, P) and its new memory (remembers, P).

        None stands for a message of zeros, and for a memory that stays as it is.

        The server may yet refuse the update; the memory is then forgotten with it.
        """
        return None, None

    @abstractmethod
    def aggregate(
        self, state: ServerState, updates: Sequence[Update], federation: Federation
    ) -> ServerState:
        """Return the state after a round; ``updates`` come in client order, at least one."""


def weighted_mean(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return sum_i weights_i vectors_i / sum_i weights_i in float64, added up in the given order.

    With one vector the result is that vector exactly: the one weight is then exactly 1.
    """
    total = sum(weights)
    mean = vectors[0].to(torch.float64) * (weights[0] / total)
    for vector, weight in zip(vectors[1:], weights[1:], strict=True):
        mean.add_(vector.to(torch.float64), alpha=weight / total)
    return mean
