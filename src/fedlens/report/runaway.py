"""A client whose training ran away: its update far longer than those of the others in its round."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedlens.report.history import Line, listed, look, steps
from fedlens.report.wording import whole

# Medians. In our studies what passed ten cost FedAvg and its like 3 to 13 points in that round, and
# began every loss under SCAFFOLD (docs/results/README.md); all else stayed below nine.
FAR = 10.0


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

    @property
    def times_in_words(self) -> str:
        """The same as a whole number; of more than a million only that."""
        return "over a million" if self.times > 1e6 else whole(round(self.times))


def first_runaway(history: Sequence[Line], clients: int) -> Runaway | None:
    """Return the longest update of the first round that has one of ten medians, or None.

    Updates whose length is not recorded, or not finite, are passed over, as are those of clients that
    are not among the ``clients`` numbered from 0. Of fewer than three none is that far off.
    """
    for number, line in zip(steps(history), history, strict=True):
        lengths = {}
        for entry in listed(line, "clients"):
            client, length = look(entry, "client"), look(entry, "update_norm")
            if not math.isnan(length) and 0 <= client < clients:
                lengths[int(client)] = length
        if not lengths:
            continue
        client, length = max(lengths.items(), key=lambda item: item[1])
        median = statistics.median(lengths.values())
        if median > 0 and length >= FAR * median:
            return Runaway(number, client, length, median)
    return None


def remedy(federation: Mapping[str, Any]) -> str:
    """Say what may be set against far updates, given what is set already.

    Under SCAFFOLD the update of a client that takes part in every round returns as the correction of
    its next one: there clipping only delays what a pull prevents (docs/results/README.md).

    Args:
        federation: that section of the run's configuration.
    """
    if federation.get("far_off", "keep") != "keep":
        return (
            f"federation.far_off_factor = {federation.get('far_off_factor', 3.0):g} medians let it "
            "pass; a smaller one does not, and a lower local.lr may prevent such updates."
        )
    if federation.get("algorithm") == "scaffold" and federation.get("cohort", "all") == "all":
        mu = federation.get("parameters", {}).get("mu", 0.0)
        pull = f"a stronger pull than mu = {mu:g}" if mu else "a pull (mu = 0.1)"
        return (
            "Under SCAFFOLD with all clients in every round clipping only delays the loss; "
            f"{pull} in federation.parameters, or a lower local.lr, may prevent it."
        )
    return (
        'federation.far_off = "clip" shortens such updates, "reject" leaves them out, and a lower '
        "local.lr may prevent them."
    )
