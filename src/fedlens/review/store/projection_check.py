"""Whether the tables beside the trail say what the trail says: decisions, cases, people.

Who works which case just now, and until when, is no part of the trail: of that it is checked only
that it makes sense, and that whoever has a case without an end was given it by a lead.
"""

import json
import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select

from fedlens.review.contract import Choice, State
from fedlens.review.store.case_rows import vouched
from fedlens.review.store.checking import Findings
from fedlens.review.store.people import vouched_person
from fedlens.review.store.projection import decision_row
from fedlens.review.store.tables import CASES, DECISIONS, PEOPLE, RECORDS
from fedlens.review.store.trail import (
    ASSIGNED,
    CASES_ADDED,
    DECIDED,
    EXPLAINED,
    PERSON_ADDED,
    PERSON_CHANGED,
    PREDICTED,
    PRUNED,
    RECORD_COLUMNS,
    UNDONE,
    record_from,
)
from fedlens.review.store.worked import check_worked

STREAM = {"yield_per": 1000}
# in the order of :func:`decision_row`; whether one was taken back is another record's to say
_THERE = [
    column.label(f"has_{column.name}") for column in DECISIONS.c if column.name != "undone_by"
]


def check_tables(connection: Connection, first: int, findings: Findings) -> None:
    """Compare the tables with the trail.

    Args:
        connection: that sees one state of the store.
        first: number of the oldest record that was not pruned.
        findings: are added to.
    """
    _check_decisions(connection, first, findings)
    _check_cases(connection, findings)
    _check_states(connection, findings)
    _check_standing(connection, first, findings)
    _check_people(connection, findings)
    check_worked(connection, findings)


def _stream(connection: Connection, query: Select[Any]) -> Any:
    return connection.execute(query, execution_options=STREAM)


def _check_decisions(connection: Connection, first: int, findings: Findings) -> None:
    query = (
        select(*RECORD_COLUMNS, *_THERE)
        .outerjoin(DECISIONS, DECISIONS.c.sequence == RECORDS.c.sequence)
        .where(RECORDS.c.kind == DECIDED)
        .order_by(RECORDS.c.sequence)
    )
    for row in _stream(connection, query):
        sequence = row.sequence
        if row.has_sequence is None:
            findings.add(
                sequence,
                "decisions",
                f"The decision in record {sequence} is missing from the table of decisions.",
            )
            continue
        told = decision_row(record_from(row))
        there = row[len(RECORD_COLUMNS) :]
        if tuple(told.values()) == there:
            continue
        for name, has in zip(told, there, strict=True):
            if told[name] != has:
                findings.add(
                    sequence,
                    "decisions",
                    f"The table of decisions says another {name} than record {sequence}.",
                )
    query = (
        select(DECISIONS.c.sequence)
        .outerjoin(
            RECORDS, and_(RECORDS.c.sequence == DECISIONS.c.sequence, RECORDS.c.kind == DECIDED)
        )
        .where(RECORDS.c.sequence.is_(None))
    )
    for (sequence,) in _stream(connection, query):
        findings.add(
            sequence,
            "decisions",
            f"The table of decisions has one that no record vouches for, {sequence}.",
        )
    _check_undone(connection, first, findings)


def _check_undone(connection: Connection, first: int, findings: Findings) -> None:
    query = (
        select(RECORDS.c.sequence, RECORDS.c.content, DECISIONS.c.sequence.label("taken_back"))
        .outerjoin(DECISIONS, DECISIONS.c.undone_by == RECORDS.c.sequence)
        .where(RECORDS.c.kind == UNDONE)
        .order_by(RECORDS.c.sequence)
    )
    for row in _stream(connection, query):
        of = _content(row.content).get("record")
        if row.taken_back != of and not (isinstance(of, int) and of < first):
            findings.add(
                row.sequence,
                "decisions",
                f"Record {row.sequence} takes back the decision in record {of}, and the table of "
                "decisions does not say so.",
            )
    query = (
        select(DECISIONS.c.sequence)
        .outerjoin(
            RECORDS, and_(RECORDS.c.sequence == DECISIONS.c.undone_by, RECORDS.c.kind == UNDONE)
        )
        .where(DECISIONS.c.undone_by.is_not(None), RECORDS.c.sequence.is_(None))
    )
    for (sequence,) in _stream(connection, query):
        findings.add(
            sequence,
            "decisions",
            f"The table of decisions says that record {sequence} was taken back, and no record does.",
        )


