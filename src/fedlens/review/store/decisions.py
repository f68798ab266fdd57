"""What people do with a case: open it, label it blind, see the prediction, decide, take it back.

Each is one record. When a case was opened and revealed, what was said blind and how long it took
are worked out from the trail, never taken from the page.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from fedlens.review.contract import (
    LONGEST_TEXT,
    Actor,
    Case,
    Choice,
    ConflictError,
    Decision,
    NotAllowedError,
    NotFoundError,
    Record,
    ReviewError,
    State,
    check_decision,
)
from fedlens.review.store.case_rows import case_from, find_case
from fedlens.review.store.leases import LEASE_SECONDS, renew
from fedlens.review.store.projection import decision_row
from fedlens.review.store.rights import may_lead, must_work
from fedlens.review.store.tables import CASES, DECISIONS, RECORDS
from fedlens.review.store.trail import (
    DECIDED,
    FLAGGED,
    LABELLED_BLIND,
    LARGEST_NUMBER,
    OPENED,
    RECORD_COLUMNS,
    REVEALED,
    UNDONE,
    Trail,
    record_from,
)
from fedlens.review.store.unseen import unseen
from fedlens.review.store.work import Work, work_of


class Decisions:
    """What people decided, in the trail and in a table beside it.

    Args:
        trail: of the store.
    """

    def __init__(self, trail: Trail) -> None:
        self.trail = trail
        self.database = trail.database

    def opened(self, actor: Actor, case: int) -> Record:
        """Record that a person opened a case; renew their lease.

        Raises:
            NotFoundError: there is no such case.
        """
        return self._step(actor, case, OPENED, {})

    def label_blind(self, actor: Actor, case: int, label: int | None) -> Record:
        """Record what a person sees before the prediction is shown to them.

        Args:
            actor: a reviewer or lead.
            case: its number.
            label: class number, or None for "of none of the classes".

        Raises:
            NotFoundError: there is no such case.
            NotAllowedError: an auditor.
            ConflictError: they said it already, or the prediction was shown to them, or told to
                them otherwise.
            ReviewError: there is no such class.
        """
        must_work(actor)

        def work(connection: Connection) -> Record:
            row = find_case(connection, case)
            classes = len(case_from(row).probabilities)
            if label is not None and not 0 <= label < classes:
                raise ReviewError(f"There is no class {label}, expected 0 to {classes - 1}.")
            done = work_of(connection, actor, case)
            if done.revealed is not None:
                raise ConflictError(
                    f"The prediction for case {case} was shown to you already, so that a label is no "
                    "longer blind."
                )
            if done.labelled:
                raise ConflictError(f"You labelled case {case} already.")
            if not unseen(connection, actor, [case]):
                raise ConflictError(
                    f"You were told otherwise what the model says of case {case}, so that a label is "
                    "no longer blind."
                )
            renew(connection, actor, case, self.trail.clock())
            return self.trail.append(connection, LABELLED_BLIND, actor, {"label": label}, case)

        return self.database.write(work)

    def reveal(
        self,
        actor: Actor,
        case: int,
        displayed: Mapping[str, Any],
        evidence: Mapping[str, Any] | None = None,
    ) -> Record:
        """Record that the prediction and its map were shown, and how; renew the lease.

        Args:
            actor: to whom.
            case: its number.
            displayed: what was before them, plain JSON.
            evidence: what the model said, plain JSON, for a decision that rests on it.

        Raises:
            NotFoundError: there is no such case.
        """
        content: dict[str, Any] = {"displayed": dict(displayed)}
        if evidence:
            content["evidence"] = dict(evidence)
        return self._step(actor, case, REVEALED, content)

    def decide(self, actor: Actor, decision: Decision) -> Record:
        """Record a decision, and move the case to where it then stands.

        A case must have been opened by them, and be theirs or free (a lease that ran out while nobody
        else came); one that came through the API is anyone's.

        Raises:
            NotFoundError: there is no such case.
            NotAllowedError: an auditor, or a case that is not theirs.
            ConflictError: it is decided, another person has it, or they have not opened it.
            ReviewError: the decision does not hang together.
        """
        must_work(actor)

        def work(connection: Connection) -> Record:
            row = find_case(connection, decision.case)
            case = case_from(row)
            done = work_of(connection, actor, case.number)
            _must_be_theirs(case, actor, done)
            # only then: which override is refused tells what was predicted
            check_decision(decision, case.predicted, len(case.probabilities))
            content = _content(decision, case, done, self.trail.clock())
            record = self.trail.append(connection, DECIDED, actor, content, case.number)
            connection.execute(DECISIONS.insert(), decision_row(record))
            connection.execute(
                update(CASES).where(CASES.c.number == case.number).values(_after(record, actor))
            )
            return record

        return self.database.write(work)

    def undo(self, actor: Actor, sequence: int, why: str) -> Record:
        """Take a decision back by a new record; the case goes back to whoever decided it.

        Args:
            actor: who decided, or a lead.
            sequence: number of the record of the decision.
            why: a few words, at most 2,000 characters.

        Raises:
            NotFoundError: there is no such decision.
            NotAllowedError: it is another person's, and this one is no lead.
            ConflictError: it was undone already, or something came after it.
        """
        must_work(actor)
        _check_text(why)

        def work(connection: Connection) -> Record:
            decision = _find_decision(connection, sequence)
            if decision.undone_by is not None:
                raise ConflictError(f"The decision in record {sequence} was undone already.")
            if decision.reviewer != actor.name and not may_lead(actor):
                raise NotAllowedError(
                    f"The decision in record {sequence} is {decision.reviewer}'s to undo, or a lead's."
                )
            row = find_case(connection, decision.case)
            standing = _standing(connection, row.number)
            if not standing or standing[-1].sequence != sequence or row.state == State.ASSIGNED:
                raise ConflictError(
                    f"Case {row.number} has gone on since record {sequence}, so that it cannot be "
                    "undone; undo what came after it, or decide anew."
                )
            record = self.trail.append(
                connection,
                UNDONE,
                actor,
                {
                    "record": sequence,
                    "why": why,
                    "choice": decision.choice,
                    "label": decision.label,
                },
                row.number,
            )
            connection.execute(
                update(DECISIONS)
                .where(DECISIONS.c.sequence == sequence)
                .values(undone_by=record.sequence)
            )
            deferred = standing[-2].reviewer if len(standing) > 1 else None
            back: dict[str, Any] = {
                "state": State.ASSIGNED if row.queued else State.OPEN,
                "assignee": decision.reviewer if row.queued else None,
                "lease_until": self.trail.clock() + LEASE_SECONDS if row.queued else None,
            }
            connection.execute(
                update(CASES)
                .where(CASES.c.number == row.number)
                .values(**back, label=None, decision=None, deferred_by=deferred)
            )
            return record

        return self.database.write(work)

    def flag(self, actor: Actor, case: int, text: str, displayed: Mapping[str, Any]) -> Record:
        """Record that an explanation is misleading, outside of a decision.

        Args:
            actor: a reviewer or lead.
            case: its number.
            text: what misleads, 1 to 2,000 characters.
            displayed: which maps were shown; without, nobody could tell what misled.

        Raises:
            NotFoundError: there is no such case.
            NotAllowedError: an auditor.
            ReviewError: the text is missing or too long, or no map was shown.
        """
        must_work(actor)
        _check_text(text)
        if not text.strip():
            raise ReviewError("Say how the explanation misleads.")
        if not displayed.get("maps"):
            raise ReviewError("An explanation that is flagged is one that is shown.")
        content = {"text": text, "displayed": dict(displayed)}
        return self._step(actor, case, FLAGGED, content)

    def work(self, actor: Actor, case: int) -> Work:
        """Return what a person has done with a case since it was last decided by them."""
        with self.database.read() as connection:
            return work_of(connection, actor, case)

    def unseen(self, actor: Actor, cases: Collection[int]) -> set[int]:
        """Return those of ``cases`` whose answer a person cannot know; see :mod:`~.unseen`."""
        with self.database.read() as connection:
            return unseen(connection, actor, cases)

    def history(self, case: int) -> list[Record]:
        """Return all records about a case, the oldest first."""
        query = (
            select(*RECORD_COLUMNS)
            .where(RECORDS.c.case == max(-1, min(case, LARGEST_NUMBER)))
            .order_by(RECORDS.c.sequence)
        )
        with self.database.read() as connection:
            return [record_from(row) for row in connection.execute(query)]

    def recent(self, actor: Actor, limit: int = 10) -> list[Record]:
        """Return a person's decisions that stand, the newest first."""
        query = (
            select(*RECORD_COLUMNS)
            .join(DECISIONS, DECISIONS.c.sequence == RECORDS.c.sequence)
            .where(DECISIONS.c.reviewer == actor.name, DECISIONS.c.undone_by.is_(None))
            .order_by(DECISIONS.c.sequence.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            return [record_from(row) for row in connection.execute(query)]

    def _step(self, actor: Actor, case: int, kind: str, content: Mapping[str, Any]) -> Record:
        def work(connection: Connection) -> Record:
            renew(connection, actor, case, self.trail.clock())
            return self.trail.append(connection, kind, actor, content, case)

        return self.database.write(work)


def _content(decision: Decision, case: Case, done: Work, now: float) -> dict[str, Any]:
    return {
        "choice": str(decision.choice),
        "label": case.predicted if decision.choice is Choice.ACCEPT else decision.label,
        "reason": None if decision.reason is None else str(decision.reason),
        "text": decision.text,
        "misleading": bool(decision.misleading),
        "predicted": case.predicted,
        "confidence": case.confidence,
        "image": case.digest,
        "source": case.source,
        "opened": done.opened,
        "revealed": done.revealed,
        "map_revealed": done.map_revealed,
        "labelled_blind": done.labelled,
        "blind_label": done.blind,
        "seconds": done.seconds(now),
        "displayed": dict(decision.displayed),
        "evidence": dict(decision.evidence),
    }


def _after(record: Record, actor: Actor) -> dict[str, Any]:
    if record.content["choice"] == Choice.DEFER:
        return {
            "state": State.DEFERRED,
            "assignee": actor.name,
            "deferred_by": actor.name,
            "lease_until": None,
        }
    return {
        "state": State.DECIDED,
        "assignee": actor.name,
        "lease_until": None,
        "label": record.content["label"],
        "decision": record.sequence,
    }


def _must_be_theirs(case: Case, actor: Actor, done: Work) -> None:
    if case.state is State.DECIDED:
        raise ConflictError(
            f"Case {case.number} was decided by {case.assignee}; undo that decision to change it."
        )
    if case.state is State.ASSIGNED and case.assignee != actor.name:
        raise ConflictError(f"{case.assignee} is working case {case.number}; take another one.")
    if case.queued and done.opened is None:
        if case.state is not State.ASSIGNED:
            raise NotAllowedError(f"Case {case.number} is not yours yet: take it first.")
        raise ConflictError(f"Open case {case.number} before you decide it.")


def _find_decision(connection: Connection, sequence: int) -> Any:
    if 0 < sequence <= LARGEST_NUMBER:
        query = select(DECISIONS).where(DECISIONS.c.sequence == sequence)
        row = connection.execute(query).one_or_none()
        if row is not None:
            return row
    raise NotFoundError(f"There is no decision in record {sequence}.")


def _standing(connection: Connection, case: int) -> Sequence[Any]:
    query = (
        select(DECISIONS)
        .where(DECISIONS.c.case == case, DECISIONS.c.undone_by.is_(None))
        .order_by(DECISIONS.c.sequence)
    )
    return connection.execute(query).all()


def _check_text(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise ReviewError(
            f"The text has {len(text):,} characters, expected at most {LONGEST_TEXT:,}."
        )
