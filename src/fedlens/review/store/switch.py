"""The stop switch: one record takes the model out of service, another puts it back."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from fedlens.review.contract import (
    LONGEST_TEXT,
    Actor,
    ConflictError,
    Record,
    ReviewError,
    StoppedError,
)
from fedlens.review.store.query import Prepared
from fedlens.review.store.rights import must_lead, must_work
from fedlens.review.store.tables import RECORDS
from fedlens.review.store.trail import (
    RECORD_COLUMNS,
    RESUMED,
    STOPPED,
    Trail,
    record_from,
)


@dataclass(frozen=True)
class Stopped:
    """That the model is out of service.

    Attributes:
        by: name of who stopped it.
        role: as what.
        why: in their words.
        time: when, as in records.
        sequence: number of the record.
    """

    by: str
    role: str
    why: str
    time: str
    sequence: int


class Switch:
    """The stop switch of a store; what it says is the newest record of its kind, and nothing else.

    Args:
        trail: of the store.
    """

    def __init__(self, trail: Trail) -> None:
        self.trail = trail
        self.database = trail.database

    def state(self) -> Stopped | None:
        """Return who stopped the model and why, or None while it is in service."""
        with self.database.read() as connection:
            return _state(connection)

    def check(self) -> None:
        """Raise where the model is stopped.

        Raises:
            StoppedError: says who stopped it and why.
        """
        with self.database.read() as connection:
            check_in_service(connection)

    def stop(self, actor: Actor, why: str) -> Record:
        """Take the model out of service; reviewers and leads may.

        Raises:
            NotAllowedError: an auditor.
            ConflictError: it is stopped already.
            ReviewError: no reason is given, or it is longer than 2,000 characters.
        """
        must_work(actor)
        return self._turn(actor, why, STOPPED)

    def resume(self, lead: Actor, why: str) -> Record:
        """Put the model back into service; only leads may.

        Raises:
            NotAllowedError: not a lead.
            ConflictError: it is in service.
            ReviewError: no reason is given, or it is longer than 2,000 characters.
        """
        must_lead(lead, "puts the model back into service")
        return self._turn(lead, why, RESUMED)

    def _turn(self, actor: Actor, why: str, kind: str) -> Record:
        if not why.strip():
            raise ReviewError("Say why, in a few words: whoever comes next needs to know.")
        if len(why) > LONGEST_TEXT:
            raise ReviewError(
                f"The reason has {len(why):,} characters, expected at most {LONGEST_TEXT:,}."
            )

        def work(connection: Connection) -> Record:
            stopped = _state(connection)
            if kind == STOPPED and stopped is not None:
                raise ConflictError(f"The model was stopped already, by {stopped.by}.")
            if kind == RESUMED and stopped is None:
                raise ConflictError("The model is in service.")
            return self.trail.append(connection, kind, actor, {"why": why})

        return self.database.write(work)


# One query a kind: each walks an index from its end.
_NEWEST = tuple(
    Prepared(
        select(*RECORD_COLUMNS)
        .where(RECORDS.c.kind == kind)
        .order_by(RECORDS.c.sequence.desc())
        .limit(1)
    )
    for kind in (STOPPED, RESUMED)
)


def check_in_service(connection: Connection) -> None:
    """Raise ``StoppedError``, which says by whom and why, where the model is stopped."""
    stopped = _state(connection)
    if stopped is not None:
        raise StoppedError(
            f"The model was taken out of service by {stopped.by} on {stopped.time}: {stopped.why}"
        )


def _state(connection: Connection) -> Stopped | None:
    turns = [record_from(row) for query in _NEWEST for row in query.rows(connection)]
    record = max(turns, key=lambda turn: turn.sequence, default=None)
    if record is None or record.kind == RESUMED:
        return None
    why = str(record.content.get("why", ""))
    return Stopped(record.actor, record.role, why, record.time, record.sequence)
