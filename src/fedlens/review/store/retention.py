"""Retention: the oldest records may go after half a year, by a record that says so.

What stays is vouched for by what stays: cases, people and tokens whose records go are recorded anew,
and what was decided within the records that go is removed with them, but for a mark that keeps the
image from being queued again (see :mod:`~.worked`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, delete, func, select, update

from fedlens.review.contract import Actor, Choice, ConflictError, Record, ReviewError, State
from fedlens.review.store.anchors import kept_anchors
from fedlens.review.store.case_rows import vouched
from fedlens.review.store.cases import BATCH
from fedlens.review.store.chain import NOTHING, add_seal, in_words
from fedlens.review.store.people import People
from fedlens.review.store.rights import must_lead
from fedlens.review.store.tables import CASES, DECISIONS, PEOPLE, RECORDS
from fedlens.review.store.trail import (
    CASES_ADDED,
    PRUNED,
    RESUMED,
    STOPPED,
    Trail,
)
from fedlens.review.store.verification import prunes_by_last, verify
from fedlens.review.store.worked import keep_marks

if TYPE_CHECKING:
    from fedlens.review.store.store import Store

SHORTEST_DAYS = 183
"""Six months, which the EU AI Act (Art. 19, 26) asks for at least."""
_DAY = 86_400
_NUMBERS = 5000  # of cases, in one record
_STREAM = {"yield_per": 1000}


def prune(store: "Store", actor: Actor, older_than_days: int = SHORTEST_DAYS) -> Record | None:
    """Remove the oldest records, verify first, and leave a record of it.

    Args:
        store: to be pruned.
        actor: a lead, or the command line as one.
        older_than_days: only records that are older; at least 183.

    Returns:
        The record of it: its content has ``first``, ``last`` and ``count`` of the records that went,
        ``digest`` of the last, ``seals`` (running digest of their signatures) and ``before`` (the time
        before which they were written); None where no record is that old.

    Raises:
        NotAllowedError: not a lead.
        ReviewError: fewer days than 183.
        ConflictError: the store is not as it was signed: pruning would hide it.
    """
    must_lead(actor, "prunes the trail")
    if older_than_days < SHORTEST_DAYS:
        raise ReviewError(
            f"Records are kept for at least {SHORTEST_DAYS} days, and not for {older_than_days}."
        )
    before = in_words(store.clock() - older_than_days * _DAY)
    if _last_before(store, before) is None:
        return None
    verification = verify(
        store.database, store.key.public, kept_anchors(store.key, store.trail.head().store)
    )
    if not verification.valid:
        raise ConflictError(f"Nothing was pruned, since the {verification.sentence}")
    return store.database.write(
        lambda connection: _prune(connection, store, actor, before, verification.last)
    )


def _last_before(store: "Store", before: str) -> int | None:
    with store.database.read() as connection:
        return _last(connection, before)


def _last(connection: Connection, before: str) -> int | None:
    """Return the last of the oldest records that were all written before a time.

    The record that stopped the model stays for as long as it is stopped.
    """
    newer = connection.execute(
        select(func.min(RECORDS.c.sequence)).where(RECORDS.c.time >= before)
    ).scalar()
    last, first = connection.execute(
        select(func.max(RECORDS.c.sequence), func.min(RECORDS.c.sequence))
    ).one()
    if last is None:
        return None
    end = last if newer is None else newer - 1
    switched = connection.execute(
        select(RECORDS.c.sequence, RECORDS.c.kind)
        .where(RECORDS.c.kind.in_((STOPPED, RESUMED)))
        .order_by(RECORDS.c.sequence.desc())
        .limit(1)
    ).one_or_none()
    if switched is not None and switched.kind == STOPPED:
        end = min(end, switched.sequence - 1)
    return end if end >= first else None


def _prune(
    connection: Connection, store: "Store", actor: Actor, before: str, verified: int
) -> Record | None:
    last = _last(connection, before)
    if last is None or last > verified:
        return None  # another process has pruned meanwhile
    trail = store.trail
    seals, first, digest = _seals(connection, last)
    gone = select(DECISIONS.c.sequence).where(DECISIONS.c.sequence <= last)
    decided = CASES.c.decision.in_(gone)
    # recorded anew at an earlier pruning: that record stays, and still tells of them
    told_of = select(CASES.c.number).where(decided, CASES.c.record > last)
    numbers = list(connection.execute(told_of.order_by(CASES.c.number)).scalars())
    for start in range(0, len(numbers), _NUMBERS):
        trail.append(connection, PRUNED, actor, {"cases": numbers[start : start + _NUMBERS]})
    keep_marks(connection, trail, actor, decided, last)
    connection.execute(delete(CASES).where(decided))
    # a case whose deferral goes is open again
    connection.execute(
        update(CASES)
        .where(CASES.c.state == State.DEFERRED, _deferral_goes(last))
        .values(state=State.OPEN, assignee=None, deferred_by=None)
    )
    connection.execute(
        update(CASES)
        .where(CASES.c.deferred_by.is_not(None), _deferral_goes(last))
        .values(deferred_by=None)
    )
    stays = select(DECISIONS.c.sequence).where(
        DECISIONS.c.case == CASES.c.number, DECISIONS.c.sequence > last
    )
    connection.execute(
        delete(CASES).where(
            CASES.c.queued.is_(False),
            CASES.c.record <= last,
            CASES.c.decision.is_(None),
            ~stays.exists(),  # such as one that was deferred since
        )
    )
    connection.execute(delete(DECISIONS).where(DECISIONS.c.sequence <= last))
    _record_cases_anew(connection, trail, actor, last)
    _record_people_anew(connection, store.people, actor, last)
    connection.execute(delete(RECORDS).where(RECORDS.c.sequence <= last))
    content = {
        "first": first,
        "last": last,
        "count": last - first + 1,
        "digest": digest,
        "seals": seals,
        "before": before,
    }
    return trail.append(connection, PRUNED, actor, content)


def _deferral_goes(last: int) -> Any:
    """No deferral of the case stays that was not taken back."""
    stays = (
        select(DECISIONS.c.sequence)
        .where(
            and_(
                DECISIONS.c.case == CASES.c.number,
                DECISIONS.c.undone_by.is_(None),
                DECISIONS.c.choice == str(Choice.DEFER),
                DECISIONS.c.sequence > last,
            )
        )
        .exists()
    )
    return ~stays


def _seals(connection: Connection, last: int) -> tuple[str, int, str]:
    """Return the running digest of the signatures up to a record, the first number, its digest."""
    rows = connection.execute(
        select(RECORDS.c.sequence, RECORDS.c.digest, RECORDS.c.signature)
        .where(RECORDS.c.sequence <= last)
        .order_by(RECORDS.c.sequence),
        execution_options=_STREAM,
    )
    seals, first, digest = NOTHING, 0, NOTHING
    for row in rows:
        if not first:
            first = row.sequence
            seals = _seals_before(connection, first)
        seals = add_seal(seals, row.signature)
        digest = row.digest
    return seals, first, digest


def _seals_before(connection: Connection, first: int) -> str:
    if first == 1:
        return NOTHING
    return str(prunes_by_last(connection)[first - 1]["seals"])


def _record_cases_anew(connection: Connection, trail: Trail, actor: Actor, last: int) -> None:
    while True:
        rows: Sequence[Any] = connection.execute(
            select(CASES).where(CASES.c.record <= last).order_by(CASES.c.number).limit(BATCH)
        ).all()
        if not rows:
            return
        content = {"cases": [vouched(row._mapping) for row in rows], "carried": True}
        record = trail.append(connection, CASES_ADDED, actor, content)
        connection.execute(
            update(CASES)
            .where(CASES.c.number.in_([row.number for row in rows]))
            .values(record=record.sequence)
        )


def _record_people_anew(connection: Connection, people: People, actor: Actor, last: int) -> None:
    rows = connection.execute(
        select(PEOPLE).where(PEOPLE.c.record <= last).order_by(PEOPLE.c.folded)
    ).all()
    for row in rows:
        people.carry(connection, row, actor)
