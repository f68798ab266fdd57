"""The store: one database, one key, and what may be asked of them."""

import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sqlalchemy import Connection, func, select

from fedlens.review.contract import ReviewError
from fedlens.review.store.anchors import keep_anchor, kept_anchors, newest_kept
from fedlens.review.store.cases import Queue
from fedlens.review.store.chain import Head
from fedlens.review.store.database import Database, StoreError, open_database
from fedlens.review.store.decisions import Decisions
from fedlens.review.store.end import Memory, begin, read_head
from fedlens.review.store.people import People
from fedlens.review.store.signing import ReviewKey
from fedlens.review.store.switch import Switch
from fedlens.review.store.tables import RECORDS
from fedlens.review.store.trail import Trail
from fedlens.review.store.verification import Verification, verify


class Store:
    """All that the console keeps; made by :func:`open_store`.

    Attributes:
        database: see :class:`~.database.Database`.
        key: that signs the trail.
        clock: seconds since 1970 (UTC).
        trail, queue, decisions, people, switch: what is asked of it.
    """

    def __init__(
        self, database: Database, key: ReviewKey, clock: Callable[[], float], memory: Memory
    ) -> None:
        self.database = database
        self.key = key
        self.clock = clock
        self.trail = Trail(database, key, clock, memory)
        self.queue = Queue(self.trail)
        self.decisions = Decisions(self.trail)
        self.people = People(self.trail)
        self.switch = Switch(self.trail)
        self._closed = False

    @property
    def identity(self) -> str:
        """Return the store's own name, 32 hexadecimal digits, which is in all that is signed."""
        return self.trail.head().store

    def verify(self, anchors: Iterable[Head] = ()) -> Verification:
        """Check the store, with the anchors beside the key and those given; see :func:`verify`."""
        with self.database.read() as connection:
            head = read_head(connection)
        kept = kept_anchors(self.key, None if head is None else head.store)
        return verify(self.database, self.key.public, [*kept, *anchors])

    def close(self) -> None:
        """Write what waits, keep an anchor of the chain's end beside the key, and let go.

        Raises:
            ReviewError: the anchor cannot be kept; the store is closed all the same.
        """
        if self._closed:
            return
        self._closed = True
        try:
            keep_anchor(self.trail)
        finally:
            self.database.close()


def open_store(
    url: str, key: ReviewKey | None = None, *, clock: Callable[[], float] = time.time
) -> Store:
    """Open a store, or make one.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
        key: that signs its trail; this machine's by default.
        clock: seconds since 1970 (UTC), for tests.

    Raises:
        ReviewError: the database or the key cannot be used, or the trail's end was removed. A store
            that was tampered with otherwise is opened, so that it can be verified, and appends nothing.
    """
    key = key or ReviewKey.load()
    database = open_database(url)
    try:
        with database.transaction() as connection:
            head = read_head(connection)
            if head is None:
                _must_be_empty(connection, str(database.place))
                begin(connection, key, secrets.token_hex(16), clock())
                head = read_head(connection)
        memory = Memory(None if head is None else newest_kept(key, head.store))
    except BaseException:
        database.close()
        raise
    return Store(database, key, clock, memory)


def default_url(run_folder: Path) -> str:
    """Return the address of a run's own store: a file ``review/review.sqlite`` in its folder."""
    path = run_folder.resolve() / "review" / "review.sqlite"
    if any(mark in str(path) for mark in "?#"):
        raise ReviewError(f"{path} has a '?' or '#', which an address of a database cannot hold.")
    return f"sqlite:///{path}"


def _must_be_empty(connection: Connection, place: str) -> None:
    if connection.execute(select(func.count()).select_from(RECORDS)).scalar_one():
        raise StoreError(
            f"The end of the trail was removed from the store {place}: it cannot be told whether "
            "records are missing; put a backup back."
        )
