"""The trail: what happened, in order, each record chained to the one before and signed.

Nothing in a record is ever changed; what was wrong is corrected by a later record that names it.
No record holds an image, a map or a password.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, func, select

from fedlens.review.contract import Actor, ConflictError, NotFoundError, Record
from fedlens.review.store.chain import (
    Head,
    add_seal,
    canonical_content,
    check_name,
    digest_of,
    in_words,
    record_message,
)
from fedlens.review.store.database import Database, last_work
from fedlens.review.store.end import Memory, read_head, seal, trusted_head
from fedlens.review.store.query import Prepared
from fedlens.review.store.signing import ReviewKey
from fedlens.review.store.tables import RECORDS

LARGEST_NUMBER = 2**63 - 1

SERVING_BEGAN = "serving-began"
"""A console was started, on a named model."""
CASES_ADDED = "cases-added"
"""Cases came in; each with its source, its image's digest, and a digest of what the model said."""
OPENED = "opened"
"""A person opened a case."""
LABELLED_BLIND = "labelled-blind"
"""A person said what they see before the prediction was shown."""
REVEALED = "revealed"
"""The prediction and its map were shown."""
DECIDED = "decided"
"""A person accepted, overrode or deferred."""
UNDONE = "undone"
"""A decision was taken back; the record names it."""
FLAGGED = "flagged"
"""An explanation was flagged as misleading, outside a decision."""
ASSIGNED = "assigned"
"""A lead gave a case to a person."""
RELEASED = "released"
"""A case was given back."""
PREDICTED = "predicted"
"""The API predicted an image."""
EXPLAINED = "explained"
"""The API explained a prediction."""
STOPPED = "stopped"
"""The model was taken out of service."""
RESUMED = "resumed"
"""The model was put back into service."""
PERSON_ADDED = "person-added"
"""A person or an API token was added."""
PERSON_CHANGED = "person-changed"
"""A person's role, password or standing, or a token's, was changed."""
SIGNED_IN = "signed-in"
"""A person signed in."""
SIGN_IN_REFUSED = "sign-in-refused"
"""A wrong name or password was given."""
EXPORTED = "exported"
"""The trail was exported."""
PRUNED = "pruned"
"""The oldest records were removed, after the time that they must be kept."""
ANCHORED = "anchored"
"""The chain's end was written down outside the store."""

KINDS = (
    SERVING_BEGAN,
    CASES_ADDED,
    OPENED,
    LABELLED_BLIND,
    REVEALED,
    DECIDED,
    UNDONE,
    FLAGGED,
    ASSIGNED,
    RELEASED,
    PREDICTED,
    EXPLAINED,
    STOPPED,
    RESUMED,
    PERSON_ADDED,
    PERSON_CHANGED,
    SIGNED_IN,
    SIGN_IN_REFUSED,
    EXPORTED,
    PRUNED,
    ANCHORED,
)
RECORD_COLUMNS = (
    RECORDS.c.sequence,
    RECORDS.c.time,
    RECORDS.c.kind,
    RECORDS.c.actor,
    RECORDS.c.role,
    RECORDS.c.case,
    RECORDS.c.content,
    RECORDS.c.previous,
    RECORDS.c.digest,
    RECORDS.c.signature,
)


_ADD_RECORDS = Prepared(RECORDS.insert(), [column.name for column in RECORD_COLUMNS])


@dataclass(frozen=True)
class Entry:
    """A record before it is in the trail.

    Attributes:
        kind: one of :data:`KINDS`.
        actor: who does it; a name of at most 64 characters.
        content: plain JSON, at most 128 KiB, no image.
        case: number of the case that it is about.
    """

    kind: str
    actor: Actor
    content: Mapping[str, Any]
    case: int | None = None


def append_all(
    connection: Connection,
    key: ReviewKey,
    entries: Sequence[Entry],
    *,
    at: float | None = None,
    memory: Memory | None = None,
) -> list[dict[str, Any]]:
    """Append records within :meth:`~.database.Database.write`; the head is signed at the commit.

    Args:
        connection: of the transaction.
        key: that signs.
        entries: in order.
        at: seconds since 1970 (UTC); now by default.
        memory: what this process saw of the chain before.

    Returns:
        Their rows, by the names of :data:`RECORD_COLUMNS`.

    Raises:
        ReviewError: a content or a name cannot be kept; nothing was written.
        ConflictError: the store was tampered with, or put back to an older state: nothing is
            appended to a chain that cannot be trusted, since that would sign what was forged.
    """
    last = last_work(connection)
    sealing = last.get("head")
    head = (
        sealing.args[0] if isinstance(sealing, partial) else trusted_head(connection, key, memory)
    )
    moment = in_words(time.time() if at is None else at)
    rows = []
    for entry in entries:
        if entry.kind not in KINDS:
            raise ValueError(f"there is no kind of record '{entry.kind}'")
        row: dict[str, Any] = {
            "sequence": head.count + 1,
            "time": moment,
            "kind": entry.kind,
            "actor": check_name(entry.actor.name),
            "role": str(entry.actor.role),
            "case": entry.case,
            "content": canonical_content(entry.content),
            "previous": head.digest,
        }
        digest = digest_of(**row)
        signature = key.sign(record_message(head.store, head.count + 1, digest)).hex()
        rows.append({**row, "digest": digest, "signature": signature})
        head = Head(
            head.store,
            head.count + 1,
            digest,
            add_seal(head.seals, signature),
            moment,
            head.fingerprint,
        )
    if rows:
        _ADD_RECORDS.run_all(connection, rows)
        last["head"] = partial(seal, head, key, memory)
    return rows


