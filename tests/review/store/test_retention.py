"""Retention: what may go, what stays, and that the rest still verifies."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from fedlens.review.contract import (
    Choice,
    ConflictError,
    Decision,
    NotAllowedError,
    NotFoundError,
    ReviewError,
    State,
)
from fedlens.review.store import Store
from fedlens.review.store.anchors import kept_anchors
from fedlens.review.store.exports import jsonl, verify_export
from fedlens.review.store.retention import prune
from fedlens.review.store.trail import PREDICTED
from fedlens.review.store.verification import verify
from reviewing import ANNA, BEN, LEAD, PASSWORD, Clock, new_case

DAY = 86_400


def old(store: Store, clock: Clock) -> int:
    """Leave three cases, one decided, half a year behind; return the last record's number."""
    store.people.add("Anna", PASSWORD, ANNA.role, LEAD)
    token = store.people.add_token("program", BEN.role, LEAD)
    assert token
    store.queue.add([new_case(number) for number in range(3)], LEAD)
    for number, choice in ((1, Choice.ACCEPT), (2, Choice.DEFER)):
        store.queue.claim(ANNA, number)
        store.decisions.opened(ANNA, number)
        last = store.decisions.decide(ANNA, Decision(number, choice))
    clock.now += 184 * DAY
    return last.sequence


def test_nothing_younger_than_half_a_year_goes(store: Store, clock: Clock) -> None:
    last = old(store, clock)
    with pytest.raises(ReviewError, match="at least 183 days"):
        prune(store, LEAD, 182)
    with pytest.raises(NotAllowedError):
        prune(store, ANNA, 183)
    assert prune(store, LEAD, 185) is None
    assert store.trail.count() == last


def test_what_is_left_verifies_and_vouches_for_what_is_left(store: Store, clock: Clock) -> None:
    last = old(store, clock)
    store.queue.claim(BEN, 2)
    store.decisions.opened(BEN, 2)
    digest = store.trail.record(last).digest
    record = prune(store, LEAD)
    assert record is not None
    assert {**record.content, "seals": "", "before": ""} == {
        "first": 1,
        "last": last,
        "count": last,
        "digest": digest,
        "seals": "",
        "before": "",
    }
    verification = store.verify()
    assert verification.findings == ()
    assert (verification.first, verification.pruned) == (last + 1, last)
    assert f"{last} older ones pruned" in verification.sentence
    with pytest.raises(NotFoundError):
        store.trail.record(last)
    with pytest.raises(NotFoundError):
        store.queue.get(1)  # decided, and its decision is gone
    assert store.queue.get(2).assignee == "Ben"
    assert store.queue.get(3).state is State.OPEN
    assert store.people.check_password("Anna", PASSWORD) is not None
    assert [one.name for one in store.people.tokens()] == ["program"]
    assert store.queue.add([new_case(9)], LEAD) == [4]  # numbers are not used again
    store.decisions.opened(BEN, 2)
    store.decisions.decide(BEN, Decision(2, Choice.ACCEPT))
    assert store.verify().valid
    assert verify_export(jsonl(store, LEAD), store.key.public).valid


def test_an_answer_of_the_api_that_was_deferred_since_stays(store: Store, clock: Clock) -> None:
    answered = [
        store.queue.answer(
            new_case(number, source="api", queued=False), ANNA, PREDICTED, {"logits": [0.5]}
        )
        for number in (50, 51)
    ]
    clock.now += 184 * DAY
    store.decisions.decide(ANNA, Decision(answered[0], Choice.DEFER))
    assert prune(store, LEAD) is not None
    assert store.verify().findings == ()
    assert store.queue.get(answered[0]).state is State.DEFERRED
    with pytest.raises(NotFoundError):
        store.queue.get(answered[1])
    clock.now += 184 * DAY
    assert prune(store, LEAD) is not None
    assert store.verify().findings == ()


def test_a_case_that_was_recorded_anew_and_then_goes(store: Store, clock: Clock) -> None:
    """What brought it anew at the first pruning stays at the second, which takes its decision."""
    store.queue.add([new_case(number) for number in range(3)], LEAD)
    clock.now += 184 * DAY
    store.queue.claim(ANNA, 1)
    store.decisions.opened(ANNA, 1)
    store.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    clock.now += 100 * DAY
    assert prune(store, LEAD) is not None
    clock.now += 100 * DAY
    assert prune(store, LEAD) is not None
    with pytest.raises(NotFoundError):
        store.queue.get(1)
    assert store.verify().findings == ()
    assert verify_export(jsonl(store, LEAD), store.key.public).findings == ()
    with store.database._writing.begin() as connection:  # what was not pruned is missed
        connection.execute(text("DELETE FROM cases WHERE number = 2"))
    assert {one.problem for one in store.verify().findings} == {"cases"}


def test_pruning_twice_and_the_anchors_of_before(
    opening: Callable[[], Store], clock: Clock
) -> None:
    store = opening()
    old(store, clock)
    store.close()
    store = opening()
    prune(store, LEAD)
    store.queue.claim(BEN, 3)
    store.decisions.opened(BEN, 3)
    store.decisions.decide(BEN, Decision(3, Choice.ACCEPT))
    store.close()
    clock.now += 200 * DAY
    store = opening()
    record = prune(store, LEAD)
    assert record is not None
    verification = store.verify()
    assert verification.findings == ()
    assert verification.anchors == 2
    assert store.queue.count() == 1
    assert verify_export(jsonl(store, LEAD), store.key.public).valid
    assert prune(store, LEAD) is None


def test_what_was_tampered_with_is_not_pruned_away(store: Store, clock: Clock) -> None:
    last = old(store, clock)
    with store.database._writing.begin() as connection:
        connection.execute(text("UPDATE records SET actor = 'Mallory' WHERE sequence = 2"))
    with pytest.raises(ConflictError, match="Record 2 was altered"):
        prune(store, LEAD)
    assert store.trail.count() == last


def test_a_stopped_model_stays_stopped(store: Store, clock: Clock) -> None:
    old(store, clock)
    store.switch.stop(LEAD, "a test")
    clock.now += 200 * DAY
    store.queue.add([new_case(10)], LEAD)
    assert prune(store, LEAD) is not None
    assert store.switch.state() is not None
    assert store.verify().valid


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM records WHERE sequence <= (SELECT min(sequence) FROM records)",
        'UPDATE records SET content = replace(content, \'"digest":"\', \'"digest":"0\') '
        "WHERE kind = 'pruned'",
        "DELETE FROM records WHERE kind = 'pruned'",
    ],
)
def test_more_than_was_pruned_is_missed(store: Store, clock: Clock, statement: str) -> None:
    old(store, clock)
    store.switch.stop(LEAD, "a test")
    prune(store, LEAD)
    store.switch.resume(LEAD, "a test")
    with store.database._writing.begin() as connection:
        connection.execute(text(statement))
    assert not verify(store.database, store.key.public, kept_anchors(store.key)).valid
