"""Decisions: what is recorded, what is refused, and what undoing does."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from fedlens.review.contract import (
    Actor,
    Choice,
    ConflictError,
    Decision,
    NotAllowedError,
    NotFoundError,
    Reason,
    Record,
    ReviewError,
    Role,
    State,
)
from fedlens.review.store import Store
from fedlens.review.store.exports import jsonl
from fedlens.review.store.retention import prune
from fedlens.review.store.tables import DECISIONS
from fedlens.review.store.trail import PREDICTED
from reviewing import ANNA, AUDITOR, BEN, LEAD, PASSWORD, START, Clock, new_case


@pytest.fixture
def two(store: Store) -> Store:
    store.queue.add([new_case(1), new_case(2)], LEAD)
    store.queue.claim(ANNA, 1)
    return store


@pytest.fixture
def opened(two: Store) -> Store:
    two.decisions.opened(ANNA, 1)
    return two


def table(store: Store) -> list[dict[str, Any]]:
    with store.database.read() as connection:
        query = select(DECISIONS).order_by(DECISIONS.c.sequence)
        return [dict(row._mapping) for row in connection.execute(query)]


def test_a_worked_example(two: Store, clock: Clock) -> None:
    decisions = two.decisions
    decisions.opened(ANNA, 1)
    clock.now += 10
    decisions.label_blind(ANNA, 1, 4)
    clock.now += 5
    decisions.reveal(ANNA, 1, {"maps": [{"method": "grad-cam"}], "opacity": 0.0})
    clock.now += 5
    decisions.reveal(ANNA, 1, {"maps": [{"method": "grad-cam"}], "opacity": 0.5})
    clock.now += 15.25
    evidence = {"identity": {"weights": "e" * 64}, "logits": [0.5, -1.0]}
    record = decisions.decide(
        ANNA,
        Decision(
            1,
            Choice.OVERRIDE,
            4,
            Reason.CONFUSABLE,
            "a sleeve",
            True,
            displayed={"revealed": True},
            evidence=evidence,
        ),
    )
    assert record.content == {
        "choice": "override",
        "label": 4,
        "reason": "confusable-classes",
        "text": "a sleeve",
        "misleading": True,
        "predicted": 1,
        "confidence": 0.55,
        "image": f"{1:064x}",
        "source": "test/1",
        "opened": "2026-11-18T11:06:40.000000Z",
        "revealed": "2026-11-18T11:06:55.000000Z",
        "map_revealed": "2026-11-18T11:07:00.000000Z",
        "labelled_blind": True,
        "blind_label": 4,
        "seconds": 35.25,
        "displayed": {"revealed": True},
        "evidence": evidence,
    }
    assert table(two) == [
        {
            "sequence": record.sequence,
            "time": record.time,
            "case": 1,
            "reviewer": "Anna",
            "role": "reviewer",
            "predicted": 1,
            "label": 4,
            "choice": "override",
            "reason": "confusable-classes",
            "misleading": True,
            "blind_label": 4,
            "revealed": True,
            "seconds": 35.25,
            "model": "e" * 64,
            "undone_by": None,
        }
    ]
    case = two.queue.get(1)
    assert (case.state, case.assignee, case.label, case.decision, case.lease_until) == (
        State.DECIDED,
        "Anna",
        4,
        record.sequence,
        None,
    )
    kinds = [one.kind for one in decisions.history(1)]
    assert kinds == ["opened", "labelled-blind", "revealed", "revealed", "decided"]
    assert decisions.recent(ANNA) == [record]
    assert two.trail.record(record.sequence) == record
    assert START == 1_795_000_000.0  # which the times above were worked out from


def test_an_accepted_case_has_the_predicted_label(opened: Store) -> None:
    two = opened
    record = two.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    assert record.content["label"] == 1
    assert record.content["seconds"] == 0.0
    assert two.queue.get(1).label == 1


def test_of_none_of_the_classes(opened: Store) -> None:
    two = opened
    decision = Decision(1, Choice.OVERRIDE, None, Reason.NOT_OF_ANY_CLASS)
    two.decisions.decide(ANNA, decision)
    case = two.queue.get(1)
    assert (case.state, case.label) == (State.DECIDED, None)
    assert two.verify().valid


def test_a_pause_counts_for_half_an_hour_at_most(two: Store, clock: Clock) -> None:
    two.decisions.opened(ANNA, 1)
    clock.now += 100_000
    two.queue.claim(ANNA, 1)
    two.decisions.opened(ANNA, 1)
    clock.now += 7
    record = two.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    assert record.content["seconds"] == 1807.0


def test_time_on_task_goes_on_after_an_undo(two: Store, clock: Clock) -> None:
    decisions = two.decisions

    def decided(actor: Actor, seconds: float, choice: Choice = Choice.ACCEPT) -> Record:
        decisions.opened(actor, 1)
        clock.now += seconds
        return decisions.decide(actor, Decision(1, choice))

    first = decided(ANNA, 60)
    clock.now += 300  # at another case
    decisions.undo(ANNA, first.sequence, "a slip")
    second = decided(ANNA, 8)
    assert (first.content["seconds"], second.content["seconds"]) == (60.0, 68.0)
    clock.now += 300
    decisions.undo(LEAD, second.sequence, "look again")
    third = decided(ANNA, 5, Choice.DEFER)
    assert third.content["seconds"] == 73.0
    decisions.reveal(BEN, 1, {})  # who looks is not at work yet
    clock.now += 100
    two.queue.claim(BEN, 1)
    fourth = decided(BEN, 4)
    assert fourth.content["seconds"] == 4.0
    decisions.undo(BEN, fourth.sequence, "")
    two.queue.release(BEN, 1)
    two.queue.claim(ANNA, 1)
    assert decided(ANNA, 2).content["seconds"] == 2.0  # what she deferred stands, with its own time
    assert two.verify().valid


def test_a_label_is_blind_only_before_the_reveal(two: Store) -> None:
    with pytest.raises(ReviewError, match="no class 10"):
        two.decisions.label_blind(ANNA, 1, 10)
    two.decisions.label_blind(ANNA, 1, None)
    with pytest.raises(ConflictError, match="already"):
        two.decisions.label_blind(ANNA, 1, 3)
    two.decisions.opened(ANNA, 1)
    two.decisions.reveal(ANNA, 1, {})
    record = two.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    two.decisions.undo(ANNA, record.sequence, "")
    with pytest.raises(ConflictError, match="shown to you"):
        two.decisions.label_blind(ANNA, 1, 3)
    work = two.decisions.work(ANNA, 1)
    assert work.labelled
    assert work.blind is None
    assert two.decisions.label_blind(BEN, 1, 3).content == {"label": 3}  # not shown to Ben


def test_who_may_know_the_answer_says_nothing_blind(two: Store, clock: Clock) -> None:
    decisions, same = two.decisions, replace(new_case(2), source="api", queued=False)
    assert decisions.unseen(ANNA, [1, 2, 99]) == {1, 2}
    api = two.queue.answer(same, ANNA, PREDICTED, {})
    assert decisions.unseen(ANNA, [1, 2, api]) == {1}  # the image of case 2 was answered
    assert decisions.unseen(BEN, [1, 2]) == {1, 2}
    with pytest.raises(ConflictError, match="told otherwise"):
        decisions.label_blind(ANNA, 2, 3)
    decisions.reveal(ANNA, 1, {})
    assert decisions.unseen(ANNA, [1]) == set()
    assert decisions.unseen(BEN, [1, 2]) == {1, 2}
    list(jsonl(two, BEN))
    assert decisions.unseen(BEN, [1, 2]) == set()
    with pytest.raises(ConflictError, match="told otherwise"):
        decisions.label_blind(BEN, 1, 3)
    clock.now += 1
    two.queue.add([new_case(5)], LEAD)
    (later,) = [one.number for one in two.queue.page() if one.source == "test/5"]
    assert decisions.unseen(BEN, [1, 2, later]) == {later}
    clock.now += 200 * 86_400
    list(jsonl(two, LEAD))
    clock.now += 1
    assert prune(two, LEAD) is not None  # and the cases that stay are recorded anew
    assert decisions.unseen(LEAD, [1, later]) == set()


@pytest.mark.parametrize("then", [Role.REVIEWER, Role.LEAD])
def test_who_was_an_auditor_knows_what_came_in_until_then(
    two: Store, clock: Clock, then: Role
) -> None:
    two.people.add("Anna", PASSWORD, Role.REVIEWER, LEAD)
    two.people.add("Otto", PASSWORD, Role.AUDITOR, LEAD)
    otto = Actor("Otto", then)
    clock.now += 1
    two.people.change("Otto", LEAD, role=then)
    clock.now += 1
    (later,) = two.queue.add([new_case(5)], LEAD)
    two.people.change("Otto", LEAD, password=PASSWORD + "!")
    assert two.decisions.unseen(otto, [1, 2, later]) == {later}
    assert two.decisions.unseen(ANNA, [1, 2, later]) == {1, 2, later}
    with pytest.raises(ConflictError, match="told otherwise"):
        two.decisions.label_blind(otto, 1, 3)


def test_what_came_in_before_a_pruning_is_blind_to_nobody(two: Store, clock: Clock) -> None:
    two.decisions.reveal(ANNA, 2, {})
    list(jsonl(two, BEN))
    clock.now += 184 * 86_400
    (later,) = two.queue.add([new_case(5)], LEAD)
    assert two.decisions.unseen(LEAD, [1, 2, later]) == {1, 2, later}
    clock.now += 1
    assert prune(two, LEAD) is not None  # and what Anna and Ben saw is on record no more
    for actor in (ANNA, BEN, LEAD):
        assert two.decisions.unseen(actor, [1, 2, later]) == {later}
    assert two.verify().valid


@pytest.mark.parametrize("source", ["api", "test/9"])
def test_what_is_known_of_an_image_is_known_of_all_its_cases(two: Store, source: str) -> None:
    same = replace(new_case(2), source=source, queued=source != "api")
    other = two.queue.answer(same, LEAD, PREDICTED, {}) if source == "api" else None
    if other is None:
        (other,) = two.queue.add([same], LEAD)
    assert 2 in two.decisions.unseen(ANNA, [1, 2, other])
    two.decisions.reveal(ANNA, other, {})
    assert two.decisions.unseen(ANNA, [1, 2, other]) == {1}
    assert 2 in two.decisions.unseen(BEN, [1, 2])
    with pytest.raises(ConflictError, match="told otherwise"):
        two.decisions.label_blind(ANNA, 2, 3)


def test_the_record_of_ones_own_decision_tells_the_answer(two: Store) -> None:
    same = replace(new_case(2), source="api", queued=False)
    api = two.queue.answer(same, LEAD, PREDICTED, {})
    two.decisions.decide(ANNA, Decision(api, Choice.DEFER))
    assert two.decisions.unseen(ANNA, [1, 2]) == {1}


@pytest.mark.parametrize(
    "decision",
    [
        Decision(1, Choice.OVERRIDE, 4),
        Decision(1, Choice.OVERRIDE, 1, Reason.WRONG_CLASS),
        Decision(1, Choice.OVERRIDE, 10, Reason.WRONG_CLASS),
        Decision(1, Choice.ACCEPT, 4),
        Decision(1, Choice.OVERRIDE, 4, Reason.OTHER),
        Decision(1, Choice.ACCEPT, text="x" * 2001),
        Decision(1, Choice.ACCEPT, evidence={"logits": [float("nan")]}),
        Decision(1, Choice.ACCEPT, evidence={"image": b"png"}),
        Decision(1, Choice.ACCEPT, evidence={"map": [[0.5] * 28] * 28}),
        Decision(1, Choice.ACCEPT, evidence={"map": [[[0] * 28] * 28]}),
        Decision(1, Choice.ACCEPT, evidence={"map": "x" * 200_000}),
        Decision(1, Choice.ACCEPT, text="\ud800"),
    ],
)
def test_a_refused_decision_leaves_nothing(opened: Store, decision: Decision) -> None:
    two = opened
    before = two.trail.count()
    with pytest.raises(ReviewError):
        two.decisions.decide(ANNA, decision)
    assert two.trail.count() == before
    assert table(two) == []
    assert two.queue.get(1).state is State.ASSIGNED


def test_whose_case_it_is(two: Store, clock: Clock) -> None:
    accept = Decision(1, Choice.ACCEPT)
    with pytest.raises(NotAllowedError):
        two.decisions.decide(AUDITOR, accept)
    with pytest.raises(ConflictError, match="Anna is working"):
        two.decisions.decide(BEN, accept)
    with pytest.raises(NotAllowedError, match="take it first"):
        two.decisions.decide(BEN, Decision(2, Choice.ACCEPT))
    with pytest.raises(NotFoundError):
        two.decisions.decide(BEN, Decision(3, Choice.ACCEPT))
    with pytest.raises(ConflictError, match="Open case 1 before"):
        two.decisions.decide(ANNA, accept)
    two.decisions.opened(ANNA, 1)
    clock.now += 3600
    assert two.queue.get(1).state is State.OPEN  # the lease ran out, and nobody else came
    two.decisions.decide(ANNA, accept)
    with pytest.raises(ConflictError, match="decided by Anna"):
        two.decisions.decide(BEN, accept)


def test_whose_case_it_is_comes_before_what_is_decided(opened: Store) -> None:
    """Only the override to the predicted class is refused: that would tell who may not know."""
    predicted = Decision(1, Choice.OVERRIDE, 1, Reason.WRONG_CLASS)
    with pytest.raises(ConflictError, match="Anna is working"):
        opened.decisions.decide(BEN, predicted)
    with pytest.raises(NotAllowedError, match="take it first"):
        opened.decisions.decide(BEN, replace(predicted, case=2, label=2))
    opened.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    with pytest.raises(ConflictError, match="decided by Anna"):
        opened.decisions.decide(BEN, predicted)


def test_a_case_of_the_api_is_anyones_to_decide(store: Store) -> None:
    new = replace(new_case(1), source="api", queued=False)
    number = store.queue.answer(new, LEAD, PREDICTED, {})
    record = store.decisions.decide(BEN, Decision(number, Choice.ACCEPT))
    with pytest.raises(ConflictError):
        store.decisions.decide(ANNA, Decision(number, Choice.ACCEPT))
    store.decisions.undo(BEN, record.sequence, "")
    store.decisions.decide(ANNA, Decision(number, Choice.ACCEPT))
    assert store.verify().valid


def test_undoing_is_a_record_and_gives_the_case_back(opened: Store) -> None:
    two = opened
    decided = two.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    with pytest.raises(NotAllowedError, match="Anna's to undo"):
        two.decisions.undo(BEN, decided.sequence, "no")
    undone = two.decisions.undo(ANNA, decided.sequence, "a slip")
    assert undone.content == {
        "record": decided.sequence,
        "why": "a slip",
        "choice": "accept",
        "label": 1,
    }
    case = two.queue.get(1)
    assert (case.state, case.assignee, case.label, case.decision) == (
        State.ASSIGNED,
        "Anna",
        None,
        None,
    )
    assert table(two)[0]["undone_by"] == undone.sequence
    assert two.trail.record(decided.sequence) == decided  # what was decided is still there
    with pytest.raises(ConflictError, match="undone already"):
        two.decisions.undo(ANNA, decided.sequence, "")
    with pytest.raises(NotFoundError):
        two.decisions.undo(ANNA, undone.sequence, "")
    with pytest.raises(ConflictError, match="Open case 1 before"):
        two.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    two.decisions.opened(ANNA, 1)
    again = two.decisions.decide(ANNA, Decision(1, Choice.OVERRIDE, 2, Reason.WRONG_CLASS))
    two.decisions.undo(LEAD, again.sequence, "a lead may")
    assert two.queue.get(1).assignee == "Anna"
    assert two.decisions.recent(ANNA) == []
    assert two.verify().valid


def test_what_came_after_stands_in_the_way_of_undoing(opened: Store) -> None:
    two = opened
    deferred = two.decisions.decide(ANNA, Decision(1, Choice.DEFER))
    two.queue.claim(BEN, 1)
    with pytest.raises(ConflictError, match="gone on"):
        two.decisions.undo(ANNA, deferred.sequence, "")
    two.decisions.opened(BEN, 1)
    accepted = two.decisions.decide(BEN, Decision(1, Choice.ACCEPT))
    with pytest.raises(ConflictError, match="gone on"):
        two.decisions.undo(ANNA, deferred.sequence, "")
    two.decisions.undo(BEN, accepted.sequence, "")
    two.queue.release(BEN, 1)
    assert two.queue.get(1).state is State.DEFERRED
    two.decisions.undo(ANNA, deferred.sequence, "")
    two.queue.release(ANNA, 1)
    assert two.queue.get(1).state is State.OPEN
    assert two.verify().valid


def test_a_flag_outside_a_decision(two: Store) -> None:
    shown = {"maps": [{"method": "grad-cam", "map": "0" * 64}], "contrast": None}
    record = two.decisions.flag(BEN, 1, "it points at the background", shown)
    assert (record.kind, record.case) == ("flagged", 1)
    assert record.content == {"text": "it points at the background", "displayed": shown}
    with pytest.raises(NotAllowedError):
        two.decisions.flag(AUDITOR, 1, "no", shown)
    with pytest.raises(ReviewError, match="characters"):
        two.decisions.flag(BEN, 1, "x" * 2001, shown)
    with pytest.raises(ReviewError, match="Say how"):
        two.decisions.flag(BEN, 1, " ", shown)
    with pytest.raises(ReviewError, match="one that is shown"):
        two.decisions.flag(BEN, 1, "which one?", {"maps": []})
    assert two.trail.count(kind="flagged") == 1
    with pytest.raises(NotFoundError):
        two.decisions.opened(BEN, 3)


def test_of_many_who_decide_at_once_one_does(opening: Callable[[], Store]) -> None:
    consoles = [opening(), opening()]
    consoles[0].queue.add([new_case(1)], LEAD)
    consoles[0].queue.claim(ANNA, 1)
    consoles[0].decisions.opened(ANNA, 1)

    def work(k: int) -> Record | None:
        try:
            return consoles[k % 2].decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        records = [record for record in pool.map(work, range(16)) if record is not None]
    assert len(records) == 1
    assert consoles[0].trail.count(kind="decided") == 1
    assert consoles[0].verify().valid
