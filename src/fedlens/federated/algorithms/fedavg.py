"""FedAvg: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", algorithm 1, with the server learning rate of Reddi et al. 2021.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedlens.errors import ConfigError
from fedlens.federated.algorithm import ServerState, Update, weighted_mean


@dataclass(frozen=True)
class FedAvg:
    """Average of the clients' weights, each weighted by its number of examples.

    x' = (1 - eta) x + eta sum_k (n_k / n) y_k over the clients k that returned an update, where
    n = sum_k n_k. For eta = 1 this is the study's section 5.1.

    Attributes:
        server_lr: server learning rate eta, above 0.

    Raises:
        ConfigError: the server learning rate is not a positive number.
    """

    server_lr: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.server_lr) and self.server_lr > 0):
            raise ConfigError(
                f"federation.parameters.server_lr is {self.server_lr}, expected a number above 0."
            )

    @property
    def name(self) -> str:
        """Return ``fedavg``."""
        return "fedavg"

    def start(self, parameters: Tensor) -> ServerState:
        """Return the state before the first round: the parameters alone."""
        return ServerState(parameters.clone())

    def aggregate(self, state: ServerState, updates: Sequence[Update]) -> ServerState:
        """Return the averaged state; see the class for the formula."""
        mean = weighted_mean([u.weights for u in updates], [u.examples for u in updates])
        # This form, unlike x + eta (mean - x), returns a single client's weights to the last bit;
        # without the shortcut a weight of -0.0 would become 0.0.
        new = mean
        if self.server_lr != 1:
            old = state.parameters.to(torch.float64)
            new = (1 - self.server_lr) * old + self.server_lr * mean
        return replace(state, parameters=new.to(state.parameters.dtype))
