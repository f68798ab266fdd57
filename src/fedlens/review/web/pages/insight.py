"""The page of insight: what the decisions say of the model and of how the console is used."""

import math
import threading
from collections.abc import Sequence
from typing import Annotated
from weakref import WeakKeyDictionary

from fastapi import APIRouter
from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import Response

from fedlens.report.tables import Table
from fedlens.report.wording import NONE, count, decimal, duration, percent
from fedlens.review import insight
from fedlens.review.contract import REASONS_IN_WORDS, Choice, Person, Reason, Role
from fedlens.review.insight import Agreement, Decided, Rate, Times
from fedlens.review.store import Store
from fedlens.review.store.chain import in_seconds
from fedlens.review.store.tables import DECISIONS, RECORDS
from fedlens.review.store.trail import FLAGGED
from fedlens.review.web.console import ConsoleOf
from fedlens.review.web.pages.charts import rates_figure, svg_response, weeks_figure
from fedlens.review.web.pages.words import class_name
from fedlens.review.web.rendering import page
from fedlens.review.web.security import needs

Reader = Annotated[Person, needs(Role.LEAD, Role.AUDITOR)]
KeyFigure = tuple[str, str]

router = APIRouter()
_kept: "WeakKeyDictionary[Store, tuple[object, list[Decided]]]" = WeakKeyDictionary()
_guard = threading.Lock()


@router.get("/insight")
def show(request: Request, console: ConsoleOf, person: Reader) -> Response:
    """Show what the decisions say, in tables and charts."""
    rows = decisions_of(console.store)
    names = console.subject.class_names
    by_class = insight.override_rates(rows, lambda one: one.predicted)
    return page(
        request,
        "insight.html.j2",
        some=bool(rows),
        figures=key_figures(rows, flags_of(console.store)),
        agreement=agreement_words(agreed := insight.agreement(rows)),
        labelled_first=agreed.before.of > 0,
        classes=rate_table(
            "How often answers of each class were overridden.",
            "Predicted",
            by_class,
            [class_name(_number(one), names) for one in by_class],
        ),
        weeks=rate_table(
            "How often answers were overridden, by week.",
            "Week of",
            weeks := insight.weekly(rows),
            [str(one.key) for one in weeks],
        ),
        reviewers=rate_table(
            "How often each reviewer overrode.",
            "Reviewer",
            people := insight.override_rates(rows, lambda one: one.reviewer),
            [str(one.key) for one in people],
        ),
        models=rate_table(
            "How often each version of the model was overridden.",
            "Weights",
            versions := insight.override_rates(rows, lambda one: one.model),
            [str(one.key)[:12] or "not known" for one in versions],
        ),
        reasons=rate_table(
            "Why answers were overridden.",
            "Reason",
            why := insight.reasons(rows),
            [REASONS_IN_WORDS[Reason(str(one.key))] for one in why],
        ),
        times=times_table(rows),
        pairs=pairs_table(rows),
    )


@router.get("/insight/classes.svg")
def classes_chart(console: ConsoleOf, person: Reader) -> Response:
    """Draw the override rate of each class."""
    rates = insight.override_rates(decisions_of(console.store), lambda one: one.predicted)
    names = [class_name(_number(one), console.subject.class_names) for one in rates]
    return svg_response(rates_figure(rates, names, "Share overridden, with 95 % interval"))


@router.get("/insight/weeks.svg")
def weeks_chart(console: ConsoleOf, person: Reader) -> Response:
    """Draw the override rate over the weeks."""
    rates = insight.weekly(decisions_of(console.store))
    return svg_response(weeks_figure(rates, "Share overridden, with 95 % interval"))


@router.get("/insight/agreement.svg")
def agreement_chart(console: ConsoleOf, person: Reader) -> Response:
    """Draw how often reviewers agreed with the model before and after the reveal."""
    found = insight.agreement(decisions_of(console.store))
    figure = rates_figure(
        [found.before, found.after],
        ["Before the reveal", "After it"],
        "Share that agrees with the model",
    )
    return svg_response(figure)


