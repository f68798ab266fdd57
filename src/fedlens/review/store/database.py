"""One database, many who write: what waits is written together, and is on the disk when it returns.

SQLite by default, PostgreSQL by URL. All writing goes through one thread a process, which takes
everything that waits, does each piece in a savepoint of one transaction, commits once and then
answers: sixteen people share one flush of the disk. Processes take turns by the database's own lock.
"""

import os
import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from fedlens.review.contract import ReviewError
from fedlens.review.store.engines import engine
from fedlens.review.store.query import Prepared

T = TypeVar("T")
LARGEST_BATCH = 256
WRITE_LOCK = 0x66656C656E73  # "felens": PostgreSQL's lock of whoever writes
VERSION_TABLE = "review_version"
_LAST = "fedlens last work"
_DEFECTS = (IntegrityError, ProgrammingError, DataError)


class StoreError(ReviewError):
    """The store could not be opened, read or written."""

    status = 503


def last_work(connection: Connection) -> dict[str, Callable[[Connection], None]]:
    """Return what is done once, by name, at the end of the transaction that is being written.

    A piece of work that fails leaves it as it was before.
    """
    work: dict[str, Callable[[Connection], None]] | None = connection.info.get(_LAST)
    if work is None:
        raise RuntimeError("a record can be appended only inside Database.write")
    return work


@dataclass(frozen=True)
class _Job:
    work: Callable[[Connection], Any]
    answer: "Future[Any]"


