"""What goes wrong in a federation, simulated: dropouts, stragglers, poisoned clients; and what the
server does about updates that are far off.

Everything is drawn from named streams, so that a run with faults is repeatable as any other.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fedlens.data.client import Client
from fedlens.errors import ConfigError
from fedlens.randomness import Purpose, generator

Late = Literal["drop", "partial"]
Attack = Literal["label-flip", "sign-flip", "scaled-update"]
FarOff = Literal["keep", "clip", "reject"]


@dataclass(frozen=True)
class Struck:
    """What befalls one client in one round.

    Attributes:
        steps: steps that it has done at the deadline.
        gone: it drops out.
        late: it is not done at the deadline.
    """

    steps: int
    gone: bool = False
    late: bool = False


@dataclass(frozen=True)
class Faults:
    """Which faults are simulated; by default none.

    Attributes:
        dropout: probability that a client of the cohort never answers, in [0, 1).
        stragglers: share of the cohort, in [0, 1], that has done only a part of its steps at the
            deadline, uniform between none and all (rounded down).
        late: what happens to a straggler: ``drop`` its update, or take the ``partial`` work, where
            it has done at least one step.
        poisoned: share of all clients, in [0, 1), that attack in every round they are part of;
            drawn once.
        attack: ``label-flip``: they train on labels counted from the other end; ``sign-flip``: they
            return x - scale (y - x); ``scaled-update``: x + scale (y - x).
        scale: of the last two attacks, above 0.

    Raises:
        ConfigError: a value that it cannot have.
    """

    dropout: float = 0.0
    stragglers: float = 0.0
    late: Late = "drop"
    poisoned: float = 0.0
    attack: Attack = "sign-flip"
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, most in (("dropout", 1.0), ("stragglers", math.inf), ("poisoned", 1.0)):
            value = getattr(self, name)
            if not (0 <= value <= 1 and value < most):
                raise ConfigError(
                    f"faults.{name} is {value}, expected a share from 0 "
                    f"{'below' if most == 1 else 'to'} 1."
                )
        for name, allowed in (("late", get_args(Late)), ("attack", get_args(Attack))):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"faults.{name} is '{getattr(self, name)}', expected one of "
                    f"{', '.join(allowed)}."
                )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"faults.scale is {self.scale}, expected a number above 0.")

    def attackers(self, clients: int, seed: int) -> frozenset[int]:
        """Return the numbers of the poisoned clients: ``poisoned`` of all, rounded."""
        count = round_half_up(self.poisoned * clients)
        if count == 0:
            return frozenset()
        stream = generator(seed, Purpose.POISON)
        return frozenset(int(k) for k in stream.choice(clients, size=count, replace=False))

    @property
    def stretch(self) -> float:
        """What an attacker multiplies its update by."""
        return {"label-flip": 1.0, "sign-flip": -self.scale, "scaled-update": self.scale}[
            self.attack
        ]

    def strike(
        self, cohort: Sequence[int], planned: Sequence[int], seed: int, round: int, attempt: int
    ) -> list[Struck]:
        """Return for each client of a cohort what befalls it.

        Args:
            cohort: client numbers.
            planned: each one's steps of its whole work.
            seed, round, attempt: name the random stream.
        """
        if not (self.dropout or self.stragglers):
            return [Struck(whole) for whole in planned]
        stream = generator(seed, Purpose.FAULTS, round=round, epoch=attempt)
        gone = stream.random(len(cohort)) < self.dropout
        slow = set(
            stream.choice(
                len(cohort), size=round_half_up(self.stragglers * len(cohort)), replace=False
            )
        )
        done = stream.random(len(cohort))
        return [
            Struck(
                steps=int(done[position] * whole) if position in slow else whole,
                gone=bool(gone[position]),
                late=position in slow,
            )
            for position, whole in enumerate(planned)
        ]


@dataclass(frozen=True)
class Screening:
    """What the server does with updates much longer than the others of their round.

    Attributes:
        far_off: ``keep`` them, ``clip`` them to the limit, or ``reject`` them.
        factor: the limit is so many times the median length of the round's updates, at least 1.

    Raises:
        ConfigError: a value that it cannot have.
    """

    far_off: FarOff = "keep"
    factor: float = 3.0

    def __post_init__(self) -> None:
        if self.far_off not in get_args(FarOff):
            raise ConfigError(
                f"federation.far_off is '{self.far_off}', expected one of "
                f"{', '.join(get_args(FarOff))}."
            )
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise ConfigError(
                f"federation.far_off_factor is {self.factor}, expected a number from 1."
            )

    def factors(self, lengths: Sequence[float]) -> list[float | None]:
        """Return what each update is multiplied by: 1, less where clipped; None to reject it."""
        if self.far_off == "keep" or not lengths:
            return [1.0 for _ in lengths]
        limit = self.factor * statistics.median(lengths)
        return [
            1.0 if length <= limit else (limit / length if self.far_off == "clip" else None)
            for length in lengths
        ]


def poisoned_clients(
    clients: Sequence[Client], attackers: frozenset[int], faults: Faults
) -> list[Client]:
    """Return the clients as they train: attackers have flipped labels where that is the attack.

    Class c becomes L - 1 - c, L being the number of classes that occur; of label rows each 0 and 1
    change places.

    Raises:
        ConfigError: labels are to be flipped and the targets are neither.
    """
    if faults.attack != "label-flip" or not attackers:
        return list(clients)
    flipped: dict[int, Tensor] = {}  # of the tensors that clients share, by identity
    top = 1
    if all(c.targets.dim() == 1 and not c.targets.is_floating_point() for c in clients):
        distinct = {id(client.targets): client.targets for client in clients}
        top = max(int(targets.max()) for targets in distinct.values())
    result = list(clients)
    for number in sorted(attackers):
        targets = clients[number].targets
        if targets.is_floating_point() or targets.dim() > 2:
            raise ConfigError(
                "faults.attack is 'label-flip', which needs class numbers or label rows as targets."
            )
        if id(targets) not in flipped:
            flipped[id(targets)] = ~targets if targets.dtype == torch.bool else top - targets
        result[number] = dataclasses.replace(clients[number], targets=flipped[id(targets)])
    return result


def round_half_up(value: float) -> int:
    """Return the nearest whole number, the higher one of two."""
    return math.floor(value + 0.5)


def stretched(start: Tensor, end: Tensor, factor: float) -> None:
    """Replace ``end`` (P,) by start + factor (end - start), in place."""
    with torch.no_grad():
        end.sub_(start).mul_(factor).add_(start)
