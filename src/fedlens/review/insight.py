"""What the decisions say of the model, of the reviewers and of the console: plain counts and shares.

All functions work on the list of decisions that :func:`fedlens.review.store` projects from the trail,
and leave out what was undone unless they say otherwise. A share always comes with its counts and a
95 % interval, since most of them rest on few decisions.
"""

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from statistics import quantiles

from fedlens.review.contract import Choice, Reason

NO_CLASS = -1
"""The label of a case that is of none of the classes."""

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Decided:
    """One decision, as the pages of insight need it.

    Attributes:
        sequence: number of its record.
        time: seconds since 1970 (UTC).
        case: number of the case.
        reviewer: who decided.
        predicted: class number that the model predicted.
        choice: see :class:`Choice`.
        label: class number that the reviewer settled on, None for "of none of the classes".
        reason: of an override.
        misleading: the explanation was flagged.
        blind_label: class number that the reviewer gave before the reveal, :data:`NO_CLASS` for
            "none of them", None where no label was given.
        seconds: from opening to deciding, or None where that is not known.
        model: digest of the weights that predicted.
        undone: the decision was taken back.
    """

    sequence: int
    time: float
    case: int
    reviewer: str
    predicted: int
    choice: Choice
    label: int | None = None
    reason: Reason | None = None
    misleading: bool = False
    blind_label: int | None = None
    seconds: float | None = None
    model: str = ""
    undone: bool = False

    @property
    def settled(self) -> int | None:
        """Return the class that the decision settles on, NO_CLASS, or None where it was deferred."""
        if self.choice is Choice.DEFER:
            return None
        if self.choice is Choice.ACCEPT:
            return self.predicted
        return NO_CLASS if self.label is None else self.label


