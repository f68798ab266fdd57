"""A case as a row: what is written of it, what of it the trail vouches for, and how it is read."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, select, update

from fedlens.review.contract import (
    SOURCE_API,
    Case,
    ConflictError,
    NewCase,
    NotFoundError,
    ReviewError,
    State,
)
from fedlens.review.store.chain import canonical, check_name, finite
from fedlens.review.store.query import Prepared
from fedlens.review.store.tables import CASES, HEAD

LARGEST_NUMBER = 2**63 - 1
HIGH = 0.5
"""A signal that is at least this makes a case needy by itself."""

COLUMNS = (
    CASES.c.number,
    CASES.c.digest,
    CASES.c.source,
    CASES.c.predicted,
    CASES.c.probabilities,
    CASES.c.need,
    CASES.c.signals,
    CASES.c.queued,
    CASES.c.state,
    CASES.c.assignee,
    CASES.c.lease_until,
    CASES.c.label,
    CASES.c.decision,
    CASES.c.added,
    CASES.c.logits,
)


def row_of(case: NewCase, added: float) -> dict[str, Any]:
    """Return the columns of a case that is new, all but its number and record.

    Raises:
        ReviewError: a digest, source, class, probability, need or signal that cannot be one.
    """
    if len(case.digest) != 64 or set(case.digest) - set("0123456789abcdef"):
        raise ReviewError("The digest of an image is SHA-256, 64 hexadecimal digits.")
    if not case.source or len(case.source) > 1024 or not case.source.isprintable():
        raise ReviewError("A case says in 1 to 1,024 characters where its image is found.")
    if case.queued and case.source == SOURCE_API:
        raise ReviewError(f"A case that is queued is found elsewhere than in '{SOURCE_API}'.")
    if not 0 <= case.predicted < len(case.probabilities):
        raise ReviewError(
            f"Class {case.predicted} was predicted, of {len(case.probabilities)} classes."
        )
    if not all(0 <= value <= 1 for value in (case.need, *case.probabilities)):
        raise ReviewError("A probability, or a case's need, is a number from 0 to 1.")
    if case.logits is not None and len(case.logits) != len(case.probabilities):
        raise ReviewError(
            f"A case has {len(case.logits)} logits, and {len(case.probabilities)} probabilities."
        )
    signals = {check_name(name, "signal"): finite(case.signals[name]) for name in case.signals}
    high = sorted(name for name, value in signals.items() if value >= HIGH)
    return {
        "digest": case.digest,
        "source": case.source,
        "predicted": int(case.predicted),
        "probabilities": canonical([float(value) for value in case.probabilities]),
        "need": float(case.need),
        "signals": canonical(signals),
        "flags": "".join(f"|{name}" for name in high) + "|",
        "queued": bool(case.queued),
        "state": str(State.OPEN),
        "added": float(added),
        "logits": None
        if case.logits is None
        else canonical([float(value) for value in case.logits]),
    }


def vouched(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the trail says of a case when it comes in.

    Returns:
        ``case`` (number), ``source``, ``image`` (its digest), ``predicted``, and ``fields``: SHA-256
        over everything else that never changes (probabilities, need, signals, queued, added, and the
        logits, where the case has some: of what came before they were kept the digest stays).
    """
    fixed = [row[name] for name in ("probabilities", "need", "signals", "flags", "queued", "added")]
    if row["logits"] is not None:
        fixed.append(row["logits"])
    return {
        "case": row["number"],
        "source": row["source"],
        "image": row["digest"],
        "predicted": row["predicted"],
        "fields": hashlib.sha256(json.dumps(fixed, default=str).encode()).hexdigest(),
    }


def case_from(row: Any) -> Case:
    """Return the case of a row of :data:`COLUMNS`.

    Raises:
        ConflictError: somebody changed the row so that it is none.
    """
    try:
        probabilities = tuple(float(value) for value in json.loads(row.probabilities))
        signals = {name: float(value) for name, value in json.loads(row.signals).items()}
        logits = None
        if row.logits is not None:
            logits = tuple(float(value) for value in json.loads(row.logits))
        State(row.state)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConflictError(
            f"Case {row.number} was changed outside the console and cannot be read; verify the store."
        ) from error
    return Case(
        number=row.number,
        digest=row.digest,
        source=row.source,
        predicted=row.predicted,
        probabilities=probabilities,
        need=row.need,
        signals=signals,
        queued=row.queued,
        state=State(row.state),
        assignee=row.assignee,
        lease_until=row.lease_until,
        label=row.label,
        decision=row.decision,
        added=row.added,
        logits=logits,
    )


def find_case(connection: Connection, number: int) -> Any:
    """Return the row of a case, all columns.

    Raises:
        NotFoundError: there is none of this number.
    """
    if 0 < number <= LARGEST_NUMBER:
        row = connection.execute(select(CASES).where(CASES.c.number == number)).one_or_none()
        if row is not None:
            return row
    raise NotFoundError(f"There is no case {number}.")


_TAKE_NUMBERS = Prepared(
    update(HEAD)
    .where(HEAD.c.id == 1)
    .values(next_case=HEAD.c.next_case + bindparam("taken", type_=Integer))
    .returning(HEAD.c.next_case)
)


def take_numbers(connection: Connection, count: int) -> int:
    """Return the first of ``count`` numbers that no case had before, within a write.

    Raises:
        ConflictError: the end of the trail, which knows them, was removed.
    """
    rows = _TAKE_NUMBERS.rows(connection, {"taken": count})
    if not rows:
        raise ConflictError("The end of the trail was removed from the store; verify it.")
    return int(rows[0][0]) - count