def decisions_of(store: Store) -> list[Decided]:
    """Return all decisions, the oldest first; they are read anew only where there are new ones."""
    columns = DECISIONS.c
    with store.database.read() as connection:
        state = tuple(
            connection.execute(
                select(
                    func.count(),
                    func.max(columns.sequence),
                    func.count(columns.undone_by),
                    func.max(columns.undone_by),
                )
            ).one()
        )
        with _guard:
            kept = _kept.get(store)
        if kept is not None and kept[0] == state:
            return kept[1]
        rows = connection.execute(select(DECISIONS).order_by(columns.sequence))
        found = [
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
    with _guard:
        _kept[store] = (state, found)
    return found


def flags_of(store: Store) -> list[int]:
    """Return the case of each explanation that was flagged outside of a decision."""
    flagged = select(RECORDS.c.case).where(RECORDS.c.kind == FLAGGED)
    with store.database.read() as connection:
        return list(connection.execute(flagged).scalars())


def key_figures(rows: Sequence[Decided], flags: Sequence[int] = ()) -> list[KeyFigure]:
    """Return the numbers at the head of the page, each with what it is.

    Args:
        rows: all decisions.
        flags: the case of each flag outside of a decision. A flag counts for the decision of its
            case whether it came with it or not; one of a case that nobody has decided is told of.
    """
    every = insight.override_rates(rows)
    overall = every[0] if every else insight.rate("all", 0, 0)
    standing = [one for one in rows if not one.undone]
    deferred = sum(one.choice is Choice.DEFER for one in standing)
    flagged = insight.misleading(rows, frozenset(flags))
    beside = f"; {count(len(flags), 'flag')} outside of a decision" if flags else ""
    timed = insight.times(rows)
    return [
        (f"{len(standing):,}", f"decisions, {deferred:,} of them deferred"),
        (share(overall), f"overridden, {interval(overall)}"),
        (share(flagged), f"explanations flagged as misleading, {interval(flagged)}{beside}"),
        (duration(timed[0].median) if timed else NONE, "median time to a decision"),
        (f"{len(rows) - len(standing):,}", "decisions undone"),
    ]


def agreement_words(found: Agreement) -> str:
    """Return in words what the reveal changed, and what that may mean."""
    if not found.before.of:
        return "No case was labelled before the model's answer was shown."
    return (
        f"Of {found.before.of:,} cases that were labelled before the reveal, "
        f"{share(found.before)} agreed with the model before it and {share(found.after)} after. "
        f"{found.towards:,} moved to the model's answer and {found.away:,} away from it. Many that "
        "move to it, where the model is often wrong, is what automation bias looks like."
    )


def rate_table(caption: str, what: str, rates: Sequence[Rate], names: Sequence[str]) -> Table:
    """Return rates as a table: counts, share and interval."""
    return Table(
        caption,
        (what, "Count", "Of", "Share", "95 % interval"),
        [
            (name, f"{one.count:,}", f"{one.of:,}", share(one), interval(one))
            for one, name in zip(rates, names, strict=True)
        ],
    )


def times_table(rows: Sequence[Decided]) -> Table:
    """Return how long decisions took, over all and for each choice and reviewer."""
    groups: list[tuple[str, list[Times]]] = [
        ("all", insight.times(rows)),
        ("", insight.times(rows, lambda one: one.choice)),
        ("", insight.times(rows, lambda one: one.reviewer)),
    ]
    return Table(
        "Seconds from opening a case to its decision: half of them lie between the quartiles.",
        ("Decisions", "Count", "Lower quartile", "Median", "Upper quartile"),
        [
            (
                name or str(one.key),
                f"{one.count:,}",
                duration(one.lower),
                duration(one.median),
                duration(one.upper),
            )
            for name, found in groups
            for one in found
        ],
    )


def pairs_table(rows: Sequence[Decided]) -> Table:
    """Return how far each two reviewers agree."""
    return Table(
        "Cases that two reviewers gave a label to, since one deferred or a decision was undone. "
        "Cohen's kappa is 1 where they always agree, and 0 where they agree as by chance.",
        ("Reviewers", "Agreed", "Of", "Share", "95 % interval", "Kappa"),
        [
            (
                f"{one.first} and {one.second}",
                f"{one.agreed.count:,}",
                f"{one.agreed.of:,}",
                share(one.agreed),
                interval(one.agreed),
                decimal(one.kappa, 2) if math.isfinite(one.kappa) else NONE,
            )
            for one in insight.pairs(rows)
        ],
    )


def share(one: Rate) -> str:
    """Return a rate's share in percent."""
    return percent(one.share, 1)


def interval(one: Rate) -> str:
    """Return a rate's interval in percent."""
    if not one.of:
        return NONE
    return f"{decimal(100 * one.low, 1)} to {percent(one.high, 1)}"


def _number(one: Rate) -> int | None:
    return one.key if isinstance(one.key, int) else None
