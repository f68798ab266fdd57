"""Of which cases a person cannot know what the model says: only there is their label blind.

Whatever tells it leaves a record with their name, and it does not matter whether they read it: that
it was shown, that they exported the trail, which holds every case, or that the API answered them.
It is the image that counts: what is known of one case is known of all that have the same pixels.
"""

from collections.abc import Collection

from sqlalchemy import Connection, and_, exists, or_, select

from fedlens.review.contract import SOURCE_API, Actor
from fedlens.review.store.chain import in_seconds
from fedlens.review.store.tables import CASES, RECORDS
from fedlens.review.store.trail import DECIDED, EXPORTED, REVEALED

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
    exported = connection.execute(
        select(RECORDS.c.sequence, RECORDS.c.time)
        .where(RECORDS.c.kind == EXPORTED, RECORDS.c.actor == actor.name)
        .order_by(RECORDS.c.sequence.desc())
        .limit(1)
    ).one_or_none()
    if exported is not None:
        # by number, and by time too: a pruning records anew what an earlier export held
        known.append(
            or_(alike.c.record <= exported.sequence, alike.c.added <= in_seconds(exported.time))
        )
    same = exists().where(alike.c.digest == CASES.c.digest, or_(*known))
    query = select(CASES.c.number).where(
        CASES.c.number.in_(sorted(cases)), CASES.c.queued.is_(True), ~same
    )
    return set(connection.execute(query).scalars())
