"""A client whose training ran away: its update far longer than those of the others in its round."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fedlens.report.history import Line, listed, look

FAR = 10.0  # medians; those that differ only in what they hold stay within about three


@dataclass(frozen=True)
class Runaway:
    """An update that was much longer than its round's median.

    Attributes:
        round: its round, from 1.
        client: number of the client.
        length: Euclidean norm of the update.
        median: of the lengths of its round.
    """

    round: int
    client: int
    length: float
    median: float

    @property
    def times(self) -> float:
        """How many medians long it was."""
        return self.length / self.median


def first_runaway(history: Sequence[Line]) -> Runaway | None:
    """Return the longest update of the first round that has one of ten medians, or None.

    Updates whose length is not recorded, or not finite, are passed over; a round of fewer than three
    has no median that an outlier leaves alone.
    """
    for line in history:
        lengths = {
            int(look(client, "client")): look(client, "update_norm")
            for client in listed(line, "clients")
            if look(client, "update_norm") >= 0 and look(client, "client") >= 0
        }
        if len(lengths) < 3:
            continue
        client, length = max(lengths.items(), key=lambda item: item[1])
        median = statistics.median(lengths.values())
        if median > 0 and length >= FAR * median:
            return Runaway(int(look(line, "round")), client, length, median)
    return None
