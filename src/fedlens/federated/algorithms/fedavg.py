"""FedAvg: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", algorithm 1, with the server learning rate of Reddi et al. 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fedlens.federated.aggregation import MEAN, Aggregation
from fedlens.federated.algorithm import Algorithm, Federation, ServerState, Update
from fedlens.federated.algorithms.parameters import positive


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """Average of the clients' weights, each weighted by its number of examples.

    x' = (1 - eta) x + eta sum_k (n_k / n) y_k over the clients k that returned an update, where
    n = sum_k n_k. For eta = 1 this is the study's section 5.1.

    Attributes:
        server_lr: server learning rate eta, above 0.
        aggregation: the rule in the place of the weighted mean.

    Raises:
        ConfigError: the server learning rate is not a positive number.
    """

    name: ClassVar[str] = "fedavg"
    uses_each_update: ClassVar[bool] = False
    server_lr: float = 1.0
    aggregation: Aggregation = MEAN

    def __post_init__(self) -> None:
        positive("server_lr", self.server_lr)

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], federation: Federation
    ) -> ServerState:
        """Return the averaged state; see the class for the formula."""
        mean = self.aggregation([u.weights for u in updates], [u.examples for u in updates])
        # This form, unlike x + eta (mean - x), returns a single client's weights to the last bit;
        # without the shortcut a weight of -0.0 would become 0.0.
        new = mean
        if self.server_lr != 1:
            old = state.parameters.to(torch.float64)
            new = (1 - self.server_lr) * old + self.server_lr * mean
        return replace(state, parameters=new.to(state.parameters.dtype))
