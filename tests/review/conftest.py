"""What the console's tests share: a store on SQLite and one on a PostgreSQL of the tests' own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from argon2 import PasswordHasher

from fedlens.review.store import ReviewKey, Store, open_store
from fedlens.review.store.database import open_database
from reviewing import Clock

Databases = Callable[..., AbstractContextManager[str]]

INITDB = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
TEMPORARY = "PYTEST_DEBUG_TEMPROOT"  # where pytest keeps temporary files, if not in the usual place
POSTGRES = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=100")


def _binaries() -> Path | None:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3])
    )
    beside = shutil.which("postgres")
    return found[-1].parent if found else Path(beside).parent if beside else None


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL server that runs while this process tests."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's programs are not installed")
    root = os.geteuid() == 0  # the server refuses to run as root
    user = pwd.getpwnam("postgres") if root else None
    who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # each test's database is some three hundred files, which are quicker to make in memory
    folder = Path(tempfile.mkdtemp(prefix="fedlens-pg-", dir=os.environ.get(TEMPORARY)))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", *INITDB],
            check=True,
            capture_output=True,
            cwd=folder,
            **who,
        )
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", folder / "data", "-k", folder, *POSTGRES],
                stdout=log,
                stderr=log,
                cwd=folder,
                **who,
            )
        try:
            _wait(folder, server)
            yield str(folder)
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(folder: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text()) from None
            time.sleep(0.05)


@pytest.fixture(scope="session")
def postgresql_databases(postgresql_cluster: str) -> Iterator[Databases]:
    """Makes a PostgreSQL database, gives its address, and drops it afterwards.

    It is empty, or has a store's tables: copies of those that were made once, which is quicker.
    """
    server = psycopg.connect(
        host=postgresql_cluster, user="postgres", dbname="postgres", autocommit=True
    )
    made: list[str] = []

    def address(name: str) -> str:
        return f"postgresql://postgres@/{name}?host={postgresql_cluster}"

    @contextmanager
    def database(tables: bool = True) -> Iterator[str]:
        if tables and not made:
            server.execute("CREATE DATABASE made")
            open_database(address("made")).close()
            made.append("made")
        name = f"test_{os.urandom(6).hex()}"
        server.execute(f"CREATE DATABASE {name} TEMPLATE {'made' if tables else 'template1'}")
        yield address(name)
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    with server:
        yield database


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Lays an SQLite database with a store's tables, made once, at a path; gives its address."""
    made = tmp_path_factory.mktemp("made") / "review.sqlite"
    open_database(f"sqlite:///{made}").close()

    def lay(path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, path)
        return f"sqlite:///{path}"

    return lay


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database with a store's tables and nothing in them.

    Each test that asks for it runs on both.
    """
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_tables")(tmp_path / "store" / "review.sqlite")
        return
    with request.getfixturevalue("postgresql_databases")() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database: each test that asks for it runs on both."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store' / 'review.sqlite'}"
        return
    with request.getfixturevalue("postgresql_databases")(tables=False) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of an empty SQLite database, for tests that any database would do for."""
    return f"sqlite:///{tmp_path / 'store' / 'review.sqlite'}"


@pytest.fixture
def review_key(tmp_path: Path) -> ReviewKey:
    """A key of the test's own."""
    return ReviewKey.load(tmp_path / "key" / "review.key")


@pytest.fixture
def clock() -> Clock:
    """A clock that a test moves."""
    return Clock()


@pytest.fixture
def opening(
    database_url: str, review_key: ReviewKey, clock: Clock
) -> Iterator[Callable[[], Store]]:
    """Opens the store, as often as a test wants to; all are closed after it."""
    opened: list[Store] = []

    def open_one() -> Store:
        store = open_store(database_url, review_key, clock=clock)
        store.people.hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.database.close()


@pytest.fixture
def store(opening: Callable[[], Store]) -> Store:
    """A store that holds nothing, on SQLite and on PostgreSQL."""
    return opening()
