"""Where the trail ends, as it stands in the store: read, trusted before it is built on, and sealed."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from fedlens.review.contract import ConflictError
from fedlens.review.store.chain import NOTHING, Head, in_words
from fedlens.review.store.query import Prepared
from fedlens.review.store.signing import ReviewKey
from fedlens.review.store.tables import HEAD

_HEAD_COLUMNS = (
    HEAD.c.store,
    HEAD.c.count,
    HEAD.c.digest,
    HEAD.c.seals,
    HEAD.c.time,
    HEAD.c.fingerprint,
    HEAD.c.signature,
)
_READ_HEAD = Prepared(select(*_HEAD_COLUMNS).where(HEAD.c.id == 1))
_SEALED = ("count", "digest", "seals", "time", "signature")
_WRITE_HEAD = Prepared(
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
    rows = _READ_HEAD.rows(connection)
    if not rows:
        return None
    store, count, *rest = rows[0]
    # SQLite keeps any type in any column: what is no number is none that was signed
    return Head(str(store), count if isinstance(count, int) else -1, *(str(it) for it in rest))


def begin(connection: Connection, key: ReviewKey, store: str, at: float) -> None:
    """Write the head of a store that has no record yet."""
    fingerprint = key.public.fingerprint
    head = Head(store, 0, NOTHING, NOTHING, in_words(at), fingerprint).signed(key)
    connection.execute(HEAD.insert(), {"id": 1, "next_case": 1, **head.__dict__})


def seal(head: Head, key: ReviewKey, memory: Memory | None, connection: Connection) -> None:
    """Sign a head, and write it in the place of the one that is there."""
    signed = head.signed(key)
    if memory is not None:
        memory.made = signed
    _WRITE_HEAD.rows(connection, {f"new_{name}": getattr(signed, name) for name in _SEALED})


def trusted_head(connection: Connection, key: ReviewKey, memory: Memory | None) -> Head:
    """Return the head that stands in the store, to be built on.

    Raises:
        ConflictError: it is gone, was not signed with this key, or is older than what was seen
            before.
    """
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
