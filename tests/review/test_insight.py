"""Insight, against examples worked by hand, scipy's interval and scikit-learn's kappa."""

import math
from datetime import UTC, date, datetime

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from fedlens.review.contract import Choice, Reason
from fedlens.review.insight import (
    NO_CLASS,
    Decided,
    agreement,
    misleading,
    override_rates,
    pairs,
    rate,
    reasons,
    times,
    weekly,
)

MONDAY = datetime(2026, 11, 23, 0, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0


def decided(
    sequence: int,
    choice: Choice = Choice.ACCEPT,
    *,
    time: float = MONDAY,
    case: int | None = None,
    reviewer: str = "ann",
    predicted: int = 0,
    label: int | None = None,
    reason: Reason | None = None,
    misleading: bool = False,
    blind: int | None = None,
    seconds: float | None = None,
    undone: bool = False,
) -> Decided:
    return Decided(
        sequence=sequence,
        time=time,
        case=sequence if case is None else case,
        reviewer=reviewer,
        predicted=predicted,
        choice=choice,
        label=label,
        reason=reason,
        misleading=misleading,
        blind_label=blind,
        seconds=seconds,
        undone=undone,
    )


@pytest.mark.parametrize(("count", "of"), [(0, 7), (1, 7), (7, 7), (3, 10), (80, 1000), (1, 1)])
def test_the_interval_is_wilsons(count: int, of: int):
    expected = binomtest(count, of).proportion_ci(0.95, method="wilson")
    found = rate("all", count, of)
    assert found.share == count / of
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_a_share_of_nothing_is_unknown_and_its_interval_everything():
    found = rate("all", 0, 0)
    assert math.isnan(found.share)
    assert (found.low, found.high) == (0.0, 1.0)


def test_override_rates_leave_out_what_was_deferred_or_undone():
    rows = [
        decided(1, predicted=2),
        decided(2, Choice.OVERRIDE, predicted=2, label=0),
        decided(3, Choice.OVERRIDE, predicted=2, label=0, undone=True),
        decided(4, Choice.DEFER, predicted=2),
        decided(5, predicted=10),
        decided(6, predicted=10, reviewer="bob"),
    ]
    by_class = override_rates(rows, lambda one: one.predicted)
    assert [(one.key, one.count, one.of) for one in by_class] == [(2, 1, 2), (10, 0, 2)]
    by_reviewer = override_rates(rows, lambda one: one.reviewer)
    assert [(one.key, one.count, one.of) for one in by_reviewer] == [("ann", 1, 3), ("bob", 0, 1)]
    assert override_rates([]) == []


def test_weeks_begin_on_monday_in_utc_and_none_is_left_out():
    rows = [
        decided(1, time=MONDAY - 1),  # Sunday, a second before
        decided(2, Choice.OVERRIDE, label=1, time=MONDAY),
        decided(3, time=MONDAY + 7 * DAY - 1),
        decided(4, time=MONDAY + 21 * DAY),
    ]
    found = weekly(rows)
    assert [(one.key, one.count, one.of) for one in found] == [
        (date(2026, 11, 16), 0, 1),
        (date(2026, 11, 23), 1, 2),
        (date(2026, 11, 30), 0, 0),
        (date(2026, 12, 7), 0, 0),
        (date(2026, 12, 14), 0, 1),
    ]
    assert weekly([]) == []


def test_agreement_before_and_after_the_reveal():
    rows = [
        decided(1, predicted=1, blind=1),  # agreed, stayed
        decided(2, predicted=1, blind=0),  # disagreed, was drawn to the model
        decided(3, Choice.OVERRIDE, predicted=1, blind=0, label=0),  # disagreed, stayed
        decided(4, Choice.OVERRIDE, predicted=1, blind=1, label=2),  # agreed, went away
        decided(5, Choice.OVERRIDE, predicted=1, blind=NO_CLASS, reason=Reason.NOT_OF_ANY_CLASS),
        decided(6, predicted=1),  # without a label of their own
        decided(7, Choice.DEFER, predicted=1, blind=0),
        decided(8, predicted=1, blind=0, undone=True),
    ]
    found = agreement(rows)
    assert (found.before.count, found.before.of) == (2, 5)
    assert (found.after.count, found.after.of) == (2, 5)
    assert (found.towards, found.away) == (1, 1)


def test_quartiles_are_numpys():
    seconds = [3.0, 9.5, 4.0, 30.0, 12.0, 7.0]
    rows = [decided(place, seconds=value) for place, value in enumerate(seconds)]
    rows += [decided(10, reviewer="bob", seconds=5.0), decided(11, reviewer="eve")]
    first, second = times(rows, lambda one: one.reviewer)
    assert (first.key, first.count) == ("ann", 6)
    expected = np.percentile(seconds, [25, 50, 75])
    assert [first.lower, first.median, first.upper] == pytest.approx(expected)
    assert (second.count, second.lower, second.median, second.upper) == (1, 5.0, 5.0, 5.0)


def test_reasons_are_shares_of_the_overrides():
    rows = [
        decided(1, Choice.OVERRIDE, label=1, reason=Reason.CONFUSABLE, misleading=True),
        decided(2, Choice.OVERRIDE, label=1, reason=Reason.WRONG_CLASS),
        decided(3, Choice.OVERRIDE, label=1, reason=Reason.CONFUSABLE),
        decided(4, Choice.DEFER, misleading=True),
        decided(5),
        decided(6, Choice.OVERRIDE, label=1, reason=Reason.OTHER, misleading=True, undone=True),
    ]
    found = [(one.key, one.count, one.of) for one in reasons(rows)]
    assert found == [(Reason.CONFUSABLE, 2, 3), (Reason.WRONG_CLASS, 1, 3)]
    assert (misleading(rows).count, misleading(rows).of) == (2, 5)
    beside = misleading(rows, {1, 5, 99})  # 1 was flagged with its decision as well
    assert (beside.count, beside.of) == (3, 5)


def test_two_reviewers_are_compared_on_the_cases_that_both_labelled():
    ann = [0, 1, 1, 2, 0, 2, 1]
    bob = [0, 1, 2, 2, 0, 0, 1]
    rows = [
        decided(case, Choice.DEFER, case=case, blind=label) for case, label in enumerate(ann)
    ] + [
        decided(
            20 + case,
            Choice.ACCEPT if label == 0 else Choice.OVERRIDE,
            case=case,
            reviewer="bob",
            label=label or None,
        )
        for case, label in enumerate(bob)
    ]
    rows.append(decided(50, case=99, reviewer="bob"))  # a case that ann never saw
    rows.append(decided(51, Choice.DEFER, case=50))  # said nothing
    (found,) = pairs(rows)
    assert (found.first, found.second) == ("ann", "bob")
    assert (found.agreed.count, found.agreed.of) == (5, 7)
    assert found.kappa == pytest.approx(cohen_kappa_score(ann, bob))


def test_the_last_word_on_a_case_counts_even_where_it_was_undone():
    rows = [
        decided(3, Choice.OVERRIDE, case=1, label=2, undone=True),
        decided(1, Choice.DEFER, case=1, blind=0),
        decided(4, Choice.OVERRIDE, case=1, reviewer="bob", reason=Reason.NOT_OF_ANY_CLASS),
    ]
    (found,) = pairs(rows)
    assert (found.agreed.count, found.agreed.of) == (0, 1)
    assert found.kappa == 0.0  # each has one label, and they differ
    same = [decided(1, case=1, reviewer=name, predicted=3) for name in ("ann", "bob")]
    assert math.isnan(pairs(same)[0].kappa)