class Database:
    """A store's database; made by :func:`open_database` or :func:`open_to_read`.

    Attributes:
        dialect: ``sqlite`` or ``postgresql``.
        place: file or address, without a password.
    """

    def __init__(self, url: URL, *, read_only: bool = False) -> None:
        self.dialect = url.get_backend_name()
        self.place = url.database if self.dialect == "sqlite" else _shown(url)
        self._read_only = read_only
        self._writing = engine(url, writes=True)  # which connects to nothing before it is used
        self._reading = engine(url, writes=False, as_it_lies=read_only)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do a piece of work in a transaction, and return its answer once it is on the disk.

        Args:
            work: is given a connection, must not commit, and may run again never: it runs once.

        Raises:
            StoreError: the database cannot be written; nothing of the work was kept.
            Exception: whatever the work raises; nothing of it was kept, and other work is not touched.
        """
        return self.write_soon(work).result()

    def write_soon(self, work: Callable[[Connection], T]) -> "Future[T]":
        """Return at once the future of what :meth:`write` returns.

        Raises:
            StoreError: the store is closed.
        """
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()  # whoever stops waiting does not undo what is written
        with self._guard:
            if self._closed:
                raise StoreError("The store is closed.")
            if self._read_only:
                raise StoreError(f"The store {self.place} was opened to be read only.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
                self._thread.start()
            elif self._thread is threading.current_thread():
                raise RuntimeError("Database.write inside Database.write would wait for ever")
            self._jobs.put(_Job(work, answer))
        return answer

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one state of the database and cannot change it.

        Raises:
            StoreError: the database cannot be read.
        """
        if self._closed:
            raise StoreError("The store is closed.")
        with _in_a_sentence(f"The store {self.place} could not be read"):
            connection = self._reading.connect()
        with connection, _in_a_sentence(f"The store {self.place} could not be read"):
            yield connection

    def look(self, query: Prepared, values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of one query by itself, which sees one state; for what is asked often.

        Raises:
            StoreError: the database cannot be read.
        """
        if self._closed:
            raise StoreError("The store is closed.")
        with _in_a_sentence(f"The store {self.place} could not be read"):
            connection = self._reading.raw_connection()
            try:
                return query.rows_of(connection, self._reading.dialect, values)
            finally:
                connection.close()

    def close(self) -> None:
        """Finish what waits, and let the database go; a second call does nothing."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
            self._jobs.put(None)
        if thread is not None:
            thread.join()
        self._writing.dispose()
        self._reading.dispose()

    def _serve(self) -> None:
        closing = False
        while not closing:
            first = self._jobs.get()
            if first is None:
                return
            batch = [first]
            while len(batch) < LARGEST_BATCH:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    closing = True
                    break
                batch.append(job)
            self._write_together(batch)

    def _write_together(self, batch: list[_Job]) -> None:
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with (
                _in_a_sentence(f"The store {self.place} could not be written"),
                self.transaction() as connection,
            ):
                last = last_work(connection)
                for job in batch:
                    before = dict(last)
                    point = connection.begin_nested() if len(batch) > 1 else None
                    try:
                        answers.append((job.answer, job.work(connection), None))
                    except Exception as error:
                        if point is None:
                            raise
                        point.rollback()
                        last.clear()
                        last.update(before)
                        answers.append((job.answer, None, error))
                    else:
                        if point is not None:
                            point.commit()
                for work in last.values():
                    work(connection)
        except BaseException as error:
            for job in batch:
                job.answer.set_exception(error)
            return
        for answer, value, failure in answers:
            if failure is None:
                answer.set_result(value)
            else:
                answer.set_exception(failure)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection that alone of all processes may write; it commits at the end.

        This is for whoever opens a store; everything else writes by :meth:`write`.
        """
        with self._writing.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
            connection.info[_LAST] = {}
            try:
                yield connection
            finally:
                connection.info.pop(_LAST, None)


def open_database(url: str) -> Database:
    """Open a database, make or migrate its tables, and return it.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.

    Raises:
        StoreError: it is no such URL, cannot be opened, is something else than a store, or was
            written by a newer version of fedlens.
    """
    parsed = _parsed(url)
    if parsed.drivername == "sqlite":
        _make_file(Path(str(parsed.database)))
    database = _made(parsed)
    try:
        with (
            _in_a_sentence(f"The store {database.place} could not be opened"),
            database.transaction() as connection,
        ):
            _migrate(connection, str(database.place))
    except BaseException:
        database.close()
        raise
    return database


def open_to_read(url: str) -> Database:
    """Open a database as it is, to read it alone: nothing of it is made, migrated or written.

    It may lie on a medium that cannot be written.

    Args:
        url: see :func:`open_database`.

    Raises:
        StoreError: it is no such URL, cannot be opened, is something else than a store, or was
            written by another version of fedlens with other tables.
    """
    database = _made(_parsed(url), read_only=True)
    try:
        with database.read() as connection:
            _must_be_current(connection, str(database.place))
    except BaseException:
        database.close()
        raise
    return database


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        shown = re.sub(r"//.*@", "//***@", url)
        raise StoreError(
            f"'{shown}' is not the address of a database, expected sqlite:///FILE or "
            "postgresql://USER@HOST/NAME."
        ) from error
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StoreError(
            f"A store can be in SQLite or PostgreSQL, not in '{parsed.drivername}'; expected "
            "sqlite:///FILE or postgresql://USER@HOST/NAME."
        )
    no_file = not parsed.database or parsed.database == ":memory:" or parsed.query
    if parsed.drivername == "sqlite" and no_file:
        raise StoreError("A store needs a file of its own: sqlite:///FILE.")
    return parsed


def _made(parsed: URL, *, read_only: bool = False) -> Database:
    try:
        return Database(parsed, read_only=read_only)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            "PostgreSQL needs one more package; install it with: pip install 'fedlens[postgresql]'."
        ) from error


def _shown(url: URL) -> str:
    """Return an address without its password, which may stand in the query too."""
    kept = {name: value for name, value in url.query.items() if "pass" not in name.lower()}
    return url.set(query=kept).render_as_string()


def _make_file(path: Path) -> None:
    """Make an empty file that its owner alone may read; what SQLite puts beside it is so too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(
            f"The store {path} could not be opened: {error.strerror or error}."
        ) from error


def _migrate(connection: Connection, place: str) -> None:
    config, newest, found = _versions(connection, place)
    if found != (newest,):
        command.upgrade(config, "head")


def _must_be_current(connection: Connection, place: str) -> None:
    _, newest, found = _versions(connection, place)
    if not found:
        raise StoreError(f"{place} is no store: it has no tables of the console.")
    if found != (newest,):
        raise StoreError(
            f"The store {place} was written by an older version of fedlens (its tables are at "
            f"'{found[0]}', and this version's at '{newest}'), and is opened here to be read only. "
            "Any command that writes brings it up to date, such as `fedlens review anchor`: use one "
            "on a copy where the store itself must stay as it is."
        )


def _versions(connection: Connection, place: str) -> tuple[Config, str | None, tuple[str, ...]]:
    """Return Alembic's configuration, the version that tables have here, and that they have there.

    Raises:
        StoreError: there they are of a version that nobody here knows.
    """
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
    )
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    scripts = ScriptDirectory.from_config(config)
    options = {"version_table": VERSION_TABLE}
    found = MigrationContext.configure(connection, opts=options).get_current_heads()
    at = ", ".join(found)
    if len(found) > 1 or set(found) - {script.revision for script in scripts.walk_revisions()}:
        raise StoreError(
            f"The store {place} was written by a newer version of fedlens (its tables are at "
            f"'{at}'); use that version."
        )
    return config, scripts.get_current_head(), found


@contextmanager
def _in_a_sentence(beginning: str) -> Iterator[None]:
    """Turn what the database says into a sentence; what is a defect of ours keeps its traceback."""
    try:
        yield
    except _DEFECTS:
        raise
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split()).rstrip(".")
        raise StoreError(f"{beginning}: {reason}.") from error
    except PoolTimeoutError as error:
        raise StoreError(f"{beginning}: too many at once; try again.") from error
