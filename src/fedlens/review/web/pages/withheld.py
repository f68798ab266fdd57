"""What of the trail is kept from a person who may still label a case before they see the answer.

A lead reads all records, and labels like a reviewer: of a case whose answer was not shown to them
yet, a record then tells that something happened, and not what. The page of the case tells more, as
soon as it may, and leaves a record of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedlens.review.contract import Person, Record, Role
from fedlens.review.store import trail
from fedlens.review.web.console import Console

WITHHELD = "shown after the answer was shown to you on the page of the case"
_TELLING = (
    trail.LABELLED_BLIND,
    trail.REVEALED,
    trail.DECIDED,
    trail.UNDONE,
    trail.FLAGGED,
)
_OF_A_CASE = ("predicted", "source")
"""What a record of cases that came in tells of each: its class, and the name of its file."""


def unseen_of(console: Console, person: Person, records: Sequence[Record]) -> set[int]:
    """Return the cases in ``records`` whose answer ``person`` is not to know yet."""
    if not console.policy.blind_first or person.role is Role.AUDITOR:
        return set()
    numbers = {number for record in records for number in _cases_of(record)}
    return console.store.decisions.unseen(person.actor, numbers)


def is_withheld(record: Record, unseen: set[int], person: Person) -> bool:
    """Return whether the whole content of ``record`` is kept back, since another wrote it."""
    return record.kind in _TELLING and record.case in unseen and record.actor != person.name


def without_what_is_withheld(record: Record, unseen: set[int], person: Person) -> Record:
    """Return ``record`` with the content that ``person`` may read; its digest is of all of it."""
    if is_withheld(record, unseen, person):
        return replace(record, content={"withheld": WITHHELD})
    if record.kind == trail.CASES_ADDED and unseen:
        return replace(record, content={**record.content, "cases": _kept_back(record, unseen)})
    return record


def _kept_back(record: Record, unseen: set[int]) -> list[Any]:
    kept = []
    for one in record.content.get("cases", []):
        if isinstance(one, dict) and one.get("case") in unseen:
            kept.append(one | dict.fromkeys(_OF_A_CASE, None) | {"withheld": WITHHELD})
        else:
            kept.append(one)
    return kept


def _cases_of(record: Record) -> list[int]:
    if record.kind != trail.CASES_ADDED:
        return [] if record.case is None else [record.case]
    cases = record.content.get("cases")
    found = cases if isinstance(cases, list) else []
    numbers = [one.get("case") for one in found if isinstance(one, dict)]
    return [number for number in numbers if isinstance(number, int)]
