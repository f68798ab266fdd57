"""The page of insight: what the decisions say of the model and of how the console is used."""

import math
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from fedlens.report.tables import Table
from fedlens.report.wording import NONE, count, decimal, duration, percent
from fedlens.review.contract import REASONS_IN_WORDS, Person, Reason, Role
from fedlens.review.insight import Agreement, Pair, Rate, Times
from fedlens.review.web.console import ConsoleOf
from fedlens.review.web.pages.charts import rates_figure, svg_response, weeks_figure
from fedlens.review.web.pages.figures import Figures, figures_of
from fedlens.review.web.pages.words import class_name
from fedlens.review.web.rendering import page
from fedlens.review.web.security import needs

Reader = Annotated[Person, needs(Role.LEAD, Role.AUDITOR)]
KeyFigure = tuple[str, str]

router = APIRouter()


@router.get("/insight")
def show(request: Request, console: ConsoleOf, person: Reader) -> Response:
    """Show what the decisions say, in tables and charts."""
    found = figures_of(console.store)
    names = console.subject.class_names
    return page(
        request,
        "insight.html.j2",
        some=found.standing + found.undone > 0,
        figures=key_figures(found),
        agreement=agreement_words(found.agreement),
        labelled_first=found.agreement.before.of > 0,
        classes=rate_table(
            "How often answers of each class were overridden.",
            "Predicted",
            found.classes,
            [class_name(_number(one), names) for one in found.classes],
        ),
        weeks=rate_table(
            "How often answers were overridden, by week.",
            "Week of",
            found.weeks,
            [str(one.key) for one in found.weeks],
        ),
        reviewers=rate_table(
            "How often each reviewer overrode.",
            "Reviewer",
            found.reviewers,
            [str(one.key) for one in found.reviewers],
        ),
        models=rate_table(
            "How often each version of the model was overridden.",
            "Weights",
            found.models,
            [str(one.key)[:12] or "not known" for one in found.models],
        ),
        reasons=rate_table(
            "Why answers were overridden.",
            "Reason",
            found.reasons,
            [REASONS_IN_WORDS[Reason(str(one.key))] for one in found.reasons],
        ),
        times=times_table(*found.times),
        pairs=pairs_table(found.pairs),
    )


@router.get("/insight/classes.svg")
def classes_chart(console: ConsoleOf, person: Reader) -> Response:
    """Draw the override rate of each class."""
    rates = figures_of(console.store).classes
    names = [class_name(_number(one), console.subject.class_names) for one in rates]
    return svg_response(rates_figure(rates, names, "Share overridden, with 95 % interval"))


@router.get("/insight/weeks.svg")
def weeks_chart(console: ConsoleOf, person: Reader) -> Response:
    """Draw the override rate over the weeks."""
    weeks = figures_of(console.store).weeks
    return svg_response(weeks_figure(weeks, "Share overridden, with 95 % interval"))


@router.get("/insight/agreement.svg")
def agreement_chart(console: ConsoleOf, person: Reader) -> Response:
    """Draw how often reviewers agreed with the model before and after the reveal."""
    found = figures_of(console.store).agreement
    figure = rates_figure(
        [found.before, found.after],
        ["Before the reveal", "After it"],
        "Share that agrees with the model",
    )
    return svg_response(figure)


def key_figures(found: Figures) -> list[KeyFigure]:
    """Return the numbers at the head of the page, each with what it is."""
    beside = f"; {count(found.flags, 'flag')} outside of a decision" if found.flags else ""
    all_times = found.times[0]
    return [
        (f"{found.standing:,}", f"decisions, {found.deferred:,} of them deferred"),
        (share(found.overall), f"overridden, {interval(found.overall)}"),
        (
            share(found.misleading),
            f"explanations flagged as misleading, {interval(found.misleading)}{beside}",
        ),
        (duration(all_times[0].median) if all_times else NONE, "median time to a decision"),
        (f"{found.undone:,}", "decisions undone"),
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


def times_table(
    every: Sequence[Times], by_choice: Sequence[Times], by_reviewer: Sequence[Times]
) -> Table:
    """Return how long decisions took, over all and for each choice and reviewer."""
    groups = [("all", every), ("", by_choice), ("", by_reviewer)]
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


def pairs_table(pairs: Sequence[Pair]) -> Table:
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
            for one in pairs
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
