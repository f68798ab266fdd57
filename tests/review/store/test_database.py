"""The database: durable, shared, migrated once, and no mistake of one is another's."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from commands import started
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from fedlens.review.contract import ConflictError, ReviewError, Role
from fedlens.review.store import ReviewKey, Store, StoreError, default_url, open_store
from fedlens.review.store.database import VERSION_TABLE, open_database
from fedlens.review.store.tables import METADATA
from fedlens.review.store.trail import FLAGGED
from reviewing import ANNA, LEAD, new_case


def test_the_migrations_make_what_the_tables_say(store: Store) -> None:
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_a_store_is_opened_again(opening: Callable[[], Store]) -> None:
    store = opening()
    store.queue.add([new_case(1)], LEAD)
    identity = store.identity
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.switch.stop(LEAD, "a test")
    with pytest.raises(StoreError, match="closed"):
        store.queue.get(1)
    again = opening()
    assert again.identity == identity
    assert again.queue.get(1).number == 1


def test_a_store_of_a_newer_version_is_refused(opening: Callable[[], Store]) -> None:
    store = opening()
    with store.database._writing.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer version of fedlens"):
        opening()


def test_another_key_is_refused(
    database_url: str, opening: Callable[[], Store], tmp_path: Path
) -> None:
    opening().switch.stop(LEAD, "a test")
    other = open_store(database_url, ReviewKey.load(tmp_path / "other.key"))
    with pytest.raises(ConflictError, match="another key"):
        other.switch.resume(LEAD, "a test")
    assert not other.verify().valid
    other.close()


def test_one_pieces_mistake_is_nobody_elses(store: Store) -> None:
    """Of pieces that are written together, the one that fails leaves nothing."""
    gate, failure = threading.Event(), RuntimeError("mine")

    def slow(connection: Connection) -> None:
        gate.wait(10)

    def work(k: int) -> int:
        def piece(connection: Connection) -> int:
            record = store.trail.append(connection, FLAGGED, ANNA, {"k": k})
            if k % 3 == 0:
                raise failure
            if k % 3 == 1:
                connection.execute(text("SELECT nonsense FROM nowhere"))
            return record.sequence

        return store.database.write(piece)

    with ThreadPoolExecutor(13) as pool:
        waiting = pool.submit(store.database.write, slow)
        time.sleep(0.05)
        answers = [pool.submit(work, k) for k in range(12)]
        time.sleep(0.2)
        gate.set()
        waiting.result()
    for k, answer in enumerate(answers):
        if k % 3 == 0:
            assert answer.exception() is failure
        elif k % 3 == 1:
            assert isinstance(answer.exception(), DBAPIError | StoreError)
        else:
            assert 1 <= answer.result() <= 4
    assert store.trail.count() == 4
    assert store.verify().valid


def test_a_read_sees_one_state_and_changes_nothing(store: Store) -> None:
    with store.database.read() as connection:
        query = text("SELECT count(*) FROM records")
        assert connection.execute(query).scalar() == 0
        store.switch.stop(LEAD, "a test")
        assert connection.execute(query).scalar() == 0
    with pytest.raises(StoreError), store.database.read() as connection:
        connection.execute(text("DELETE FROM records"))


def test_writing_within_writing_is_a_mistake_and_no_deadlock(store: Store) -> None:
    with pytest.raises(RuntimeError, match="wait for ever"):
        store.database.write(lambda _: store.database.write(lambda _: None))


def test_two_processes_open_a_new_store_at_once(empty_url: str, review_key: ReviewKey) -> None:
    def open_it(name: str) -> None:
        store = open_store(empty_url, ReviewKey.load(review_key.path))
        store.switch.state()
        store.people.add(name, "a long enough password", Role.LEAD, LEAD)
        there.send(store.identity)
        store.close()

    here, there = multiprocessing.Pipe(duplex=False)
    processes = [started(open_it, f"person {k}") for k in range(2)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len({here.recv() for _ in processes}) == 1
    store = open_store(empty_url, review_key)
    assert [person.name for person in store.people.list()] == ["person 0", "person 1"]
    assert store.verify().valid
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://localhost/x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////proc/no/such",
        "postgresql://postgres@/x?host=/nowhere",
    ],
)
def test_an_address_that_is_none_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(StoreError):
        open_database(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"GIF89a" * 1000)
    with pytest.raises(StoreError, match="could not be opened"):
        open_database(f"sqlite:///{tmp_path / 'x.sqlite'}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://anna:hunter22@localhost:1/x",
        "postgresql://anna@localhost:1/x?password=hunter22",
        "postgresql://anna:hunter22@localhost:port/x",
        "mysql+nothing://anna:hunter22@localhost:port/x",
    ],
)
def test_the_password_of_the_database_is_in_no_sentence(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_database(url)
    assert "hunter22" not in str(caught.value)


def test_files_are_their_owners_alone(sqlite_url: str, review_key: ReviewKey) -> None:
    before = os.umask(0)
    try:
        store = open_store(sqlite_url, review_key)
        store.switch.stop(LEAD, "a test")
        folder = Path(str(store.database.place)).parent
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes == {f"review.sqlite{end}": 0o600 for end in ("", "-wal", "-shm")}
    beside = review_key.path.parent
    assert {path.stat().st_mode & 0o777 for path in beside.iterdir()} == {0o600}


def test_sqlite_waits_for_the_disk(sqlite_url: str, review_key: ReviewKey) -> None:
    store = open_store(sqlite_url, review_key)
    with store.database._writing.connect() as connection:
        pragmas = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]
    store.close()


def test_the_default_address(tmp_path: Path) -> None:
    assert default_url(tmp_path) == f"sqlite:///{tmp_path.resolve()}/review/review.sqlite"
    with pytest.raises(ReviewError, match="cannot hold"):
        default_url(tmp_path / "what?")
