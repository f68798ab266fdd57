"""A store that is only read: nothing of it is written, wherever it lies."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from fedlens.review.store import ReviewKey, Store, open_store
from fedlens.review.store.database import StoreError, open_database, open_to_read
from fedlens.review.store.verification import verify
from reviewing import LEAD, new_case

READ_ONLY = """
set -e
mount -t tmpfs none {place}
cp {files} {place}
mount -o remount,ro {place}
exec {python} -c "
import sys
from fedlens.cli import main
sys.argv = ['fedlens', 'review', 'verify', 'sqlite:///{place}/review.sqlite', '--public-key', '{key}']
main()
"
"""


def filled(url: str, key: ReviewKey) -> None:
    store = open_store(url, key)
    store.queue.add([new_case(1)], LEAD)
    store.close()


def state(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_who_reads_a_store_changes_nothing(database_url: str, review_key: ReviewKey) -> None:
    filled(database_url, review_key)
    folder = Path(database_url.removeprefix("sqlite:///")).parent
    before = state(folder) if database_url.startswith("sqlite") else {}
    database = open_to_read(database_url)
    try:
        assert verify(database, review_key.public).findings == ()
        with pytest.raises(StoreError, match="read only"):
            database.write(lambda connection: connection.execute(text("DELETE FROM records")))
    finally:
        database.close()
    if before:
        after = state(folder)
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) <= {"review.sqlite-shm", "review.sqlite-wal"}


def test_a_store_that_others_write_is_read_as_it_is_now(store: Store, database_url: str) -> None:
    database = open_to_read(database_url)
    try:
        for number in range(3):
            store.queue.add([new_case(number)], LEAD)
            found = verify(database, store.key.public)
            assert (found.findings, found.records) == ((), number + 1)
    finally:
        database.close()


def test_tables_of_an_older_version_are_left_as_they_are(
    empty_url: str, review_key: ReviewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = command.upgrade
    with monkeypatch.context() as patch:  # as that version made them
        patch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        open_database(empty_url).close()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"older version of fedlens .*'0001'.*read only"):
            open_to_read(empty_url)
    open_store(empty_url, review_key).close()  # which brings it up to date
    database = open_to_read(empty_url)
    assert verify(database, review_key.public).findings == ()
    database.close()


def test_what_is_no_store_is_said_to_be_none(empty_url: str, tmp_path: Path) -> None:
    missing = "could not be read" if empty_url.startswith("sqlite") else "is no store"
    with pytest.raises(StoreError, match=missing):
        open_to_read(empty_url)
    assert not (tmp_path / "store").exists(), "nothing is made"


@pytest.mark.parametrize("log", [False, True])
def test_a_store_on_a_medium_that_cannot_be_written_is_verified(
    tmp_path: Path, review_key: ReviewKey, log: bool
) -> None:
    new = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    place = tmp_path / "medium"
    place.mkdir()
    try:
        subprocess.run(
            [*new, "mount", "-t", "tmpfs", "none", place], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here")
    file = tmp_path / "store" / "review.sqlite"
    store = open_store(f"sqlite:///{file}", review_key)
    store.queue.add([new_case(1)], LEAD)
    public = tmp_path / "review.pub"
    public.write_bytes(review_key.public.pem())
    files = str(file)
    if log:  # as it lies while the console is still open
        files = f"{file} {file}-wal"
    else:
        store.close()
    script = READ_ONLY.format(place=place, files=files, python=sys.executable, key=public)
    found = subprocess.run(
        [*new, "sh", "-c", script], capture_output=True, text=True, cwd=Path.cwd(), check=False
    )
    store.close()
    said = " ".join((found.stdout + found.stderr).split())
    if log:
        assert found.returncode != 0 and "copy both elsewhere" in said, said
    else:
        assert found.returncode == 0, said
        assert "chain valid" in said
