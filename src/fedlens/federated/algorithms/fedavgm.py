"""FedAvgM: Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for
Federated Visual Classification", section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedlens.federated.aggregation import MEAN, Aggregation
from fedlens.federated.algorithm import Algorithm, Federation, ServerState, Update
from fedlens.federated.algorithms.parameters import below_one, positive


@dataclass(frozen=True)
class FedAvgM(Algorithm):
    """FedAvg with momentum on the server: m' = beta m + (sum_k p_k y_k - x), x' = x + eta m'.

    Attributes:
        server_lr: server learning rate eta, above 0.
        momentum: beta in [0, 1); with 0 it is FedAvg.
        aggregation: the rule in the place of the weighted mean.

    Raises:
        ConfigError: a parameter that it cannot have.
    """

    name: ClassVar[str] = "fedavgm"
    uses_each_update: ClassVar[bool] = False
    server_lr: float = 1.0
    momentum: float = 0.9
    aggregation: Aggregation = MEAN

    def __post_init__(self) -> None:
        positive("server_lr", self.server_lr)
        below_one("momentum", self.momentum)

    def start(self, parameters: Tensor, federation: Federation) -> ServerState:
        """Return the initial state, with a momentum of zero."""
        return ServerState(parameters.clone(), {"momentum": torch.zeros_like(parameters)})

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], federation: Federation
    ) -> ServerState:
        """Return the state after the step; see the class for the formula."""
        old = state.parameters.to(torch.float64)
        mean = self.aggregation([u.weights for u in updates], [u.examples for u in updates])
        momentum = self.momentum * state.memory["momentum"].to(torch.float64) + (mean - old)
        dtype = state.parameters.dtype
        new = old + self.server_lr * momentum
        return ServerState(new.to(dtype), {"momentum": momentum.to(dtype)})
