"""FedDyn: Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", algorithm 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedlens.federated.aggregation import MEAN, Aggregation
from fedlens.federated.algorithm import Algorithm, Federation, LocalWork, ServerState, Update
from fedlens.federated.algorithms.parameters import positive
from fedlens.training.loop import Correction
from fedlens.training.path import check_stable_pull


@dataclass(frozen=True)
class FedDyn(Algorithm):
    """Clients minimise f_i(w) - <g_i, w> + (alpha / 2) ||w - x||^2; the server adds up their drift.

    Afterwards g_i' = g_i - alpha (y_i - x) is what client i remembers; with N clients in all and a
    cohort S the server sets

        h' = h - (alpha / N) sum_S (y_i - x),    x' = mean_S y_i - h' / alpha.

    Clients count alike, as in the paper: its objective is the plain mean of the f_i. If every client
    reaches its minimum, the fixed point is the minimum of that mean.

    Attributes:
        alpha: strength of the regularisation, above 0.
        aggregation: the rule in the place of the mean.

    Raises:
        ConfigError: alpha is not a positive number.
    """

    name: ClassVar[str] = "feddyn"
    remembers: ClassVar[int] = 1
    alpha: float = 0.01
    aggregation: Aggregation = MEAN

    def __post_init__(self) -> None:
        positive("alpha", self.alpha)

    def check(self, federation: Federation) -> None:
        """Refuse a pull about which the clients would swing ever further."""
        check_stable_pull(federation.local, self.alpha, "alpha")

    def start(self, parameters: Tensor, federation: Federation) -> ServerState:
        """Return the initial state, with h = 0."""
        return ServerState(parameters.clone(), {"drift": torch.zeros_like(parameters)})

    def prepare(self, start: Tensor, broadcast: Tensor, memory: Tensor) -> Correction | None:
        """Return the gradient of the two extra terms."""
        return Correction(tilt=-memory[0], pull=self.alpha)

    def conclude(
        self, work: LocalWork, broadcast: Tensor, memory: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return no message, and g_i'."""
        return None, memory - self.alpha * (work.end - work.start)

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], federation: Federation
    ) -> ServerState:
        """Return the next parameters and h; see the class for the formulas."""
        old = state.parameters.to(torch.float64)
        mean = self.aggregation([u.weights for u in updates], [1.0] * len(updates))
        part = len(updates) / federation.clients
        drift = state.memory["drift"].to(torch.float64) - self.alpha * part * (mean - old)
        dtype = state.parameters.dtype
        return ServerState(
            (mean - drift / self.alpha).to(dtype),
            {"drift": drift.to(dtype)},
            {"drift_norm": float(drift.norm())},
        )
