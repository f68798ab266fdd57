"""Of which cases a person cannot know what the model says: only there is their label blind.

Whatever tells it leaves a record with their name, and it does not matter whether they read it: that
it was shown, that they exported the trail, which holds every case, or that the API answered the same
image for them.
"""

from collections.abc import Collection

from sqlalchemy import Connection, exists, select

from fedlens.review.contract import SOURCE_API, Actor
from fedlens.review.store.chain import in_seconds
from fedlens.review.store.tables import CASES, RECORDS
from fedlens.review.store.trail import EXPORTED, REVEALED


def unseen(connection: Connection, actor: Actor, cases: Collection[int]) -> set[int]:
    """Return those of ``cases`` (numbers) that are queued and whose answer ``actor`` cannot know."""
    if not cases:
        return set()
    shown = exists().where(
        RECORDS.c.case == CASES.c.number,
        RECORDS.c.kind == REVEALED,
        RECORDS.c.actor == actor.name,
    )
    sent = CASES.alias("sent")
    answered = exists().where(
        sent.c.source == SOURCE_API,
        sent.c.digest == CASES.c.digest,
        RECORDS.c.sequence == sent.c.record,
        RECORDS.c.actor == actor.name,
    )
    query = select(CASES.c.number).where(
        CASES.c.number.in_(sorted(cases)), CASES.c.queued.is_(True), ~shown, ~answered
    )
    exported = connection.execute(
        select(RECORDS.c.sequence, RECORDS.c.time)
        .where(RECORDS.c.kind == EXPORTED, RECORDS.c.actor == actor.name)
        .order_by(RECORDS.c.sequence.desc())
        .limit(1)
    ).one_or_none()
    if exported is not None:
        # by number, and by time too: a pruning records anew what an earlier export held
        query = query.where(
            CASES.c.record > exported.sequence, CASES.c.added > in_seconds(exported.time)
        )
    return set(connection.execute(query).scalars())
