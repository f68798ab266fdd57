"""FedAdagrad, FedAdam, FedYogi: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedlens.federated.aggregation import MEAN, Aggregation
from fedlens.federated.algorithm import Algorithm, Federation, ServerState, Update
from fedlens.federated.algorithms.parameters import at_least_zero, below_one, positive
from fedlens.training.loop import Correction
from fedlens.training.path import check_stable_pull


@dataclass(frozen=True)
class AdaptiveServer(Algorithm):
    """A server that scales each coordinate of the mean update D = sum_k p_k y_k - x.

        m' = beta1 m + (1 - beta1) D,    x' = x + eta m' / (sqrt(v') + tau),

    with v' by each algorithm's own rule. As in the paper there is no bias correction, and v begins
    at tau^2. The paper's algorithm 1 leaves open how clients train: with ``mu`` they minimise
    FedProx's f_k(w) + (mu / 2) ||w - x||^2. Its solution y_k = x - grad f_k(y_k) / mu stays near x for
    a large mu, however much they train; at a constant learning rate, though, it is reached up to the
    noise of a client's last batches only.

    Attributes:
        server_lr: server learning rate eta, above 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1); FedAdagrad has none and ignores it.
        tau: adaptivity, above 0: the smaller, the more alike are the coordinates' steps.
        mu: strength of the clients' proximal term, at least 0.
        aggregation: the rule in the place of the weighted mean.

    Raises:
        ConfigError: a parameter that it cannot have.
    """

    uses_each_update: ClassVar[bool] = False
    server_lr: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    mu: float = 0.0
    aggregation: Aggregation = MEAN

    def __post_init__(self) -> None:
        positive("server_lr", self.server_lr)
        positive("tau", self.tau)
        below_one("beta1", self.beta1)
        below_one("beta2", self.beta2)
        at_least_zero("mu", self.mu)

    def check(self, federation: Federation) -> None:
        """Refuse a pull about which the clients would swing ever further."""
        check_stable_pull(federation.local, self.mu)

    def start(self, parameters: Tensor, federation: Federation) -> ServerState:
        """Return the initial state: m = 0 and v = tau^2."""
        memory = {
            "first": torch.zeros_like(parameters),
            "second": torch.full_like(parameters, self.tau**2),
        }
        return ServerState(parameters.clone(), memory)

    def prepare(self, start: Tensor, broadcast: Tensor, memory: Tensor) -> Correction | None:
        """Return the proximal term, if there is one."""
        return Correction(pull=self.mu) if self.mu else None

    @abstractmethod
    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return v' for v and D^2, both float64 (P,)."""

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], federation: Federation
    ) -> ServerState:
        """Return the state after the step; see the class for the formulas."""
        old = state.parameters.to(torch.float64)
        mean = self.aggregation([u.weights for u in updates], [u.examples for u in updates])
        delta = mean - old
        first = self.beta1 * state.memory["first"].to(torch.float64) + (1 - self.beta1) * delta
        second = self.second_moment(state.memory["second"].to(torch.float64), delta.square())
        new = old + self.server_lr * first / (second.sqrt() + self.tau)
        dtype = state.parameters.dtype
        return ServerState(new.to(dtype), {"first": first.to(dtype), "second": second.to(dtype)})


@dataclass(frozen=True)
class FedAdagrad(AdaptiveServer):
    """v' = v + D^2; see :class:`AdaptiveServer`."""

    name: ClassVar[str] = "fedadagrad"

    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return v + D^2."""
        return v + square


@dataclass(frozen=True)
class FedAdam(AdaptiveServer):
    """v' = beta2 v + (1 - beta2) D^2; see :class:`AdaptiveServer`."""

    name: ClassVar[str] = "fedadam"

    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return beta2 v + (1 - beta2) D^2."""
        return self.beta2 * v + (1 - self.beta2) * square


@dataclass(frozen=True)
class FedYogi(AdaptiveServer):
    """v' = v - (1 - beta2) D^2 sign(v - D^2); see :class:`AdaptiveServer`."""

    name: ClassVar[str] = "fedyogi"

    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return v - (1 - beta2) D^2 sign(v - D^2)."""
        return v - (1 - self.beta2) * square * torch.sign(v - square)