def _check_cases(connection: Connection, findings: Findings) -> None:
    """Compare what each record says of the cases that it brought with the cases that name it."""
    records = _stream(
        connection,
        select(RECORDS.c.sequence, RECORDS.c.content)
        .where(RECORDS.c.kind.in_((CASES_ADDED, PREDICTED, EXPLAINED)))
        .order_by(RECORDS.c.sequence),
    )
    gone = _pruned_cases(connection)
    rows = _stream(connection, select(CASES).order_by(CASES.c.record, CASES.c.number))
    groups: Iterator[tuple[int, Iterator[Any]]] = groupby(rows, key=_brought_by)
    group = next(groups, None)
    for record in records:
        while group is not None and group[0] < record.sequence:
            _nobody_vouches(group[1], findings)
            group = next(groups, None)
        told = _told(record.content)
        there = {}
        if group is not None and group[0] == record.sequence:
            there = {row.number: row for row in group[1]}
            group = next(groups, None)
        for number, said in told.items():
            row = there.pop(number, None)
            if row is None and number in gone:
                continue
            if row is None:
                findings.add(
                    record.sequence,
                    "cases",
                    f"Case {number}, which record {record.sequence} added, is missing.",
                )
            elif vouched(row._mapping) != said:
                findings.add(
                    record.sequence,
                    "cases",
                    f"Case {number} says something else than record {record.sequence} added.",
                )
        _nobody_vouches(iter(there.values()), findings)
    while group is not None:
        _nobody_vouches(group[1], findings)
        group = next(groups, None)


def _pruned_cases(connection: Connection) -> set[int]:
    """Return the cases that went with their decision, though a record that stays tells of them."""
    query = select(RECORDS.c.content).where(RECORDS.c.kind == PRUNED)
    gone: set[int] = set()
    for (text,) in _stream(connection, query):
        numbers = _content(text).get("cases")
        if isinstance(numbers, list):
            gone.update(one for one in numbers if isinstance(one, int))
    return gone


def _brought_by(row: Any) -> int:
    return row.record if isinstance(row.record, int) else -1  # SQLite keeps any type


def _nobody_vouches(rows: Iterator[Any], findings: Findings) -> None:
    for row in rows:
        findings.add(None, "cases", f"Case {row.number} is one that no record vouches for.")


def _told(content: Any) -> dict[int, Any]:
    cases = _content(content).get("cases")
    told = {}
    for case in cases if isinstance(cases, list) else ():
        if isinstance(case, dict) and isinstance(case.get("case"), int):
            told[case["case"]] = case
    return told


def _check_states(connection: Connection, findings: Findings) -> None:
    """Compare where cases stand with the decisions that were not taken back."""
    stands = and_(DECISIONS.c.undone_by.is_(None), DECISIONS.c.choice != str(Choice.DEFER))
    decided = or_(
        CASES.c.decision.is_not(None), CASES.c.label.is_not(None), CASES.c.state == State.DECIDED
    )
    query = (
        select(CASES.c.number, CASES.c.decision)
        .outerjoin(
            DECISIONS,
            and_(
                DECISIONS.c.sequence == CASES.c.decision,
                DECISIONS.c.case == CASES.c.number,
                DECISIONS.c.reviewer == CASES.c.assignee,
                DECISIONS.c.label.is_not_distinct_from(CASES.c.label),
                CASES.c.state == State.DECIDED,
                stands,
            ),
        )
        .where(decided, DECISIONS.c.sequence.is_(None))
    )
    for number, sequence in _stream(connection, query):
        findings.add(
            sequence,
            "cases",
            f"Case {number} stands as decided otherwise than the trail says.",
        )
    query = (
        select(DECISIONS.c.sequence, DECISIONS.c.case)
        .outerjoin(CASES, CASES.c.number == DECISIONS.c.case)
        .where(stands, CASES.c.decision.is_distinct_from(DECISIONS.c.sequence))
    )
    for sequence, number in _stream(connection, query):
        findings.add(
            sequence,
            "cases",
            f"Case {number} does not stand as record {sequence} decided it.",
        )
    _check_deferred(connection, findings)


