"""What a person has done with a case, worked out from the trail and never taken from a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, select

from fedlens.review.contract import Actor
from fedlens.review.store.chain import in_seconds
from fedlens.review.store.leases import LEASE_SECONDS
from fedlens.review.store.tables import RECORDS
from fedlens.review.store.trail import (
    DECIDED,
    LABELLED_BLIND,
    OPENED,
    RECORD_COLUMNS,
    REVEALED,
    UNDONE,
    record_from,
)

_STEPS = (OPENED, LABELLED_BLIND, REVEALED)


@dataclass(frozen=True)
class Work:
    """What a person has done with a case since it was last decided by them or given back by undoing.

    Attributes:
        opened: when they opened it first, as in records; None where they did not.
        blind: class number that they said blind, or None; ``labelled`` says whether they did.
        labelled: they said something blind.
        revealed: when the prediction was first shown to them, in this work or before; or None.
        map_revealed: when a map of it first was, and could be seen; or None.
        times: of all of their records from opening it on, in order, seconds since 1970.
        spent: seconds on task before, if what they were spent on was taken back.
    """

    opened: str | None = None
    blind: int | None = None
    labelled: bool = False
    revealed: str | None = None
    map_revealed: str | None = None
    times: tuple[float, ...] = ()
    spent: float = 0.0

    def seconds(self, now: float) -> float | None:
        """Return the seconds on task until ``now``; a pause counts for at most a lease's half hour."""
        if not self.times:
            return None
        return round(self.spent + _on_task((*self.times, now)), 3)


def work_of(connection: Connection, actor: Actor, case: int) -> Work:
    """Return what a person has done with a case so far."""
    query = (
        select(*RECORD_COLUMNS)
        .where(
            RECORDS.c.case == case,
            RECORDS.c.kind.in_((*_STEPS, DECIDED, UNDONE)),
        )
        .order_by(RECORDS.c.sequence)
    )
    opened = revealed = map_revealed = None
    blind: int | None = None
    labelled = False
    times: list[float] = []
    spent = 0.0
    decided: dict[int, Any] = {}
    for row in connection.execute(query):
        if row.kind == DECIDED and row.actor == actor.name:
            decided[row.sequence] = row
            opened, times, spent = None, [], 0.0
        elif row.kind == UNDONE:
            mine = decided.get(record_from(row).content.get("record", 0))
            # what was taken back counts on, and the time until it was does not
            spent = spent + _on_task(times) if mine is None else _seconds_of(mine)
            opened, times = None, []
        elif row.actor == actor.name and row.kind in _STEPS:
            if opened or row.kind == OPENED:  # who looked before was not at work on it
                times.append(in_seconds(row.time))
            if row.kind == OPENED:
                opened = opened or row.time
            elif row.kind == REVEALED:
                revealed = revealed or row.time
                if map_revealed is None and maps_are_on(record_from(row).content.get("displayed")):
                    map_revealed = row.time
            else:
                blind, labelled = record_from(row).content.get("label"), True
    return Work(opened, blind, labelled, revealed, map_revealed, tuple(times), spent)


def _on_task(times: Sequence[float]) -> float:
    """Return the seconds between moments in order; a pause counts for half an hour at most."""
    gaps = (later - earlier for earlier, later in pairwise(times))
    return sum(min(max(gap, 0.0), LEASE_SECONDS) for gap in gaps)


def _seconds_of(decision: Any) -> float:
    seconds = record_from(decision).content.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def maps_are_on(displayed: Any) -> bool:
    """Return whether there is a map in what was displayed that is not see-through altogether."""
    if not isinstance(displayed, Mapping) or not displayed.get("maps"):
        return False
    opacity = displayed.get("opacity", 1.0)
    return isinstance(opacity, int | float) and opacity > 0
