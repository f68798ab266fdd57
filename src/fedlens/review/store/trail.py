"""The trail: what happened, in order, each record chained to the one before and signed.

Nothing in a record is ever changed; what was wrong is corrected by a later record that names it.
No record holds an image, a map or a password.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from fedlens.review.contract import Actor, ConflictError, NotFoundError, Record
from fedlens.review.store.chain import (
    NOTHING,
    Head,
    add_seal,
    canonical_content,
    check_name,
    digest_of,
    in_words,
    record_message,
)
from fedlens.review.store.database import Database, last_work
from fedlens.review.store.signing import ReviewKey
from fedlens.review.store.tables import HEAD, RECORDS

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
_HEAD_COLUMNS = (
    HEAD.c.store,
    HEAD.c.count,
    HEAD.c.digest,
    HEAD.c.seals,
    HEAD.c.time,
    HEAD.c.fingerprint,
    HEAD.c.signature,
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


# Made once: SQLAlchemy takes longer to build a statement than SQLite takes to run it.
_READ_HEAD = select(*_HEAD_COLUMNS).where(HEAD.c.id == 1)
_ADD_RECORD = RECORDS.insert()
_SEALED = ("count", "digest", "seals", "time", "signature")
_WRITE_HEAD = (
    update(HEAD).where(HEAD.c.id == 1).values({name: bindparam(f"new_{name}") for name in _SEALED})
)


@dataclass
class Memory:
    """What a process knows of the chain's end: it can only grow.

    Attributes:
        known: the newest head that was seen, in the store or in an anchor; None before.
        made: the head that this process signed last.
    """

    known: Head | None = None
    made: Head | None = None


def read_head(connection: Connection) -> Head | None:
    """Return the head as it stands in the store, unchecked; None where there is none."""
    row = connection.execute(_READ_HEAD).one_or_none()
    if row is None:
        return None
    store, count, *rest = row
    # SQLite keeps any type in any column: what is no number is none that was signed
    return Head(str(store), count if isinstance(count, int) else -1, *(str(it) for it in rest))


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
    """Append one record within :meth:`~.database.Database.write`; the head is signed at the commit.

    Args:
        connection: of the transaction.
        key: that signs.
        kind: one of :data:`KINDS`.
        actor: who does it; a name of at most 64 characters.
        case: number of the case that it is about.
        content: plain JSON, at most 128 KiB, no image.
        at: seconds since 1970 (UTC); now by default.
        memory: what this process saw of the chain before.

    Raises:
        ReviewError: the content or the name cannot be kept.
        ConflictError: the store was tampered with, or put back to an older state: nothing is
            appended to a chain that cannot be trusted, since that would sign what was forged.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind of record '{kind}'")
    last = last_work(connection)
    sealing = last.get("head")
    head = sealing.args[0] if isinstance(sealing, partial) else _trusted(connection, key, memory)
    sequence = head.count + 1
    moment = in_words(time.time() if at is None else at)
    text = canonical_content(content)
    name, role = check_name(actor.name), str(actor.role)
    digest = digest_of(sequence, moment, kind, name, role, case, text, head.digest)
    signature = key.sign(record_message(head.store, sequence, digest)).hex()
    connection.execute(
        _ADD_RECORD,
        {
            "sequence": sequence,
            "time": moment,
            "kind": kind,
            "actor": name,
            "role": role,
            "case": case,
            "content": text,
            "previous": head.digest,
            "digest": digest,
            "signature": signature,
        },
    )
    after = replace(
        head,
        count=sequence,
        digest=digest,
        seals=add_seal(head.seals, signature),
        time=moment,
        signature="",
    )
    last["head"] = partial(_seal, after, key, memory)
    return Record(sequence, moment, kind, name, role, case, json.loads(text), head.digest, digest)


def begin(connection: Connection, key: ReviewKey, store: str, at: float) -> None:
    """Write the head of a store that has no record yet."""
    fingerprint = key.public.fingerprint
    head = Head(store, 0, NOTHING, NOTHING, in_words(at), fingerprint).signed(key)
    connection.execute(HEAD.insert(), {"id": 1, "next_case": 1, **head.__dict__})


def _seal(head: Head, key: ReviewKey, memory: Memory | None, connection: Connection) -> None:
    signed = head.signed(key)
    if memory is not None:
        memory.made = signed
    connection.execute(_WRITE_HEAD, {f"new_{name}": getattr(signed, name) for name in _SEALED})


def _trusted(connection: Connection, key: ReviewKey, memory: Memory | None) -> Head:
    head = read_head(connection)
    if head is None:
        raise ConflictError(
            "The end of the trail was removed from the store, so that nothing is appended to it; "
            "verify the store and put a backup back."
        )
    if memory is None or head != memory.made:
        if head.fingerprint != key.public.fingerprint:
            raise ConflictError(
                f"The trail was signed with another key ({head.fingerprint}) than the one in "
                f"{key.path} ({key.public.fingerprint}); use the key that it was begun with."
            )
        if not head.holds(key.public):
            raise ConflictError(
                "The end of the trail was changed after it was signed, so that nothing is appended "
                "to it; verify the store and put a backup back."
            )
    if memory is not None:
        known = memory.known
        if known is not None and known.store != head.store:
            raise ConflictError(
                "Another store was put in the place of this one; put a backup back."
            )
        if known is not None and (
            head.count < known.count or (head.count == known.count and head.digest != known.digest)
        ):
            raise ConflictError(
                f"The store was put back to an older state: it ends at record {head.count}, and "
                f"record {known.count} was there before; verify it and put a newer backup back."
            )
        memory.known = head
    return head


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