def _check_deferred(connection: Connection, findings: Findings) -> None:
    deferrals = select(DECISIONS.c.case, DECISIONS.c.reviewer).where(
        DECISIONS.c.undone_by.is_(None),
        DECISIONS.c.choice == str(Choice.DEFER),
    )
    newest = {
        row[0]: row[1] for row in _stream(connection, deferrals.order_by(DECISIONS.c.sequence))
    }
    query = select(CASES.c.number, CASES.c.deferred_by, CASES.c.state).where(
        or_(CASES.c.deferred_by.is_not(None), CASES.c.state == State.DEFERRED)
    )
    for number, name, state in _stream(connection, query):
        if newest.pop(number, None) != name or (state == State.DEFERRED and name is None):
            findings.add(
                None, "cases", f"Case {number} stands as deferred otherwise than the trail says."
            )
    for number in newest:
        findings.add(None, "cases", f"Case {number} does not stand as deferred, as the trail says.")


def _check_standing(connection: Connection, first: int, findings: Findings) -> None:
    """A case that stands as none can, or with nobody for ever, would be shown to no one any more."""
    there, leased = CASES.c.assignee.is_not(None), CASES.c.lease_until.is_not(None)
    assigned = CASES.c.state == State.ASSIGNED
    odd = or_(
        CASES.c.state.not_in([str(state) for state in State]),
        and_(CASES.c.state == State.OPEN, there),
        and_(assigned, ~there),
        and_(~assigned, leased),
    )
    for (number,) in _stream(connection, select(CASES.c.number).where(odd)):
        findings.add(None, "cases", f"Case {number} stands as no case can.")
    given = select(RECORDS.c.case, RECORDS.c.content).where(RECORDS.c.kind == ASSIGNED)
    told = {
        row.case: _content(row.content).get("to")
        for row in _stream(connection, given.order_by(RECORDS.c.sequence))
    }
    held = select(CASES.c.number, CASES.c.assignee, CASES.c.lease_until).where(assigned)
    for number, name, until in _stream(connection, held):
        if until is not None:
            if not isinstance(until, float | int) or not math.isfinite(until):
                findings.add(None, "cases", f"Case {number} is in work until a time that is none.")
        elif told.get(number) != name and not (number not in told and first > 1):
            findings.add(
                None,
                "cases",
                f"Case {number} is with '{name}' for good, and no lead gave it to them.",
            )


def _check_people(connection: Connection, findings: Findings) -> None:
    """Compare each person and token with the newest record about them; there are few."""
    query = (
        select(RECORDS.c.sequence, RECORDS.c.content)
        .where(RECORDS.c.kind.in_((PERSON_ADDED, PERSON_CHANGED)))
        .order_by(RECORDS.c.sequence)
    )
    told: dict[str, tuple[int, dict[str, Any]]] = {}
    for row in _stream(connection, query):
        content = _content(row.content)
        told[str(content.get("name"))] = (row.sequence, content)
    for row in _stream(connection, select(PEOPLE)):
        sequence, said = told.pop(str(row.name), (None, {}))
        if sequence is None:
            findings.add(None, "people", f"No record vouches for the person '{row.name}'.")
            continue
        right = vouched_person(row._mapping)
        if row.record != sequence or any(said.get(name) != right[name] for name in right):
            findings.add(
                sequence,
                "people",
                f"What the store says of '{row.name}' is something else than record {sequence} says.",
            )
    for name, (sequence, _) in told.items():
        findings.add(sequence, "people", f"'{name}', of whom record {sequence} tells, is missing.")


def _content(value: Any) -> dict[str, Any]:
    try:
        content = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
