"""The contract of an engine: who runs the clients of a round."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from fedlens.federated.client import ClientReport, ClientTask

Finished = Callable[[ClientReport], None]
"""Called after each client, in order of completion."""


class Engine(Protocol):
    """Runs clients, each from the same incoming state to its own row of outgoing states.

    :class:`fedlens.federated.client.Layout` says what the vectors hold. Results do not depend on
    the engine, on its number of workers or on the order of completion.
    """

    @property
    def incoming(self) -> Tensor:
        """What the server sends; written by the server before a round."""
        ...

    @property
    def outgoing(self) -> Tensor:
        """(largest cohort, ...) what the clients return, a row per slot."""
        ...

    @property
    def memories(self) -> Tensor:
        """(largest cohort, ...) what the clients remember; written by the server before a round."""
        ...

    def train(self, tasks: Sequence[ClientTask], finished: Finished) -> list[ClientReport]:
        """Run ``tasks`` from :attr:`incoming` into :attr:`outgoing`; reports come in slot order."""
        ...

    def predict(self) -> Tensor:
        """Return the outputs (N, ...) of :attr:`incoming` on the validation examples."""
        ...

    def close(self) -> None:
        """Stop whatever was started; may be called twice."""
        ...
