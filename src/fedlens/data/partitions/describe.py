"""How uneven a partition is: sizes, label histograms, and distance from the whole."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Description:
    """The statistics of a partition over K clients and L classes.

    The label distribution of a client is the share of each class among its examples; for a
    multi-label split, the share of each label among its positive labels.

    Attributes:
        scheme, parameters: how the partition was made.
        names: K client names.
        class_names: L class names.
        sizes: (K,) number of examples.
        label_counts: (K, L) examples of each class, or with each label.
        whole: (L,) the same for the whole split, including what was dropped.
        dropped: number of examples that no client holds.
    """

    scheme: str
    parameters: dict[str, Any]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    sizes: Integers
    label_counts: Integers
    whole: Integers
    dropped: int

    @cached_property
    def effective_classes(self) -> Floats:
        """(K,) exp of the entropy of the label distribution.

        1 for a single class, L for all classes equally, 0 for a client without a positive label.
        """
        shares = _shares(self.label_counts)
        logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
        return np.where(self._unlabelled, 0.0, np.exp(-(shares * logs).sum(axis=1)))

    @cached_property
    def total_variation(self) -> Floats:
        """(K,) total-variation distance of the label distribution from the whole split's.

        Half the sum over classes of the absolute difference, in [0, 1]; NaN for a client without a
        positive label.
        """
        difference = _shares(self.label_counts) - _shares(self.whole[None, :])
        return np.where(self._unlabelled, np.nan, 0.5 * np.abs(difference).sum(axis=1))

    @property
    def _unlabelled(self) -> npt.NDArray[np.bool_]:
        unlabelled: npt.NDArray[np.bool_] = self.label_counts.sum(axis=1) == 0
        return unlabelled

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with one entry a client under ``clients``; NaN becomes None."""
        clients = [
            {
                "name": name,
                "size": int(size),
                "label_counts": counts.tolist(),
                "effective_classes": float(effective),
                "total_variation": None if np.isnan(variation) else float(variation),
            }
            for name, size, counts, effective, variation in zip(
                self.names,
                self.sizes,
                self.label_counts,
                self.effective_classes,
                self.total_variation,
                strict=True,
            )
        ]
        return {
            "scheme": self.scheme,
            "parameters": self.parameters,
            "class_names": list(self.class_names),
            "label_counts": self.whole.tolist(),
            "dropped": self.dropped,
            "clients": clients,
        }


def _shares(counts: Integers) -> Floats:
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares
