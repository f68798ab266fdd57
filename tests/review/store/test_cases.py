"""The queue: order, leases, and that no case is ever two people's."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from fedlens.review.contract import (
    SOURCE_API,
    Actor,
    Choice,
    ConflictError,
    Decision,
    Filters,
    NewCase,
    NotAllowedError,
    NotFoundError,
    Progress,
    ReviewError,
    Role,
    State,
)
from fedlens.review.store import Store
from fedlens.review.store.answers import Answer
from fedlens.review.store.trail import CASES_ADDED, EXPLAINED, PREDICTED
from reviewing import ANNA, AUDITOR, BEN, LEAD, Clock, new_case

HALF_AN_HOUR = 30 * 60


def test_what_is_added_is_read_back(store: Store) -> None:
    news = [new_case(number) for number in range(450)]
    assert store.queue.add(news, LEAD) == list(range(1, 451))
    case = store.queue.get(7)
    assert (
        NewCase(**{name: getattr(case, name) for name in NewCase.__dataclass_fields__}) == news[6]
    )
    assert (case.state, case.assignee, case.decision, case.label) == (State.OPEN, None, None, None)
    assert case.confidence == 0.55
    assert store.trail.count(kind=CASES_ADDED) == 3  # 200 a record


def test_adding_again_adds_nothing(store: Store) -> None:
    first = store.queue.add([new_case(1), new_case(2), new_case(1)], LEAD)
    assert first == [1, 2, 1]
    records = store.trail.count()
    assert store.queue.add([new_case(2), new_case(1)], BEN) == [2, 1]
    assert store.trail.count() == records
    assert store.queue.add([replace(new_case(2), digest="f" * 64)], LEAD) == [3]  # changed image


def test_what_the_api_answered_is_a_case_of_its_own_each_time(store: Store) -> None:
    new = replace(new_case(1), source="api", queued=False)
    assert store.queue.answer(new, ANNA, PREDICTED, {"milliseconds": 3}) == 1
    assert store.queue.answer(new, ANNA, PREDICTED, {}) == 2
    assert store.queue.count() == 0
    assert store.queue.claim_next(ANNA) is None
    record = store.trail.record(1)
    assert (record.kind, record.case, record.content["milliseconds"]) == (PREDICTED, 1, 3)
    assert record.content["cases"][0]["image"] == new.digest
    assert store.verify().valid
    with pytest.raises(ReviewError, match="'api'"):
        store.queue.answer(new_case(1), ANNA, PREDICTED, {})


def test_answers_that_are_written_together_are_all_there_or_none(store: Store) -> None:
    def answer(number: int, **content: object) -> Answer:
        new = new_case(number, source=SOURCE_API, queued=False)
        return Answer(new, (ANNA, BEN)[number % 2], (PREDICTED, EXPLAINED)[number % 2], content)

    numbers = store.queue.answers_soon([answer(n, k=n) for n in range(5)]).result()
    assert numbers == [1, 2, 3, 4, 5]
    for place, record in enumerate(store.trail.page()[::-1]):
        assert record.case == numbers[place]
        assert record.kind == (PREDICTED, EXPLAINED)[place % 2]
        assert record.actor == (ANNA, BEN)[place % 2].name
        assert record.content["k"] == place
        assert record.content["cases"][0]["image"] == store.queue.get(numbers[place]).digest
    with pytest.raises(ReviewError, match="cannot be kept"):
        store.queue.answers_soon([answer(6), answer(7, x=float("nan"))]).result()
    with pytest.raises(ReviewError, match="not queued"):
        store.queue.answers_soon([answer(6), Answer(new_case(7), ANNA, PREDICTED, {})])
    assert store.trail.count() == 5
    assert store.queue.answers_soon([answer(8)]).result() == [6], "no number was used up"
    assert store.verify().valid


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "ABC"},
        {"source": ""},
        {"source": "a\nb"},
        {"source": "api"},
        {"predicted": 10},
        {"predicted": -1},
        {"need": float("nan")},
        {"need": 1.5},
        {"probabilities": (2.0,) * 10},
        {"signals": {"novelty": float("inf")}},
        {"signals": {"": 1.0}},
    ],
)
def test_what_cannot_be_a_case_is_refused(store: Store, changes: dict[str, Any]) -> None:
    with pytest.raises(ReviewError):
        store.queue.add([new_case(1, **changes)], LEAD)
    assert store.trail.count() == 0


@pytest.mark.parametrize("number", [0, -1, 5, 2**63, 10**30])
def test_a_case_that_is_not_there_is_not_found(store: Store, number: int) -> None:
    with pytest.raises(NotFoundError, match=str(number)):
        store.queue.get(number)
    with pytest.raises(NotFoundError):
        store.queue.claim(ANNA, number)


def test_the_neediest_comes_first_and_own_work_before_it(store: Store) -> None:
    needs = [0.2, 0.9, 0.5, 0.9]
    store.queue.add([new_case(k, need=need) for k, need in enumerate(needs)], LEAD)
    assert [case.number for case in store.queue.page()] == [2, 4, 3, 1]
    assert [case.number for case in store.queue.page(offset=1, limit=2)] == [4, 3]
    first = store.queue.claim_next(ANNA)
    assert first is not None
    assert first.number == 2
    assert store.queue.claim_next(ANNA) == first  # resumes
    second = store.queue.claim_next(BEN)
    assert second is not None
    assert second.number == 4
    assert (second.state, second.assignee) == (State.ASSIGNED, "Ben")


def test_what_others_deferred_comes_last_and_never_ones_own(store: Store) -> None:
    store.queue.add([new_case(k, need=0.9 - k / 10) for k in range(2)], LEAD)
    store.queue.claim(ANNA, 1)
    store.decisions.opened(ANNA, 1)
    store.decisions.decide(ANNA, Decision(1, Choice.DEFER))
    assert store.queue.get(1).state is State.DEFERRED
    for actor, number in ((ANNA, 2), (BEN, 1)):
        case = store.queue.claim_next(actor)
        assert case is not None
        assert case.number == number
    store.queue.release(BEN, 1)
    assert store.queue.get(1).state is State.DEFERRED
    store.decisions.opened(ANNA, 2)
    store.decisions.decide(ANNA, Decision(2, Choice.ACCEPT))
    assert store.queue.claim_next(ANNA) is None


def test_a_lease_runs_out_and_is_renewed(store: Store, clock: Clock) -> None:
    store.queue.add([new_case(1)], LEAD)
    case = store.queue.claim_next(ANNA)
    assert case is not None
    assert case.lease_until == clock.now + HALF_AN_HOUR
    with pytest.raises(ConflictError, match="Anna"):
        store.queue.claim(BEN, 1)
    clock.now += HALF_AN_HOUR - 1
    assert store.queue.touch(ANNA, 1)
    assert not store.queue.touch(BEN, 1)
    clock.now += HALF_AN_HOUR - 1
    assert store.queue.claim_next(BEN) is None
    clock.now += 2
    assert store.queue.get(1).state is State.OPEN
    assert store.queue.progress().open == 1
    taken = store.queue.claim_next(BEN)
    assert taken is not None
    assert taken.assignee == "Ben"
    assert not store.queue.touch(ANNA, 1)


def test_a_lead_assigns_without_an_end(store: Store, clock: Clock) -> None:
    store.queue.add([new_case(1)], LEAD)
    with pytest.raises(NotAllowedError):
        store.queue.assign(ANNA, 1, "Ben")
    store.queue.assign(LEAD, 1, "Ben")
    clock.now += 10 * HALF_AN_HOUR
    assert store.queue.claim_next(ANNA) is None
    mine = store.queue.claim_next(BEN)
    assert mine is not None
    assert mine.lease_until is None
    with pytest.raises(NotAllowedError):
        store.queue.release(ANNA, 1)
    assert store.queue.release(LEAD, 1).state is State.OPEN
    with pytest.raises(ConflictError, match="Nobody"):
        store.queue.release(BEN, 1)
    assert [record.kind for record in store.trail.page(case=1)] == ["released", "assigned"]


def test_an_auditor_takes_nothing(store: Store) -> None:
    store.queue.add([new_case(1)], LEAD)
    for what in (
        lambda: store.queue.claim_next(AUDITOR),
        lambda: store.queue.claim(AUDITOR, 1),
        lambda: store.queue.release(AUDITOR, 1),
    ):
        with pytest.raises(NotAllowedError):
            what()


def test_filters_mean_what_they_say(store: Store) -> None:
    news = [new_case(number) for number in range(60)]
    store.queue.add(news, LEAD)
    store.queue.claim(ANNA, 5)
    cases = [store.queue.get(number) for number in range(1, 61)]
    asked: list[tuple[Filters, Callable[[Any], bool]]] = [
        (Filters(), lambda case: True),
        (Filters(states=(State.OPEN,)), lambda case: case.state is State.OPEN),
        (Filters(states=(State.OPEN, State.ASSIGNED)), lambda case: True),
        (Filters(predicted=3), lambda case: case.predicted == 3),
        (Filters(assignee="Anna"), lambda case: case.number == 5),
        (Filters(least_need=0.5), lambda case: case.need >= 0.5),
        (Filters(signal="novelty"), lambda case: case.signals["novelty"] >= 0.5),
        (Filters(signal="ty"), lambda case: False),
        (Filters(signal="%"), lambda case: False),
        (
            Filters(states=(State.OPEN,), predicted=3, signal="uncertainty", least_need=0.1),
            lambda case: (
                case.predicted == 3 and case.signals["uncertainty"] >= 0.5 and case.need >= 0.1
            ),
        ),
    ]
    for filters, holds in asked:
        expected = [case for case in cases if holds(case)]
        assert store.queue.count(filters) == len(expected), filters
        page = store.queue.page(filters, limit=100)
        assert page == sorted(expected, key=lambda case: (-case.need, case.number))
    case = store.queue.claim_next(BEN, Filters(predicted=7))
    assert case is not None
    assert case.predicted == 7
    assert store.queue.progress() == Progress(60, 58, 2, 0, 0)
    assert store.queue.progress("Ben") == Progress(1, 0, 1, 0, 0)


def test_two_consoles_and_many_threads_never_share_a_case(opening: Callable[[], Store]) -> None:
    consoles = [opening(), opening()]
    consoles[0].queue.add([new_case(number) for number in range(60)], LEAD)

    def work(k: int) -> list[int]:
        actor, queue = Actor(f"person {k}", Role.REVIEWER), consoles[k % 2].queue
        decisions, numbers = consoles[k % 2].decisions, []
        while (case := queue.claim_next(actor)) is not None:
            decisions.opened(actor, case.number)
            decisions.decide(actor, Decision(case.number, Choice.ACCEPT))
            numbers.append(case.number)
        return numbers

    with ThreadPoolExecutor(8) as pool:
        done = [number for numbers in pool.map(work, range(8)) for number in numbers]
    assert Counter(done) == Counter(range(1, 61))
    assert consoles[1].verify().valid
