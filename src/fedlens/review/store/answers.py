"""What the API answered: a case without its image, and a record, written for several at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from fedlens.review.contract import SOURCE_API, Actor, NewCase, ReviewError
from fedlens.review.store.case_rows import row_of, take_numbers, vouched
from fedlens.review.store.query import Prepared
from fedlens.review.store.switch import check_in_service
from fedlens.review.store.tables import CASES
from fedlens.review.store.trail import EXPLAINED, PREDICTED, Entry, Trail

_COLUMNS = (
    *("digest", "source", "predicted", "probabilities", "need", "signals", "flags", "queued"),
    *("state", "added", "logits", "number", "record"),
)
_ADD_CASES = Prepared(CASES.insert(), _COLUMNS)


@dataclass(frozen=True)
class Answer:
    """One answer of the API.

    Attributes:
        new: the case; its source is ``api`` and it is not queued.
        actor: who asked.
        kind: of the record, ``predicted`` or ``explained``.
        content: of the record; ``cases`` is added to it.
    """

    new: NewCase
    actor: Actor
    kind: str
    content: Mapping[str, Any]

    def row(self, added: float) -> dict[str, Any]:
        """Return the columns of the case, all but its number and record.

        Raises:
            ReviewError: it cannot be such a case.
        """
        if self.kind not in (PREDICTED, EXPLAINED):
            raise ValueError(f"'{self.kind}' is not how the API answers")
        if self.new.queued or self.new.source != SOURCE_API:
            raise ReviewError(f"A case of the API has the source '{SOURCE_API}' and is not queued.")
        return row_of(self.new, added)


def write_answers(
    trail: Trail, connection: Connection, answers: Sequence[Answer], rows: Sequence[dict[str, Any]]
) -> list[int]:
    """Write answers within a write, and return the numbers of their cases.

    Args:
        trail: that the records are appended to.
        connection: of the transaction.
        answers: in order.
        rows: of their cases, see :meth:`Answer.row`.

    Raises:
        ReviewError: a content cannot be kept.
        StoppedError: the model is out of service.
    """
    check_in_service(connection)
    first = take_numbers(connection, len(answers))
    cases = [{**row, "number": first + place} for place, row in enumerate(rows)]
    entries = [
        Entry(
            answer.kind,
            answer.actor,
            {**answer.content, "cases": [vouched(case)]},
            case["number"],
        )
        for answer, case in zip(answers, cases, strict=True)
    ]
    records = trail.append_all(connection, entries)
    _ADD_CASES.run_all(
        connection,
        [
            {**case, "record": record["sequence"]}
            for case, record in zip(cases, records, strict=True)
        ],
    )
    return [case["number"] for case in cases]
