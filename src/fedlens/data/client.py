"""What one institution holds: its examples, which stay where they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlens.data.dataset import Split
from fedlens.errors import DataError


@dataclass(frozen=True, eq=False)
class Client:
    """The examples of one client, as a view of tensors that many clients may share.

    Attributes:
        inputs: (N, ...) inputs of any shape; uint8 images are scaled to [0, 1] batch by batch.
        targets: (N, ...) targets, whatever the loss takes.
        indices: int64 (n,) which of the N examples are this client's, or None for all.
        name: what to call the client in tables.
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise DataError(
                f"A client has {len(self.inputs):,} inputs and {len(self.targets):,} targets, "
                "expected as many targets as inputs."
            )
        if self.indices is not None and (
            self.indices.dim() != 1 or self.indices.dtype != torch.int64
        ):
            raise DataError(
                f"A client's indices are {self.indices.dtype} {tuple(self.indices.shape)}, expected "
                "int64 (n,); of a mask take mask.nonzero()[:, 0]."
            )
        if len(self) == 0:
            raise DataError("A client has no examples, expected at least one.")
        if self.indices is not None:
            low, high = int(self.indices.min()), int(self.indices.max())
            if low < 0 or high >= len(self.inputs):
                raise DataError(
                    f"A client's indices run from {low} to {high}, expected 0 to "
                    f"{len(self.inputs) - 1}."
                )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.inputs) if self.indices is None else len(self.indices)

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets at ``positions`` (int64, each from 0 to n - 1)."""
        rows = positions if self.indices is None else self.indices[positions]
        return self.inputs[rows], self.targets[rows]

    def all_targets(self) -> Tensor:
        """Return the targets of all n examples, in order."""
        return self.targets if self.indices is None else self.targets[self.indices]


def as_client(examples: Split | Client) -> Client:
    """Return a split of an image set as the one client that holds it all; a client as it is.

    One that holds a part of shared tensors becomes one that holds its own.
    """
    if isinstance(examples, Split):
        return Client(examples.images, examples.labels)
    if examples.indices is None:
        return examples
    return Client(*examples.take(torch.arange(len(examples))), name=examples.name)


def label_counts(clients: Sequence[Client], classes: int) -> Tensor:
    """Return int64 (clients, classes): how many examples of each class (or label) a client holds."""
    rows = []
    for client in clients:
        targets = client.all_targets()
        if targets.dim() == 1:
            rows.append(torch.bincount(targets, minlength=classes))
        else:
            rows.append(targets.to(torch.int64).sum(0))
    return torch.stack(rows)
