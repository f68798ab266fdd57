"""Who has a case, and for how long: half an hour, which everything they do renews, or for good."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, case, update

from fedlens.review.contract import Actor, Case, State
from fedlens.review.store.case_rows import case_from, find_case
from fedlens.review.store.tables import CASES

LEASE_SECONDS = 30 * 60

BACK: dict[Any, Any] = {
    CASES.c.state: case(
        (CASES.c.deferred_by.is_(None), str(State.OPEN)), else_=str(State.DEFERRED)
    ),
    CASES.c.assignee: CASES.c.deferred_by,
    CASES.c.lease_until: None,
}
"""What a case is again that is given back."""


def give_back(connection: Connection, name: str) -> int:
    """Give all cases back that a person has, within a write; return how many."""
    theirs = (CASES.c.assignee == name, CASES.c.state == State.ASSIGNED)
    return connection.execute(update(CASES).where(*theirs).values(BACK)).rowcount


def renew(connection: Connection, actor: Actor, number: int, now: float) -> bool:
    """Renew a person's lease within a write; return whether the case is theirs."""
    row = find_case(connection, number)
    if row.state != State.ASSIGNED or row.assignee != actor.name:
        return False
    if row.lease_until is not None:  # what a lead assigned is theirs without an end
        until = max(row.lease_until, now + LEASE_SECONDS)
        connection.execute(update(CASES).where(CASES.c.number == number).values(lease_until=until))
    return True


def lease(connection: Connection, number: int, name: str, now: float) -> Case:
    """Lease a case to a person within a write, and return it; what is theirs for good stays so."""
    row = find_case(connection, number)
    for_ever = row.state == State.ASSIGNED and row.lease_until is None
    connection.execute(
        update(CASES)
        .where(CASES.c.number == number)
        .values(
            state=State.ASSIGNED,
            assignee=name,
            lease_until=None if for_ever else now + LEASE_SECONDS,
        )
    )
    return case_from(find_case(connection, number))


def expired(now: float) -> tuple[ColumnElement[bool], ...]:
    """Return of which cases the lease has run out."""
    return CASES.c.state == State.ASSIGNED, CASES.c.lease_until < now


def expire(connection: Connection, now: float) -> None:
    """Give back within a write what is leased no more."""
    connection.execute(update(CASES).where(*expired(now)).values(BACK))
