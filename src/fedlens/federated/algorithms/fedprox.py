"""FedProx: Li et al. 2020, "Federated Optimization in Heterogeneous Networks", algorithm 2."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedlens.federated.algorithm import Federation
from fedlens.federated.algorithms.fedavg import FedAvg
from fedlens.federated.algorithms.parameters import at_least_zero
from fedlens.training.loop import Correction
from fedlens.training.path import check_stable_pull


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg whose clients minimise f_k(w) + (mu / 2) ||w - x||^2, x being what they received.

    The term is squared and over the whole vector; its gradient mu (w - x) is added to that of the
    loss. A client that was cut short by a deadline counts with what it has (section 3.2), where
    ``Faults(late="partial")`` lets its work through. With mu = 0 it is FedAvg, bit for bit.

    Attributes:
        mu: strength of the proximal term, at least 0.
    """

    name: ClassVar[str] = "fedprox"
    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_zero("mu", self.mu)

    def check(self, federation: Federation) -> None:
        """Refuse a pull about which the clients would swing ever further."""
        check_stable_pull(federation.local, self.mu)

    def prepare(self, start: Tensor, broadcast: Tensor, memory: Tensor) -> Correction | None:
        """Return the pull towards the parameters that the client received."""
        return Correction(pull=self.mu) if self.mu else None
