"""The stop switch."""

from collections.abc import Callable

import pytest

from fedlens.review.contract import (
    SOURCE_API,
    Choice,
    ConflictError,
    Decision,
    NotAllowedError,
    ReviewError,
    StoppedError,
)
from fedlens.review.store import Stopped, Store
from fedlens.review.store.answers import Answer
from fedlens.review.store.trail import PREDICTED
from reviewing import ANNA, AUDITOR, LEAD, new_case


def test_a_reviewer_stops_and_a_lead_resumes(opening: Callable[[], Store]) -> None:
    here, there = opening(), opening()
    assert here.switch.state() is None
    here.switch.check()
    record = here.switch.stop(ANNA, "bags are taken for shirts")
    expected = Stopped("Anna", "reviewer", "bags are taken for shirts", record.time, 1)
    assert here.switch.state() == there.switch.state() == expected  # in every console at once
    with pytest.raises(StoppedError, match=r"Anna on .*: bags are taken for shirts"):
        there.switch.check()
    with pytest.raises(ConflictError, match="already, by Anna"):
        there.switch.stop(LEAD, "again")
    with pytest.raises(NotAllowedError):
        there.switch.resume(ANNA, "it is fine")
    there.switch.resume(LEAD, "the weights were put back")
    assert here.switch.state() is None
    with pytest.raises(ConflictError, match="in service"):
        here.switch.resume(LEAD, "again")
    assert [one.kind for one in here.trail.page()] == ["resumed", "stopped"]


@pytest.mark.parametrize("why", ["", "  \n", "x" * 2001])
def test_a_reason_is_needed(store: Store, why: str) -> None:
    with pytest.raises(ReviewError):
        store.switch.stop(LEAD, why)
    with pytest.raises(NotAllowedError):
        store.switch.stop(AUDITOR, "an auditor changes nothing")


def test_a_person_may_decide_while_the_model_is_stopped(store: Store) -> None:
    store.queue.add([new_case(1)], LEAD)
    store.queue.claim(ANNA, 1)
    store.decisions.opened(ANNA, 1)
    store.switch.stop(LEAD, "a test")
    store.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    assert store.switch.state() is not None


def test_no_answer_is_recorded_once_another_console_has_stopped_the_model(
    opening: Callable[[], Store],
) -> None:
    here, there = opening(), opening()
    new = new_case(1, source=SOURCE_API, queued=False)
    assert here.queue.answer(new, ANNA, PREDICTED, {}) == 1
    there.switch.stop(LEAD, "wrong weights")
    with pytest.raises(StoppedError, match="wrong weights"):
        here.queue.answer(new, ANNA, PREDICTED, {})
    assert [one.kind for one in here.trail.page()] == ["stopped", "predicted"]
    there.switch.resume(LEAD, "mended")
    assert here.queue.answer(new, ANNA, PREDICTED, {}) == 2, "no number was used up"


def test_whoever_stops_waiting_undoes_nothing_and_breaks_nothing(store: Store) -> None:
    new = new_case(1, source=SOURCE_API, queued=False)
    answer = store.queue.answers_soon([Answer(new, ANNA, PREDICTED, {})])
    assert not answer.cancel()
    assert answer.result() == [1]
    assert store.queue.answer(new, ANNA, PREDICTED, {}) == 2
