"""Pruned cases stay decided: their images are not asked about again, and the marks are vouched for."""

import pytest
from sqlalchemy import text

from fedlens.review.contract import Choice, Decision, NotFoundError, State
from fedlens.review.store import Store
from fedlens.review.store.exports import jsonl, verify_export
from fedlens.review.store.retention import prune
from fedlens.review.store.trail import PREDICTED, PRUNED
from reviewing import ANNA, LEAD, Clock, new_case

DAY = 86_400
FOLDER = [new_case(number, source=f"folder/patient-{number}.png") for number in range(30)]


def decide(store: Store, numbers: list[int], choice: Choice = Choice.ACCEPT) -> None:
    for number in numbers:
        store.queue.claim(ANNA, number)
        store.decisions.opened(ANNA, number)
        store.decisions.reveal(ANNA, number, {})
        store.decisions.decide(ANNA, Decision(number, choice))


@pytest.fixture
def pruned(store: Store, clock: Clock) -> Store:
    """Thirty cases, of which eight were decided and then pruned."""
    assert store.queue.add(FOLDER, LEAD) == list(range(1, 31))
    decide(store, list(range(1, 9)))
    decide(store, [9], Choice.DEFER)
    clock.now += 200 * DAY
    assert prune(store, LEAD) is not None
    return store


def test_what_was_decided_and_pruned_does_not_come_back(pruned: Store, clock: Clock) -> None:
    assert pruned.queue.progress().open == 22
    assert pruned.queue.add(FOLDER, LEAD) == list(
        range(1, 31)
    )  # as a console that is started again
    assert pruned.queue.progress().open == 22
    with pytest.raises(NotFoundError):
        pruned.queue.get(1)
    assert (
        pruned.queue.get(9).state is State.OPEN
    )  # its deferral is gone, and it is still to decide
    other = new_case(99, source="folder/patient-1.png")  # another image under an old name
    assert pruned.queue.add([other], LEAD) == [31]
    assert pruned.verify().findings == ()
    assert verify_export(jsonl(pruned, LEAD), pruned.key.public).findings == ()


def test_neither_which_image_nor_what_was_decided_is_kept(pruned: Store) -> None:
    with pruned.database.read() as connection:
        rows = connection.execute(text("SELECT * FROM worked")).all()
    assert len(rows) == 8
    left = str(rows) + str([record.content for record in pruned.trail.page(kind=PRUNED)])
    assert "patient" not in left and FOLDER[1].digest not in left


def test_a_second_pruning_keeps_the_marks_of_the_first(pruned: Store, clock: Clock) -> None:
    decide(pruned, [10, 11])
    for _ in range(
        2
    ):  # at the last one nothing new is marked, and the old marks are vouched for anew
        clock.now += 200 * DAY
        assert prune(pruned, LEAD) is not None
        assert pruned.verify().findings == ()
        assert pruned.queue.add(FOLDER, LEAD) == list(range(1, 31))
        assert pruned.queue.progress().total == 20


def test_answers_of_the_api_leave_no_mark(store: Store, clock: Clock) -> None:
    number = store.queue.answer(
        new_case(1, source="api", queued=False), ANNA, PREDICTED, {"logits": [0.5]}
    )
    store.decisions.decide(ANNA, Decision(number, Choice.ACCEPT))
    clock.now += 200 * DAY
    assert prune(store, LEAD) is not None
    with store.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM worked")).scalar_one() == 0
    assert store.verify().findings == ()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM worked WHERE number = 3",
        "DELETE FROM worked",
        "UPDATE worked SET mark = 'b' WHERE number = 3",
        "UPDATE worked SET number = 300 WHERE number = 3",
        "UPDATE worked SET record = record + 1 WHERE number = 3",
        "INSERT INTO worked SELECT 20, 'a', record FROM worked WHERE number = 1",
        "INSERT INTO worked VALUES (20, 'a', 0)",
    ],
)
def test_marks_that_somebody_changed_are_found(pruned: Store, statement: str) -> None:
    with pruned.database._writing.begin() as connection:
        connection.execute(text(statement))
    problems = {finding.problem for finding in pruned.verify().findings}
    assert "worked" in problems
