"""Statements that go to the driver as they are: the same answers and the same errors."""

import pytest
from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from fedlens.review.store import Store, StoreError
from fedlens.review.store.query import Prepared
from fedlens.review.store.tables import METADATA
from reviewing import LEAD, new_case


def test_a_prepared_statement_does_as_any_other(store: Store) -> None:
    numbers = METADATA.tables["cases"].c
    store.queue.add([new_case(n) for n in range(1, 6)], LEAD)
    some = Prepared(
        select(numbers.number, numbers.source, numbers.queued, numbers.label)
        .where(numbers.number > bindparam("least"), numbers.predicted == 3)
        .order_by(numbers.number)
    )
    assert store.database.look(some, {"least": 2}) == [(3, "test/3", True, None)]
    assert store.database.look(some, {"least": 3}) == []
    with store.database.read() as connection:
        assert some.rows(connection, {"least": 0}) == [(3, "test/3", True, None)]
    change = Prepared(
        update(numbers.number.table)
        .where(numbers.number == bindparam("this"))
        .values(need=bindparam("new"))
        .returning(numbers.need)
    )
    found = store.database.write(lambda c: change.rows(c, {"this": 1, "new": 0.25}))
    assert found == [(0.25,)]
    assert store.queue.get(1).need == 0.25
    with pytest.raises(StoreError), store.database.read() as connection:
        change.rows(connection, {"this": 1, "new": 0.5})


def test_what_is_wrong_with_a_prepared_statement_is_no_mystery(store: Store) -> None:
    table = METADATA.tables["sessions"]
    add = Prepared(table.insert(), table.columns.keys())
    row = {"secret": "s", "folded": "f", "link": True, "began": 1.0, "seen": 1.0, "seal": "x"}
    store.database.write(lambda c: add.run_all(c, [row, row | {"secret": "t"}]))
    with pytest.raises(IntegrityError):
        store.database.write(lambda c: add.run_all(c, [row | {"secret": "u"}, row]))
    count = Prepared(select(func.count()).select_from(table))
    assert store.database.look(count, {}) == [(2,)]
    gone = Prepared(text("SELECT 1 FROM no_such_table"))
    if store.database.dialect == "sqlite":
        with pytest.raises(StoreError, match="could not be read: no such table"):
            store.database.look(gone, {})
    else:
        with pytest.raises(DBAPIError, match="no_such_table"):
            store.database.look(gone, {})
    assert store.database.look(count, {}) == [(2,)], "the connection was given back in order"
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.database.look(count, {})
