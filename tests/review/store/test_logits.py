"""The logits of a case: kept with it, vouched for by the trail, and added to a store that had none."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from fedlens.review.contract import Choice, Decision, ReviewError
from fedlens.review.store import Store
from reviewing import ANNA, LEAD, new_case

LOGITS = (3.25, *(-0.5,) * 9)


def altered(store: Store, value: str | None, number: int) -> set[str]:
    """Return what verification finds once the logits of a case are others."""
    with store.database._writing.begin() as connection:
        query = text("UPDATE cases SET logits = :value WHERE number = :number")
        connection.execute(query, {"value": value, "number": number})
    return {one.problem for one in store.verify().findings}


def test_they_are_kept_and_vouched_for(store: Store) -> None:
    with_them, without = replace(new_case(1), logits=LOGITS), new_case(2)
    first, second = store.queue.add([with_them, without], LEAD)
    assert store.queue.get(first).logits == LOGITS
    assert store.queue.get(second).logits is None
    assert store.verify().valid
    assert altered(store, "[3.0]", first) == {"cases"}
    assert altered(store, None, first) == {"cases"}


def test_none_can_be_added_to_a_case_that_came_without(store: Store) -> None:
    (number,) = store.queue.add([new_case(2)], LEAD)
    assert altered(store, str(list(LOGITS)), number) == {"cases"}


@pytest.mark.parametrize("logits", [(1.0,), (float("nan"),) * 10])
def test_what_cannot_be_logits_is_refused(store: Store, logits: tuple[float, ...]) -> None:
    with pytest.raises(ReviewError):
        store.queue.add([replace(new_case(1), logits=logits)], LEAD)


def test_a_store_of_before_is_gone_on_with(opening: Callable[[], Store]) -> None:
    store = opening()
    store.queue.add([new_case(number) for number in range(3)], LEAD)
    store.queue.claim(ANNA, 1)
    store.decisions.opened(ANNA, 1)
    store.decisions.decide(ANNA, Decision(1, Choice.ACCEPT))
    with store.database._writing.begin() as connection:
        connection.execute(text("DROP INDEX cases_digest"))  # of a later migration
        connection.execute(text("ALTER TABLE cases DROP COLUMN logits"))
        connection.execute(text("UPDATE review_version SET version_num = '0002'"))
    store.close()
    store = opening()
    assert store.verify().findings == ()
    assert store.queue.get(2).logits is None
    (number,) = store.queue.add([replace(new_case(7), logits=LOGITS)], LEAD)
    assert store.queue.get(number).logits == LOGITS
    assert store.verify().findings == ()
