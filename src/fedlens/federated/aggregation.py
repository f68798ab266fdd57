"""How the vectors that clients return become one: the mean, or a rule that resists a few liars.

Every rule takes vectors and their weights and returns a float64 vector of the same length. None
depends on where the origin lies, so that it makes no difference whether weights or updates go in.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlens.errors import ConfigError
from fedlens.federated.algorithm import weighted_mean

BLOCK = 1 << 16  # coordinates that are sorted at a time, so that memory stays small


class Aggregation(ABC):
    """One rule that makes one vector of several."""

    @abstractmethod
    def __call__(self, vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return one float64 vector (P,) for vectors (P,) and their positive weights."""


@dataclass(frozen=True)
class Mean(Aggregation):
    """The weighted mean: the rule of the algorithms' own papers, which one liar can bend at will."""

    def __call__(self, vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return sum_i w_i v_i / sum_i w_i."""
        return weighted_mean(vectors, weights)


MEAN = Mean()


@dataclass(frozen=True)
class CoordinateMedian(Aggregation):
    """The median of each coordinate: Yin et al. 2018, "Byzantine-robust distributed learning".

    Weights are not used: a liar could claim any number of examples.
    """

    def __call__(self, vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the median of each coordinate; of an even number, the mean of the middle two."""
        low, high = (len(vectors) - 1) // 2, len(vectors) // 2
        return _by_sorting(vectors, lambda rows: (rows[low] + rows[high]) / 2)


@dataclass(frozen=True)
class TrimmedMean(Aggregation):
    """The mean of each coordinate without its extremes: Yin et al. 2018, definition 2.

    Attributes:
        trim: share of the values that is left out at either end, in [0, 0.5); the number is rounded
            up, so that the rule withstands that share of liars. Weights are not used.

    Raises:
        ConfigError: a share outside [0, 0.5).
    """

    trim: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.trim < 0.5:
            raise ConfigError(f"federation.trim is {self.trim}, expected a share from 0 below 0.5.")

    def __call__(self, vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the trimmed means; at least one value is kept of each coordinate."""
        count = len(vectors)
        cut = min(math.ceil(self.trim * count - 1e-9), (count - 1) // 2)
        return _by_sorting(vectors, lambda rows: rows[cut : count - cut].mean(0))


@dataclass(frozen=True)
class Krum(Aggregation):
    """The vectors closest to their neighbours: Blanchard et al. 2017, section 4 (multi-Krum).

    Each vector's score is the sum of its squared distances to the n - f - 2 nearest others, f being
    the number of liars to withstand; the ``keep`` vectors of least score are averaged, without
    weights (the earlier client where scores are equal).

    Attributes:
        byzantine: share of liars in [0, 0.5); f is rounded up. The paper's proof needs n > 2f + 2.
        keep: how many vectors are averaged: 1 is Krum, more is multi-Krum; None is n - f.

    Raises:
        ConfigError: a share or number that cannot be.
    """

    byzantine: float = 0.2
    keep: int | None = 1

    def __post_init__(self) -> None:
        if not 0 <= self.byzantine < 0.5:
            raise ConfigError(
                f"federation.byzantine is {self.byzantine}, expected a share from 0 below 0.5."
            )
        if self.keep is not None and self.keep < 1:
            raise ConfigError(f"Krum keeps {self.keep} vectors, expected at least 1.")

    def chosen(self, vectors: Sequence[Tensor]) -> list[int]:
        """Return the positions of the vectors that are averaged, ascending."""
        count = len(vectors)
        liars = math.ceil(self.byzantine * count - 1e-9)
        neighbours = max(1, count - liars - 2)
        keep = max(1, min(self.keep if self.keep is not None else count - liars, count))
        if count <= 2:  # no vector has a neighbour to prefer over another
            return list(range(keep))
        distances = torch.zeros(count, count, dtype=torch.float64)
        for one in range(count):
            for other in range(one + 1, count):
                gap = vectors[one].to(torch.float64) - vectors[other].to(torch.float64)
                distances[one, other] = distances[other, one] = gap.square().sum()
        distances.fill_diagonal_(torch.inf)
        scores = distances.sort(dim=1).values[:, :neighbours].sum(1)
        order = torch.argsort(scores, stable=True)
        return sorted(int(position) for position in order[:keep])

    def __call__(self, vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the mean of the chosen vectors."""
        chosen = [vectors[position] for position in self.chosen(vectors)]
        return weighted_mean(chosen, [1.0] * len(chosen))


AGGREGATIONS = {
    "mean": (Mean, ()),
    "median": (CoordinateMedian, ()),
    "trimmed-mean": (TrimmedMean, ("trim",)),
    "krum": (Krum, ("byzantine",)),
    "multi-krum": (Krum, ("byzantine",)),
}
"""Name -> (rule, the settings that it takes)."""


def build_aggregation(name: str, **settings: float | None) -> Aggregation:
    """Return the rule called ``name``; settings that are None have their defaults.

    Raises:
        ConfigError: no such rule, a setting that it does not take, or an impossible value.
    """
    if name not in AGGREGATIONS:
        raise ConfigError(
            f"federation.aggregation is '{name}', expected one of {', '.join(AGGREGATIONS)}."
        )
    kind, takes = AGGREGATIONS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    for key in given:
        if key not in takes:
            raise ConfigError(
                f"federation.{key} is set, but the aggregation '{name}' does not take it."
            )
    if name == "multi-krum":
        return Krum(**given, keep=None)
    return kind(**given)


def _by_sorting(vectors: Sequence[Tensor], reduce: Callable[[Tensor], Tensor]) -> Tensor:
    length = vectors[0].numel()
    result = torch.empty(length, dtype=torch.float64)
    for start in range(0, length, BLOCK):
        part = slice(start, start + BLOCK)
        rows = torch.stack([vector[part] for vector in vectors]).to(torch.float64)
        result[part] = reduce(rows.sort(dim=0).values)
    return result
