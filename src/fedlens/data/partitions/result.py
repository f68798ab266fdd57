"""A partition as made: a sequence of clients that share one image set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch

from fedlens.data.client import Client
from fedlens.data.dataset import Split
from fedlens.data.partitions.describe import Description, Integers
from fedlens.errors import DataError


@dataclass(frozen=True, eq=False)
class Partition(Sequence[Client]):
    """K clients over one split: ``partition[k]`` is a client, ``len(partition)`` is K.

    The clients refer to the split's images; none is copied.

    Attributes:
        split: what was shared out.
        scheme: name of the scheme.
        parameters: what the partition was made with, as plain JSON values.
        indices: K int64 arrays, ascending: positions in the split of each client's examples.
        names: K names.
        dropped: number of the split's examples that no client holds.
        classes: number of classes or labels L.
    """

    split: Split
    scheme: str
    parameters: dict[str, Any]
    indices: tuple[Integers, ...]
    names: tuple[str, ...]
    dropped: int
    classes: int

    @cached_property
    def _clients(self) -> tuple[Client, ...]:
        return tuple(
            Client(self.split.images, self.split.labels, torch.from_numpy(part), name)
            for part, name in zip(self.indices, self.names, strict=True)
        )

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self.indices)

    @overload
    def __getitem__(self, key: int) -> Client: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Client, ...]: ...
    def __getitem__(self, key: int | slice) -> Client | tuple[Client, ...]:
        """Return one client, or the clients of a slice."""
        return self._clients[key]

    def label_counts(self) -> Integers:
        """Return int64 (K, L): how many examples of each class a client holds.

        For a multi-label split, how many of its examples have each label.
        """
        held = self.split.labels.numpy()[np.concatenate(self.indices)]
        sizes = self._sizes()
        if held.ndim == 2:
            starts = np.cumsum(sizes) - sizes
            positives: Integers = np.add.reduceat(held, starts, axis=0, dtype=np.int64)
            return positives
        cells = np.repeat(np.arange(len(self)), sizes) * self.classes + held
        counts = np.bincount(cells, minlength=len(self) * self.classes)
        return counts.reshape(len(self), self.classes)

    def describe(self, class_names: Sequence[str] = ()) -> Description:
        """Return the statistics of each client; see :class:`Description`.

        Args:
            class_names: L names in label order; the class numbers where not given.

        Raises:
            DataError: another number of names than classes.
        """
        if class_names and len(class_names) != self.classes:
            raise DataError(
                f"{len(class_names)} class names were given for a partition of {self.classes} "
                "classes, expected one a class."
            )
        labels = self.split.labels.numpy()
        if labels.ndim == 2:
            whole = labels.sum(axis=0, dtype=np.int64)
        else:
            whole = np.bincount(labels, minlength=self.classes)
        return Description(
            scheme=self.scheme,
            parameters=self.parameters,
            names=self.names,
            class_names=tuple(class_names) or tuple(map(str, range(self.classes))),
            sizes=self._sizes(),
            label_counts=self.label_counts(),
            whole=whole,
            dropped=self.dropped,
        )

    def _sizes(self) -> Integers:
        return np.array([len(part) for part in self.indices], dtype=np.int64)
