"""FedNova: Wang et al. 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous
Federated Optimization", equations 8 to 11.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedlens.federated.aggregation import MEAN, Aggregation
from fedlens.federated.algorithm import Algorithm, Federation, ServerState, Update
from fedlens.federated.algorithms.parameters import at_least_zero, positive
from fedlens.training.loop import Correction
from fedlens.training.path import check_pull, path_length


@dataclass(frozen=True)
class FedNova(Algorithm):
    """Average of the clients' *normalised* updates, so that more local steps mean no more weight.

    A client's update is -lr sum_k a_k g_k, where the a_k depend on its steps, momentum, proximal
    term and schedule. With d_i = (y_i - x) / ||a_i||_1 and p_i = n_i / n over the clients that
    returned an update,

        x' = x + eta tau_eff sum_i p_i d_i,    tau_eff = sum_i p_i tau_i,

    where tau_i is what ||a_i||_1 would be without the proximal term: client i's steps for plain SGD
    (the paper's section 4), and its unit is that of ||a_i||_1 with momentum and schedules too.
    Both are found by running the client's own optimiser on a gradient of one: see
    :func:`fedlens.training.path.path_length`.

    The update's total weight sum_i p_i tau_eff / ||a_i||_1 is at least 1, and large where sizes
    differ much (2.5 on average for Dir(0.5) shares of ten clients): a hidden server learning rate.
    It is recorded as ``effective_step``.

    Attributes:
        server_lr: server learning rate eta, above 0.
        mu: strength of a proximal term as in FedProx, at least 0.
        guard: shorten the step so that the total weight is at most eta.
        aggregation: the rule in the place of the weighted mean.

    Raises:
        ConfigError: a parameter that it cannot have.
    """

    name: ClassVar[str] = "fednova"
    server_lr: float = 1.0
    mu: float = 0.0
    guard: bool = False
    aggregation: Aggregation = MEAN

    def __post_init__(self) -> None:
        positive("server_lr", self.server_lr)
        at_least_zero("mu", self.mu)

    def check(self, federation: Federation) -> None:
        """Refuse a proximal term that the clients' steps would jump past."""
        check_pull(federation.local, self.mu)

    def prepare(self, start: Tensor, broadcast: Tensor, memory: Tensor) -> Correction | None:
        """Return the proximal term, if there is one."""
        return Correction(pull=self.mu) if self.mu else None

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], federation: Federation
    ) -> ServerState:
        """Return the state after the normalised step; see the class for the formula."""
        total = sum(u.examples for u in updates)
        shares = [u.examples / total for u in updates]

        def paths(pull: float) -> list[float]:
            local = federation.local
            return [path_length(local, u.steps, planned=u.planned, pull=pull) for u in updates]

        lengths = paths(self.mu)
        effective = sum(p * tau for p, tau in zip(shares, paths(0.0), strict=True))
        weight = sum(p * effective / a for p, a in zip(shares, lengths, strict=True))
        step = self.server_lr * effective
        if self.guard:
            step /= max(1.0, weight)
        old = state.parameters.to(torch.float64)
        directions = [
            (u.weights.to(torch.float64) - old) / length
            for u, length in zip(updates, lengths, strict=True)
        ]
        new = old + step * self.aggregation(directions, shares)
        figures = {"effective_step": weight, "effective_steps_tau": effective}
        return ServerState(new.to(state.parameters.dtype), figures=figures)