def append(
    connection: Connection,
    key: ReviewKey,
    *,
    kind: str,
    actor: Actor,
    case: int | None = None,
    content: Mapping[str, Any],
    at: float | None = None,
    memory: Memory | None = None,
) -> Record:
    """Append one record, and return it; see :class:`Entry` and :func:`append_all`."""
    entry = Entry(kind, actor, content, case)
    (row,) = append_all(connection, key, [entry], at=at, memory=memory)
    return record_from(list(row.values()))


def record_from(row: Row[Any] | Sequence[Any]) -> Record:
    """Return the record of a row of :data:`RECORD_COLUMNS`.

    Content that somebody made unreadable is shown as it is; verification names it.
    """
    sequence, moment, kind, actor, role, case, text, previous, digest = row[:9]
    try:
        content = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        content = {"unreadable": text}
    return Record(sequence, moment, kind, actor, role, case, content, previous, digest)


@dataclass
class Trail:
    """The trail of one store, to be read and appended to.

    Attributes:
        database: that it is in.
        key: that signs it.
        clock: seconds since 1970 (UTC).
        memory: what this process saw of the chain's end.
    """

    database: Database
    key: ReviewKey
    clock: Callable[[], float] = time.time
    memory: Memory = field(default_factory=Memory)

    def append(
        self,
        connection: Connection,
        kind: str,
        actor: Actor,
        content: Mapping[str, Any],
        case: int | None = None,
    ) -> Record:
        """Append one record within a write; see :func:`append`."""
        return append(
            connection,
            self.key,
            kind=kind,
            actor=actor,
            case=case,
            content=content,
            at=self.clock(),
            memory=self.memory,
        )

    def append_all(self, connection: Connection, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Append records within a write, and return their rows; see :func:`append_all`."""
        return append_all(connection, self.key, entries, at=self.clock(), memory=self.memory)

    def add(
        self, kind: str, actor: Actor, content: Mapping[str, Any], case: int | None = None
    ) -> Record:
        """Append one record in a write of its own, and return it once it is on the disk."""
        return self.database.write(
            lambda connection: self.append(connection, kind, actor, content, case)
        )

    def head(self) -> Head:
        """Return the head.

        Raises:
            ConflictError: it was removed.
        """
        with self.database.read() as connection:
            head = read_head(connection)
        if head is None:
            raise ConflictError("The end of the trail was removed from the store; verify it.")
        return head

    def record(self, sequence: int) -> Record:
        """Return one record.

        Raises:
            NotFoundError: there is none of this number.
        """
        if 0 < sequence <= LARGEST_NUMBER:
            query = select(*RECORD_COLUMNS).where(RECORDS.c.sequence == sequence)
            with self.database.read() as connection:
                row = connection.execute(query).one_or_none()
            if row is not None:
                return record_from(row)
        raise NotFoundError(f"There is no record {sequence} in the trail.")

    def page(
        self,
        *,
        case: int | None = None,
        actor: str | None = None,
        kind: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """Return records, the newest first.

        Args:
            case: number of the case that they are about.
            actor: name of who did it.
            kind: of the records.
            before: sequence number; only older ones (the last of a page asks for the next).
            limit: at most so many.
        """
        query = select(*RECORD_COLUMNS).order_by(RECORDS.c.sequence.desc()).limit(limit)
        for condition in self._conditions(case, actor, kind):
            query = query.where(condition)
        if before is not None:
            query = query.where(RECORDS.c.sequence < min(before, LARGEST_NUMBER))
        with self.database.read() as connection:
            return [record_from(row) for row in connection.execute(query)]

    def count(
        self, *, case: int | None = None, actor: str | None = None, kind: str | None = None
    ) -> int:
        """Return how many records there are of these."""
        query = select(func.count()).select_from(RECORDS)
        for condition in self._conditions(case, actor, kind):
            query = query.where(condition)
        with self.database.read() as connection:
            return connection.execute(query).scalar_one()

    @staticmethod
    def _conditions(case: int | None, actor: str | None, kind: str | None) -> list[Any]:
        conditions = []
        if case is not None:
            conditions.append(RECORDS.c.case == max(-1, min(case, LARGEST_NUMBER)))
        if actor is not None:
            conditions.append(RECORDS.c.actor == actor)
        if kind is not None:
            conditions.append(RECORDS.c.kind == kind)
        return conditions
