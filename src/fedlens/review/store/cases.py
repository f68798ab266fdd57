"""The queue: which cases there are, who has which, and which one a person should see next.

A case that a person works is leased to them for half an hour, which everything they do renews. A
lease that has run out gives the case back; nobody has to be there for that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    func,
    or_,
    select,
    update,
)

from fedlens.review.contract import (
    Actor,
    Case,
    ConflictError,
    Filters,
    NewCase,
    NotAllowedError,
    Progress,
    State,
)
from fedlens.review.store.answers import Answer, write_answers
from fedlens.review.store.case_rows import (
    COLUMNS,
    case_from,
    find_case,
    row_of,
    take_numbers,
    vouched,
)
from fedlens.review.store.chain import check_name
from fedlens.review.store.leases import BACK, expire, expired, lease, renew
from fedlens.review.store.rights import may_lead, must_lead, must_work
from fedlens.review.store.switch import check_in_service
from fedlens.review.store.tables import CASES
from fedlens.review.store.trail import (
    ASSIGNED,
    CASES_ADDED,
    RELEASED,
    Trail,
)
from fedlens.review.store.worked import those_worked

BATCH = 200
_NOTHING = Filters()


class Queue:
    """The cases of a store.

    Args:
        trail: of the store.
    """

    def __init__(self, trail: Trail) -> None:
        self.trail = trail
        self.database = trail.database

    def add(self, cases: Iterable[NewCase], actor: Actor) -> list[int]:
        """Add cases, and return their numbers in order.

        A queued case that is there already (same source, same digest) is left as it is, and its
        number is returned; so it is of one that was decided, though its records were pruned since.
        What comes through the API is a case of its own each time.

        Args:
            cases: any number of them; they are written in batches.
            actor: who adds them.

        Raises:
            ReviewError: a case that cannot be one; the batches before it were added.
        """
        numbers: list[int] = []
        left = iter(cases)
        while batch := list(islice(left, BATCH)):
            numbers += self.database.write(
                lambda connection, batch=batch: self._add(connection, batch, actor)  # type: ignore[misc]
            )
        return numbers

    def answer(self, new: NewCase, actor: Actor, kind: str, content: Mapping[str, Any]) -> int:
        """Add a case that the API answered, with the record of the answer, and return its number.

        See :class:`~.answers.Answer` and :meth:`answers_soon`.
        """
        (number,) = self.answers_soon([Answer(new, actor, kind, content)]).result()
        return number

    def answers_soon(self, answers: Sequence[Answer]) -> "Future[list[int]]":
        """Return at once the future of the numbers of the cases that the API answered.

        They are written together, each with its record, or none of them is.

        Args:
            answers: in order.

        Raises:
            ReviewError: one cannot be such a case.

        The future raises:
            ReviewError: one has a content that cannot be kept.
            StoppedError: the model was stopped meanwhile.
        """
        rows = [answer.row(self.trail.clock()) for answer in answers]
        return self.database.write_soon(
            lambda connection: write_answers(self.trail, connection, answers, rows)
        )

    def unrecorded_soon(self, answered: Sequence[tuple[NewCase, Actor]]) -> "Future[list[int]]":
        """Return at once the future of the numbers of cases whose answers leave no record.

        They are added together, or none of them is; that they were added is in the trail.

        Args:
            answered: the cases in order, with who asked.

        The future raises:
            ReviewError: one cannot be a case.
            StoppedError: the model was stopped meanwhile.
        """

        def add(connection: Connection) -> list[int]:
            check_in_service(connection)
            return [self._add(connection, [new], actor)[0] for new, actor in answered]

        return self.database.write_soon(add)

    def get(self, number: int) -> Case:
        """Return a case.

        Raises:
            NotFoundError: there is none of this number.
        """
        self._give_back()
        with self.database.read() as connection:
            return case_from(find_case(connection, number))

    def claim_next(self, actor: Actor, filters: Filters = _NOTHING) -> Case | None:
        """Lease the case that this person should see next, and return it; None when there is none.

        Their own first, so that one resumes; else the one that needs a person most; then those that
        others deferred. No two people are ever given the same case.

        Args:
            actor: a reviewer or lead.
            filters: states and assignee do not matter here.

        Raises:
            NotAllowedError: an auditor.
        """
        must_work(actor)

        def work(connection: Connection) -> Case | None:
            now = self.trail.clock()
            expire(connection, now)
            wanted = [CASES.c.queued.is_(True), *_about(filters)]
            choices: tuple[tuple[ColumnElement[bool], ...], ...] = (
                (CASES.c.assignee == actor.name, CASES.c.state == State.ASSIGNED),
                (CASES.c.state == State.OPEN,),
                (CASES.c.state == State.DEFERRED, CASES.c.deferred_by != actor.name),
            )
            for choice in choices:
                row = connection.execute(
                    select(CASES.c.number)
                    .where(*wanted, *choice)
                    .order_by(CASES.c.need.desc(), CASES.c.number)
                    .limit(1)
                ).one_or_none()
                if row is not None:
                    return lease(connection, row.number, actor.name, now)
            return None

        return self.database.write(work)

    def claim(self, actor: Actor, number: int) -> Case:
        """Lease a case to a person, and return it.

        Raises:
            NotFoundError: there is none of this number.
            NotAllowedError: an auditor.
            ConflictError: another person has it, or it is decided.
        """
        must_work(actor)

        def work(connection: Connection) -> Case:
            now = self.trail.clock()
            expire(connection, now)
            row = find_case(connection, number)
            if row.state == State.DECIDED:
                raise ConflictError(f"Case {number} is decided; undo the decision to change it.")
            if row.state == State.ASSIGNED and row.assignee != actor.name:
                raise ConflictError(f"{row.assignee} is working case {number}; take another one.")
            return lease(connection, number, actor.name, now)

        return self.database.write(work)

    def touch(self, actor: Actor, number: int) -> bool:
        """Renew a person's lease; return whether the case is theirs."""

        def work(connection: Connection) -> bool:
            return renew(connection, actor, number, self.trail.clock())

        return self.database.write(work)

    def assign(self, lead: Actor, number: int, reviewer: str) -> Case:
        """Give a case to a person, for as long as it takes; leave a record.

        Raises:
            NotFoundError: there is none of this number.
            NotAllowedError: not a lead.
            ConflictError: it is decided.
        """
        must_lead(lead, "assigns cases")
        check_name(reviewer)

        def work(connection: Connection) -> Case:
            expire(connection, self.trail.clock())
            row = find_case(connection, number)
            if row.state == State.DECIDED:
                raise ConflictError(f"Case {number} is decided; undo the decision to change it.")
            before = row.assignee if row.state == State.ASSIGNED else None
            self.trail.append(
                connection, ASSIGNED, lead, {"to": reviewer, "before": before}, number
            )
            connection.execute(
                update(CASES)
                .where(CASES.c.number == number)
                .values(state=State.ASSIGNED, assignee=reviewer, lease_until=None)
            )
            return case_from(find_case(connection, number))

        return self.database.write(work)

    def release(self, actor: Actor, number: int) -> Case:
        """Give a case back to the queue; leave a record.

        Raises:
            NotFoundError: there is none of this number.
            NotAllowedError: it is another person's, and this one is no lead.
            ConflictError: nobody has it.
        """
        must_work(actor)

        def work(connection: Connection) -> Case:
            expire(connection, self.trail.clock())
            row = find_case(connection, number)
            if row.state != State.ASSIGNED:
                raise ConflictError(f"Nobody has case {number}, so that it cannot be given back.")
            if row.assignee != actor.name and not may_lead(actor):
                raise NotAllowedError(
                    f"Case {number} is {row.assignee}'s to give back, or a lead's."
                )
            self.trail.append(connection, RELEASED, actor, {"of": row.assignee}, number)
            connection.execute(update(CASES).where(CASES.c.number == number).values(BACK))
            return case_from(find_case(connection, number))

        return self.database.write(work)

    def page(self, filters: Filters = _NOTHING, offset: int = 0, limit: int = 50) -> list[Case]:
        """Return queued cases, the neediest first."""
        self._give_back()
        query = (
            select(*COLUMNS)
            .where(*_conditions(filters))
            .order_by(CASES.c.need.desc(), CASES.c.number)
            .offset(max(0, min(offset, 2**31)))
            .limit(max(0, min(limit, 2**31)))
        )
        with self.database.read() as connection:
            return [case_from(row) for row in connection.execute(query)]

    def count(self, filters: Filters = _NOTHING) -> int:
        """Return how many queued cases there are of these."""
        self._give_back()
        query = select(func.count()).select_from(CASES).where(*_conditions(filters))
        with self.database.read() as connection:
            return connection.execute(query).scalar_one()

    def progress(self, reviewer: str | None = None) -> Progress:
        """Return where the queued cases stand; of one person, those that they have or had."""
        self._give_back()
        query = (
            select(CASES.c.state, func.count())
            .where(*_conditions(Filters(assignee=reviewer)))
            .group_by(CASES.c.state)
        )
        with self.database.read() as connection:
            counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
        return Progress(sum(counts.values()), *(counts.get(str(state), 0) for state in State))

    def _add(self, connection: Connection, batch: Sequence[NewCase], actor: Actor) -> list[int]:
        there = _those_there(connection, batch)
        now = self.trail.clock()
        fresh: dict[tuple[str, str], dict[str, Any]] = {}
        rows = []
        places: list[Any] = []
        for new in batch:
            name = (new.source, new.digest)
            if new.queued and name in there:
                places.append(there[name])
            elif new.queued and name in fresh:
                places.append(fresh[name])
            else:
                row = row_of(new, now)
                rows.append(row)
                places.append(row)
                if new.queued:
                    fresh[name] = row
        if rows:
            first = take_numbers(connection, len(rows))
            for position, row in enumerate(rows):
                row["number"] = first + position
            content = {"cases": [vouched(row) for row in rows]}
            record = self.trail.append(connection, CASES_ADDED, actor, content)
            connection.execute(CASES.insert(), [{**row, "record": record.sequence} for row in rows])
        return [place if isinstance(place, int) else place["number"] for place in places]

    def _give_back(self) -> None:
        """Give expired leases back; nothing is written where there are none."""
        now = self.trail.clock()
        query = select(CASES.c.number).where(*expired(now)).limit(1)
        with self.database.read() as connection:
            if connection.execute(query).one_or_none() is None:
                return
        self.database.write(lambda connection: expire(connection, now))


def _those_there(connection: Connection, batch: Sequence[NewCase]) -> dict[tuple[str, str], int]:
    sources = sorted({new.source for new in batch if new.queued})
    if not sources:
        return {}
    query = select(CASES.c.source, CASES.c.digest, CASES.c.number).where(
        CASES.c.source.in_(sources)
    )
    there = {(row.source, row.digest): row.number for row in connection.execute(query)}
    return those_worked(connection, batch) | there


def _about(filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.predicted is not None:
        yield CASES.c.predicted == max(-1, min(filters.predicted, 2**31 - 1))
    if filters.least_need is not None:
        yield CASES.c.need >= filters.least_need
    if filters.signal is not None:
        yield CASES.c.flags.contains(f"|{filters.signal}|", autoescape=True)


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    # one person's cases are few: without the coalescing, SQLite would walk through all by need
    mine = filters.assignee is not None
    queued = func.coalesce(CASES.c.queued, False) if mine else CASES.c.queued
    conditions = [queued.is_(True), *_about(filters)]
    if filters.states:
        conditions.append(or_(*(CASES.c.state == str(state) for state in filters.states)))
    if filters.assignee is not None:
        conditions.append(CASES.c.assignee == filters.assignee)
    return conditions
