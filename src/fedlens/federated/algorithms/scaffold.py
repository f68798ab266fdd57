"""SCAFFOLD: Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated
Learning", algorithm 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from fedlens.errors import ConfigError
from fedlens.federated.aggregation import MEAN, Aggregation
from fedlens.federated.algorithm import (
    Algorithm,
    Federation,
    LocalWork,
    Observation,
    ServerState,
    Update,
)
from fedlens.federated.algorithms.parameters import at_least_zero, positive
from fedlens.training.loop import Correction
from fedlens.training.path import check_pull, check_stable_pull, path_length

Control = Literal["mean-gradient", "option-1", "option-2"]


@dataclass(frozen=True)
class Scaffold(Algorithm):
    """FedAvg whose clients' gradients are corrected by c - c_i, so that they do not drift apart.

    The correction is added to the gradient *before* the optimiser. Control variates start at zero.
    c_i is what client i knows of its own gradient, c the mean over all N clients. The server sets

        x' = x + eta mean_S (y_i - x),    c' = c + (|S| / N) mean_S (c_i' - c_i)

    over the cohort S, so that c stays the mean of all c_i under partial participation. Weighted, a
    client counts by its fixed share p_i = n_i / n of *all* examples in both sums, and
    c = sum_i p_i c_i.

    Attributes:
        control: how a client renews c_i. ``mean-gradient``: the mean of the raw gradients of its
            steps, exact with momentum, schedules and unequal steps, and for plain SGD the same as
            ``option-2``: c_i - c + (x - y_i) / (lr ||a_i||_1), the paper's second option with
            FedNova's ||a_i||_1 in the place of the number of steps, which are equal for plain SGD.
            ``option-1``: the full-batch gradient at x, one more pass over the client's examples.
        weighted: count clients by their number of examples.
        mu: pull mu (w - x) towards what the client received, at least 0; 0 is the paper's algorithm.
            It leaves the fixed point where it is (there w = x) and bounds how far a correction can
            carry a client: a client of few classes can make f_i flat, and then nothing else stops
            it from following <c - c_i, w>.
        server_lr: server learning rate eta, above 0.
        aggregation: the rule in the place of the mean; it sees weights and controls as one vector,
            so that Krum picks the same client for both.

    Raises:
        ConfigError: a parameter that it cannot have.
    """

    name: ClassVar[str] = "scaffold"
    broadcasts: ClassVar[int] = 1
    reports: ClassVar[int] = 1
    remembers: ClassVar[int] = 1
    control: Control = "mean-gradient"
    weighted: bool = False
    mu: float = 0.0
    server_lr: float = 1.0
    aggregation: Aggregation = MEAN

    def __post_init__(self) -> None:
        positive("server_lr", self.server_lr)
        at_least_zero("mu", self.mu)
        if self.control not in get_args(Control):
            raise ConfigError(
                f"federation.parameters.control is {self.control!r}, expected one of "
                f"{', '.join(get_args(Control))}."
            )

    def check(self, federation: Federation) -> None:
        """Refuse a pull that clients swing about, and ``option-2`` where the way tells no gradient."""
        check_stable_pull(federation.local, self.mu)
        if self.control != "option-2":
            return
        check_pull(federation.local, self.mu)
        if federation.local.optimizer != "sgd":
            raise ConfigError(
                f"federation.parameters.control is 'option-2' and local.optimizer "
                f"'{federation.local.optimizer}', whose steps are no sum of gradients; choose the "
                "control 'mean-gradient' or the optimizer 'sgd'."
            )

    @property
    def observes(self) -> Observation:
        """Return the gradient that ``control`` is made from."""
        kinds: dict[str, Observation] = {
            "mean-gradient": "mean-gradient",
            "option-1": "start-gradient",
            "option-2": "nothing",
        }
        return kinds[self.control]

    def start(self, parameters: Tensor, federation: Federation) -> ServerState:
        """Return the initial state, with a control variate of zero."""
        return ServerState(parameters.clone(), {"control": torch.zeros_like(parameters)})

    def broadcast(self, state: ServerState) -> Tensor | None:
        """Return c."""
        return state.memory["control"].unsqueeze(0)

    def prepare(self, start: Tensor, broadcast: Tensor, memory: Tensor) -> Correction | None:
        """Return c - c_i, and the pull."""
        return Correction(tilt=broadcast[0] - memory[0], pull=self.mu)

    def conclude(
        self, work: LocalWork, broadcast: Tensor, memory: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return c_i' - c_i, and c_i'."""
        if work.gradient is not None:
            new = work.gradient
        else:
            length = path_length(work.local, work.steps, planned=work.planned, pull=self.mu)
            new = memory[0] - broadcast[0] + (work.start - work.end) / (work.local.lr * length)
        return (new - memory[0]).unsqueeze(0), new.unsqueeze(0)

    def aggregate(
        self, state: ServerState, updates: Sequence[Update], federation: Federation
    ) -> ServerState:
        """Return the next parameters and control variate; see the class for the formulas."""
        old = state.parameters.to(torch.float64)
        count = len(old)
        clients = federation.clients
        shares = [federation.share(u.client) if self.weighted else 1 / clients for u in updates]
        pairs = []
        for u in updates:
            assert u.message is not None
            pairs.append(torch.cat([u.weights.to(torch.float64) - old, u.message[0].double()]))
        mean = self.aggregation(pairs, shares)
        new = old + self.server_lr * mean[:count]
        control = state.memory["control"].to(torch.float64) + sum(shares) * mean[count:]
        dtype = state.parameters.dtype
        return ServerState(
            new.to(dtype),
            {"control": control.to(dtype)},
            {"control_norm": float(control.norm())},
        )
