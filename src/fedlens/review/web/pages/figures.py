"""The figures of the page of insight, worked out once for each state of the decisions."""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, func, select

from fedlens.review import insight
from fedlens.review.contract import Choice, Reason
from fedlens.review.insight import Agreement, Decided, Pair, Rate, Times
from fedlens.review.store import Store
from fedlens.review.store.chain import in_seconds
from fedlens.review.store.tables import DECISIONS, RECORDS
from fedlens.review.store.trail import FLAGGED


@dataclass(frozen=True)
class Figures:
    """What the decisions say; what was undone counts nowhere but in ``undone`` and ``pairs``.

    Attributes:
        standing, deferred, undone: how many decisions stand, of them deferred; and were taken back.
        flags: explanations that were flagged outside of a decision.
        overall, misleading: shares overridden, and flagged as misleading.
        classes, weeks, reviewers, models: shares overridden, of each.
        reasons: of the overrides.
        agreement: before and after the reveal.
        times: to a decision: of all, by choice, by reviewer.
        pairs: of reviewers.
    """

    standing: int
    deferred: int
    undone: int
    flags: int
    overall: Rate
    misleading: Rate
    classes: Sequence[Rate]
    weeks: Sequence[Rate]
    reviewers: Sequence[Rate]
    models: Sequence[Rate]
    reasons: Sequence[Rate]
    agreement: Agreement
    times: tuple[Sequence[Times], Sequence[Times], Sequence[Times]]
    pairs: Sequence[Pair]


_kept: "WeakKeyDictionary[Store, tuple[object, Figures]]" = WeakKeyDictionary()
# Of several who ask at once, the page and its charts among them, one works it out.
_turn = threading.Lock()


def figures_of(store: Store) -> Figures:
    """Return the figures, worked out anew only where something was decided or flagged since."""
    with _turn, store.database.read() as connection:
        state = _state(connection)
        kept = _kept.get(store)
        if kept is not None and kept[0] == state:
            return kept[1]
        flagged = select(RECORDS.c.case).where(RECORDS.c.kind == FLAGGED)
        found = figures(_decisions(connection), connection.execute(flagged).scalars().all())
        _kept[store] = (state, found)
        return found


def figures(rows: Sequence[Decided], flags: Collection[int] = ()) -> Figures:
    """Work out the figures of some decisions.

    Args:
        rows: in any order.
        flags: the case of each flag outside of a decision. It counts for the decision of its case as
            one that came with the decision does.
    """
    standing = [one for one in rows if not one.undone]
    every = insight.override_rates(standing)
    return Figures(
        standing=len(standing),
        deferred=sum(one.choice is Choice.DEFER for one in standing),
        undone=len(rows) - len(standing),
        flags=len(flags),
        overall=every[0] if every else insight.rate("all", 0, 0),
        misleading=insight.misleading(standing, frozenset(flags)),
        classes=insight.override_rates(standing, lambda one: one.predicted),
        weeks=insight.weekly(standing),
        reviewers=insight.override_rates(standing, lambda one: one.reviewer),
        models=insight.override_rates(standing, lambda one: one.model),
        reasons=insight.reasons(standing),
        agreement=insight.agreement(standing),
        times=(
            insight.times(standing),
            insight.times(standing, lambda one: one.choice),
            insight.times(standing, lambda one: one.reviewer),
        ),
        pairs=insight.pairs(rows),
    )


def _state(connection: Connection) -> tuple[object, ...]:
    """Return what is another one wherever a decision or a flag came, went or was undone."""
    columns = DECISIONS.c
    decisions = select(
        func.count(),
        func.max(columns.sequence),
        func.count(columns.undone_by),
        func.max(columns.undone_by),
    )
    flags = select(func.count(), func.max(RECORDS.c.sequence)).where(RECORDS.c.kind == FLAGGED)
    return (*connection.execute(decisions).one(), *connection.execute(flags).one())


def _decisions(connection: Connection) -> list[Decided]:
    rows = connection.execute(select(DECISIONS).order_by(DECISIONS.c.sequence))
    return [
        Decided(
            sequence=row.sequence,
            time=in_seconds(row.time),
            case=row.case,
            reviewer=row.reviewer,
            predicted=row.predicted,
            choice=Choice(row.choice),
            label=row.label,
            reason=None if row.reason is None else Reason(row.reason),
            misleading=row.misleading,
            blind_label=row.blind_label,
            seconds=row.seconds,
            model=row.model or "",
            undone=row.undone_by is not None,
        )
        for row in rows
    ]
