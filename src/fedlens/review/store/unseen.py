"""Of which cases a person cannot know what the model says: only there is their label blind.

Whatever tells it leaves a record with their name, and it does not matter whether they read it: that
it was shown, that they exported the trail, which holds every case, or that the API answered them.
An auditor reads everything and leaves no record of it: who was one knows all that came in until then.
What came in before the records that a pruning removed, anybody may know.

It is the image that counts: what is known of one case is known of all that have the same pixels.
"""

from collections.abc import Collection

from sqlalchemy import Connection, and_, exists, or_, select

from fedlens.review.contract import SOURCE_API, Actor, Role
from fedlens.review.store.chain import canonical, in_seconds
from fedlens.review.store.tables import CASES, RECORDS
from fedlens.review.store.trail import (
    DECIDED,
    EXPORTED,
    PERSON_ADDED,
    PERSON_CHANGED,
    PRUNED,
    RECORD_COLUMNS,
    REVEALED,
    record_from,
)

_TELLING = (REVEALED, DECIDED)
"""What a person is told the answer by; the record of their own decision holds it too."""


def unseen(connection: Connection, actor: Actor, cases: Collection[int]) -> set[int]:
    """Return those of ``cases`` (numbers) that are queued and whose answer ``actor`` cannot know."""
    if not cases:
        return set()
    alike = CASES.alias("alike")  # the case itself, and others of the same image
    theirs = RECORDS.c.actor == actor.name
    shown = exists().where(RECORDS.c.case == alike.c.number, RECORDS.c.kind.in_(_TELLING), theirs)
    answered = exists().where(RECORDS.c.sequence == alike.c.record, theirs)
    known = [shown, and_(alike.c.source == SOURCE_API, answered)]
    ends = [_exported(connection, actor), _read_everything(connection, actor)]
    for sequence, moment in filter(None, ends):
        # by number, and by time too: a pruning records anew what an earlier record told of
        known.append(or_(alike.c.record <= sequence, alike.c.added <= in_seconds(moment)))
    pruned = _pruned(connection)
    if pruned is not None:  # who was told of what came in before it, nobody can tell any more
        known.append(alike.c.added < in_seconds(pruned))
    same = exists().where(alike.c.digest == CASES.c.digest, or_(*known))
    query = select(CASES.c.number).where(
        CASES.c.number.in_(sorted(cases)), CASES.c.queued.is_(True), ~same
    )
    return set(connection.execute(query).scalars())


def _exported(connection: Connection, actor: Actor) -> tuple[int, str] | None:
    """Return number and time of the record of the last export by ``actor``."""
    row = connection.execute(
        select(RECORDS.c.sequence, RECORDS.c.time)
        .where(RECORDS.c.kind == EXPORTED, RECORDS.c.actor == actor.name)
        .order_by(RECORDS.c.sequence.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.sequence, row.time)


def _read_everything(connection: Connection, actor: Actor) -> tuple[int, str] | None:
    """Return number and time of the record by which ``actor`` last ceased to be an auditor."""
    rows = connection.execute(
        select(*RECORD_COLUMNS)
        .where(
            RECORDS.c.kind.in_((PERSON_ADDED, PERSON_CHANGED)),
            RECORDS.c.content.contains(canonical(actor.name), autoescape=True),
        )
        .order_by(RECORDS.c.sequence)
    )
    ceased, audits = None, False
    for record in map(record_from, rows):
        if record.content.get("name") == actor.name:
            audited, audits = audits, record.content.get("role") == Role.AUDITOR
            if audited and not audits:
                ceased = record.sequence, record.time
    return ceased


def _pruned(connection: Connection) -> str | None:
    """Return the time before which the records were written that the last pruning removed."""
    rows = connection.execute(
        select(*RECORD_COLUMNS).where(RECORDS.c.kind == PRUNED).order_by(RECORDS.c.sequence.desc())
    )
    befores = (record_from(row).content.get("before") for row in rows)
    return next((one for one in befores if isinstance(one, str)), None)
