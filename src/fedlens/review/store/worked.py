"""What is left of a case whose decision was pruned: a mark, so that its image is not asked about again.

A queue is filled from images that stay where they are. Without the mark, one that was decided would
come back as a new case once its records have gone. A mark is a digest of where the image is found and
of its pixels: who has the image can tell that it was decided, and nobody how.

The marks are vouched for as everything is: a record of the pruning has how many there are, and a
digest over them. A later pruning, with which that record goes, records them anew.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from fedlens.review.contract import Actor, NewCase
from fedlens.review.store.chain import canonical
from fedlens.review.store.checking import Findings
from fedlens.review.store.tables import CASES, RECORDS, WORKED
from fedlens.review.store.trail import PRUNED, Trail

_BATCH = 1000
_STREAM = {"yield_per": 1000}
_NOT_YET = 0  # the record that vouches for marks which are being made


def those_worked(connection: Connection, batch: Sequence[NewCase]) -> dict[tuple[str, str], int]:
    """Return those of ``batch`` that were decided and pruned: source and digest -> number."""
    marks = {_mark(new.source, new.digest): (new.source, new.digest) for new in batch if new.queued}
    if not marks:
        return {}
    query = select(WORKED.c.mark, WORKED.c.number).where(WORKED.c.mark.in_(sorted(marks)))
    return {marks[row.mark]: row.number for row in connection.execute(query)}


def keep_marks(
    connection: Connection, trail: Trail, actor: Actor, going: ColumnElement[bool], last: int
) -> None:
    """Make the marks of cases that go, and vouch for them and for those that were there before.

    Args:
        connection: of the transaction in which the cases are then removed.
        trail: of the store.
        actor: who prunes.
        going: of the table of cases, which of them go.
        last: number of the last record that goes; marks that it or an older one vouches for are
            recorded anew.
    """
    query = select(CASES.c.number, CASES.c.source, CASES.c.digest).where(
        going, CASES.c.queued.is_(True)
    )
    # read in full before anything is written: one connection does one thing at a time
    rows = iter(connection.execute(query.order_by(CASES.c.number)).all())
    while batch := list(islice(rows, _BATCH)):
        made = [
            {"number": row.number, "mark": _mark(row.source, row.digest), "record": _NOT_YET}
            for row in batch
        ]
        connection.execute(WORKED.insert(), made)
    old = select(WORKED.c.number, WORKED.c.mark).where(WORKED.c.record <= last)
    count, digest = _digest(
        connection.execute(old.order_by(WORKED.c.number), execution_options=_STREAM)
    )
    if count:
        record = trail.append(connection, PRUNED, actor, {"worked": count, "marks": digest})
        connection.execute(
            update(WORKED).where(WORKED.c.record <= last).values(record=record.sequence)
        )


def check_worked(connection: Connection, findings: Findings) -> None:
    """Compare the marks with what the records of prunings say of them.

    A mark that was added keeps an image from ever being reviewed; one that is missing brings it back.
    """
    query = select(RECORDS.c.sequence, RECORDS.c.content).where(RECORDS.c.kind == PRUNED)
    told: dict[int, tuple[Any, Any]] = {}
    for row in connection.execute(query, execution_options=_STREAM):
        content = _content(row.content)
        if "worked" in content:
            told[row.sequence] = (content["worked"], content.get("marks"))
    marks = select(WORKED).order_by(WORKED.c.record, WORKED.c.number)
    rows = connection.execute(marks, execution_options=_STREAM)
    for record, group in groupby(rows, key=lambda row: row.record):
        found = _digest((row.number, row.mark) for row in group)
        said = told.pop(record, None)
        if said is None:
            findings.add(
                None,
                "worked",
                f"Of {found[0]:,} cases the store says that they were decided and pruned, and no "
                "record vouches for it.",
            )
        elif said != found:
            findings.add(record, "worked", _OTHERS.format(record))
    for record in told:
        findings.add(record, "worked", _OTHERS.format(record))


_OTHERS = (
    "The cases that were decided and pruned are others than record {} says: an image would be asked "
    "about again, or never."
)


def _mark(source: str, digest: str) -> str:
    return hashlib.sha256(canonical(["worked", source, digest]).encode()).hexdigest()


def _digest(rows: Iterable[Any]) -> tuple[int, str]:
    """Return how many marks there are, and SHA-256 over their numbers and them, in order."""
    count, running = 0, hashlib.sha256()
    for number, mark in rows:
        count += 1
        running.update(f"{number}:{mark}\n".encode("utf-8", "surrogateescape"))
    return count, running.hexdigest()


def _content(text: Any) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}  # an altered record, which the chain names
    return content if isinstance(content, dict) else {}