@dataclass(frozen=True)
class Rate:
    """A share of ``count`` in ``of``.

    Attributes:
        key: what it is a share within, for instance a class number.
        count, of: the two counts; ``of`` may be 0.
        low, high: Wilson's 95 % interval, in [0, 1]; 0 and 1 where ``of`` is 0.
    """

    key: Hashable
    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Return the share in [0, 1]; NaN where it is of nothing."""
        return self.count / self.of if self.of else math.nan


@dataclass(frozen=True)
class Agreement:
    """How often reviewers agreed with the model before and after they saw what it said.

    Attributes:
        before: their label before the reveal was the model's.
        after: what they settled on was the model's.
        towards: they had said something else and then settled on the model's class.
        away: they had said the same and then settled on something else.
    """

    before: Rate
    after: Rate
    towards: int
    away: int


@dataclass(frozen=True)
class Times:
    """Seconds from opening a case to deciding it: how many, quartiles, and the median."""

    key: Hashable
    count: int
    lower: float
    median: float
    upper: float


@dataclass(frozen=True)
class Pair:
    """How far two reviewers agree on the cases that both gave a label to.

    Attributes:
        first, second: their names, in alphabetical order.
        agreed: Rate over those cases.
        kappa: Cohen's, in [-1, 1]: agreement beyond what their habits give by chance; NaN where
            both gave one and the same label only.
    """

    first: str
    second: str
    agreed: Rate
    kappa: float


def rate(key: Hashable, count: int, of: int) -> Rate:
    """Return the share of ``count`` in ``of`` with Wilson's interval (1927), 0 <= count <= of.

    With p = count / of and z = 1.96 its ends are
    (p + z²/2n ± z √(p (1 - p) / n + z²/4n²)) / (1 + z²/n).
    """
    if of == 0:
        return Rate(key, 0, 0, 0.0, 1.0)
    p, square = count / of, _Z * _Z / of
    half = _Z * math.sqrt(p * (1 - p) / of + square / (4 * of))
    low, high = ((p + square / 2 + sign * half) / (1 + square) for sign in (-1, 1))
    return Rate(key, count, of, 0.0 if count == 0 else low, 1.0 if count == of else high)


def override_rates(
    decisions: Iterable[Decided], by: Callable[[Decided], Hashable] = lambda _: "all"
) -> list[Rate]:
    """Return of each group how many of its accepted or overridden cases were overridden.

    Deferred and undone decisions do not count. Groups are in order of their key.

    Args:
        decisions: in any order.
        by: what groups a decision, e.g. ``lambda one: one.predicted``.
    """
    groups: dict[Hashable, list[int]] = {}
    for one in _standing(decisions):
        if one.choice is not Choice.DEFER:
            counts = groups.setdefault(by(one), [0, 0])
            counts[0] += one.choice is Choice.OVERRIDE
            counts[1] += 1
    return [rate(key, *groups[key]) for key in sorted(groups, key=_order)]


def weekly(decisions: Iterable[Decided]) -> list[Rate]:
    """Return :func:`override_rates` of each week, from the first to the last, without a gap.

    The key is the week's Monday (:class:`datetime.date`, UTC); a week without a decision is 0 of 0.
    """
    found = {one.key: one for one in override_rates(decisions, lambda one: _monday(one.time))}
    if not found:
        return []
    days = [key for key in found if isinstance(key, date)]
    first, last = min(days), max(days)
    weeks = (last - first).days // 7 + 1
    mondays = [first + timedelta(weeks=week) for week in range(weeks)]
    return [found.get(monday, rate(monday, 0, 0)) for monday in mondays]


def agreement(decisions: Iterable[Decided]) -> Agreement:
    """Return how often reviewers agreed with the model before and after the reveal.

    It counts accepted and overridden cases that were labelled before the reveal.
    """
    rows = [
        (one.blind_label == one.predicted, one.settled == one.predicted)
        for one in _standing(decisions)
        if one.blind_label is not None and one.choice is not Choice.DEFER
    ]
    return Agreement(
        before=rate("before", sum(before for before, _ in rows), len(rows)),
        after=rate("after", sum(after for _, after in rows), len(rows)),
        towards=sum(after and not before for before, after in rows),
        away=sum(before and not after for before, after in rows),
    )


def times(
    decisions: Iterable[Decided], by: Callable[[Decided], Hashable] = lambda _: "all"
) -> list[Times]:
    """Return of each group the quartiles of the seconds to a decision (linear interpolation)."""
    groups: dict[Hashable, list[float]] = {}
    for one in _standing(decisions):
        if one.seconds is not None:
            groups.setdefault(by(one), []).append(one.seconds)
    return [_quartiles(key, groups[key]) for key in sorted(groups, key=_order)]


def reasons(decisions: Iterable[Decided]) -> list[Rate]:
    """Return of each reason how many of the overrides gave it, the most frequent first."""
    given = [one.reason for one in _standing(decisions) if one.choice is Choice.OVERRIDE]
    found = [rate(reason, given.count(reason), len(given)) for reason in Reason if reason in given]
    return sorted(found, key=lambda one: -one.count)


def misleading(decisions: Iterable[Decided], flagged: Collection[int] = ()) -> Rate:
    """Return of how many decisions, deferred ones too, the explanation was flagged as misleading.

    Args:
        decisions: in any order.
        flagged: cases whose explanation was flagged outside of a decision, by anybody.
    """
    flags = [one.misleading or one.case in flagged for one in _standing(decisions)]
    return rate("misleading", sum(flags), len(flags))


def pairs(decisions: Iterable[Decided]) -> list[Pair]:
    """Return how far each two reviewers agree on the cases that both gave a label to.

    A case is decided by one person, so that a second label comes from a case that was deferred or
    undone: there, what counts is each reviewer's last word on the case, decided, or said before the
    reveal where they deferred it. What was undone counts too: it was said.
    """
    said: dict[str, dict[int, int]] = {}
    for one in sorted(decisions, key=lambda one: one.sequence):
        label = one.blind_label if one.settled is None else one.settled
        if label is not None:
            said.setdefault(one.reviewer, {})[one.case] = label
    found = []
    for first, second in combinations(sorted(said), 2):
        both = sorted(said[first].keys() & said[second].keys())
        if both:
            labels = [(said[first][case], said[second][case]) for case in both]
            agreed = sum(a == b for a, b in labels)
            found.append(
                Pair(first, second, rate((first, second), agreed, len(both)), _kappa(labels))
            )
    return found


def _standing(decisions: Iterable[Decided]) -> Iterable[Decided]:
    return (one for one in decisions if not one.undone)


def _order(key: Hashable) -> tuple[bool, int | float | str]:
    """Numbers in their order, and anything else by its text."""
    return (False, key) if isinstance(key, (int, float)) else (True, str(key))


def _monday(time: float) -> date:
    day = datetime.fromtimestamp(time, UTC).date()
    return day - timedelta(days=day.weekday())


def _quartiles(key: Hashable, seconds: Sequence[float]) -> Times:
    if len(seconds) == 1:
        return Times(key, 1, seconds[0], seconds[0], seconds[0])
    lower, median, upper = quantiles(seconds, n=4, method="inclusive")
    return Times(key, len(seconds), lower, median, upper)


def _kappa(labels: Sequence[tuple[int, int]]) -> float:
    """Cohen (1960): (observed - chance) / (1 - chance)."""
    number = len(labels)
    observed = sum(a == b for a, b in labels) / number
    first, second = [a for a, _ in labels], [b for _, b in labels]
    chance = sum(first.count(one) * second.count(one) for one in set(first)) / number**2
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan
