"""Connections to SQLite and PostgreSQL, each as the store needs it: one that writes, some that read."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event

BUSY_SECONDS = 30
READERS = 8
_SQLITE: dict[str, Any] = {"timeout": BUSY_SECONDS, "check_same_thread": False}


def engine(url: URL, *, writes: bool, as_it_lies: bool = False) -> Engine:
    """Return what gives connections to a database; it connects to nothing before one is asked for.

    Args:
        url: of the database.
        writes: the connection is the one that writes; else they read alone.
        as_it_lies: an SQLite file is not written even where SQLite itself would.
    """
    if url.get_backend_name() == "sqlite":
        how: dict[str, Any] = {"connect_args": _SQLITE}
        if as_it_lies:
            how = {"creator": lambda: connect_to_read(Path(str(url.database)))}
        made = create_engine(
            url, pool_size=1 if writes else READERS, max_overflow=0 if writes else 24, **how
        )
        event.listen(made, "connect", _prepare_writer if writes else _prepare_reader)
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        event.listen(made, "begin", lambda connection: connection.exec_driver_sql(begin) and None)
        return made
    made = create_engine(
        url,
        pool_size=1 if writes else READERS,
        max_overflow=0 if writes else 24,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
        connect_args={"connect_timeout": 10},
        execution_options={} if writes else {"postgresql_readonly": True},
    )
    if writes:
        event.listen(made, "connect", _insist_on_durability)
    return made


def connect_to_read(file: Path) -> sqlite3.Connection:
    """Return a connection to an SQLite file that can be read and not written.

    Raises:
        sqlite3.OperationalError: it cannot be opened, or has a log that cannot be read where it lies.
    """
    address = f"file:{quote(str(file.absolute()))}?mode=ro"
    connection: sqlite3.Connection = sqlite3.connect(address, uri=True, **_SQLITE)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return connection
    except sqlite3.OperationalError:
        connection.close()
        if not file.exists() or os.access(file.parent, os.W_OK):
            raise
    # A reader shares the log's index with others in a file, which cannot be made here.
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise sqlite3.OperationalError(
            f"it lies where nothing can be written, beside a log of what was written last "
            f"({log.name}); copy both elsewhere, and verify the copy"
        )
    # Without a log all is in the file itself, and nobody changes it where it lies.
    unchanging: sqlite3.Connection = sqlite3.connect(f"{address}&immutable=1", uri=True, **_SQLITE)
    return unchanging


def _prepare_writer(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN, not the driver's
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:  # the change to WAL does not wait for another process that does the same
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    if mode != "wal":
        raise sqlite3.OperationalError("SQLite cannot keep a write-ahead log where it lies")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA trusted_schema=OFF")


def _prepare_reader(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")
    connection.text_factory = _readable
    connection.execute("PRAGMA trusted_schema=OFF")


def _readable(content: bytes) -> str:
    """Text that somebody made unreadable must not keep a verification from naming it."""
    return content.decode("utf-8", "surrogateescape")


def _insist_on_durability(connection: Any, _: object) -> None:
    """A commit that returns before the disk has it would break what is promised here."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('synchronous_commit')")
        if cursor.fetchone()[0] in ("off", "local"):
            cursor.execute("SET synchronous_commit TO on")
        cursor.execute(f"SET lock_timeout TO '{BUSY_SECONDS}s'")
    connection.commit()
