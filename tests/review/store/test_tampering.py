"""Whoever can write to the database, and has no key, is found: whatever they do, and where."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from fedlens.review.contract import Choice, ConflictError, Decision, Reason
from fedlens.review.store import ReviewKey, Store, open_store
from fedlens.review.store.anchors import kept_anchors
from fedlens.review.store.chain import NOTHING, digest_of
from fedlens.review.store.verification import Verification, verify, verify_snapshot
from reviewing import ANNA, BEN, LEAD, PASSWORD, Clock, new_case

Opening = Callable[[], Store]


def fill(store: Store) -> None:
    """Three people, twelve cases, every kind of decision, and one taken back: 40 records or so."""
    store.people.add("Anna", PASSWORD, ANNA.role, LEAD)
    store.people.add("Ben", PASSWORD, BEN.role, LEAD)
    store.queue.add([new_case(number) for number in range(12)], LEAD)
    for number in range(1, 9):
        actor = (ANNA, BEN)[number % 2]
        case = store.queue.claim(actor, number)
        store.decisions.opened(actor, number)
        if number % 3 == 0:
            other = (case.predicted + 1) % 10
            store.decisions.label_blind(actor, number, other)
            store.decisions.reveal(actor, number, {"method": "grad-cam"})
            decision = Decision(number, Choice.OVERRIDE, other, Reason.CONFUSABLE)
        elif number == 7:
            decision = Decision(number, Choice.DEFER)
        else:
            decision = Decision(number, Choice.ACCEPT, evidence={"identity": {"weights": "w" * 64}})
        record = store.decisions.decide(actor, decision)
    store.decisions.undo(actor, record.sequence, "a slip")
    store.queue.claim_next(ANNA)


def by_hand(store: Store, *statements: tuple[str, dict[str, Any]]) -> None:
    """Do to the database what somebody does who has no key."""
    with store.database._writing.begin() as connection:
        for statement, values in statements:
            connection.execute(text(statement), values)


def after(
    store: Store, *statements: tuple[str, dict[str, Any]], tables: bool = True
) -> Verification:
    """What verification says after statements, which are then taken back."""
    with store.database._writing.connect() as connection:
        transaction = connection.begin()
        for statement, values in statements:
            connection.execute(text(statement), values)
        verification = verify_snapshot(connection, store.key.public, tables=tables)
        transaction.rollback()
    return verification


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Store]:
    """A store that is filled once and never changed for good."""
    folder = tmp_path_factory.mktemp("filled")
    with ExitStack() as stack:
        url = f"sqlite:///{folder / 'review.sqlite'}"
        if request.param == "postgresql":
            databases = request.getfixturevalue("postgresql_databases")
            url = stack.enter_context(databases())
        store = open_store(url, ReviewKey.load(folder / "review.key"), clock=Clock())
        stack.callback(store.database.close)
        fill(store)
        yield store


def named(verification: Verification) -> set[int | None]:
    return {finding.sequence for finding in verification.findings}


def rows(store: Store) -> list[dict[str, Any]]:
    with store.database.read() as connection:
        return [
            dict(row._mapping)
            for row in connection.execute(text("SELECT * FROM records ORDER BY sequence"))
        ]


def test_untouched_is_valid(store: Store) -> None:
    assert store.verify().valid
    fill(store)
    verification = store.verify()
    assert verification.findings == ()
    assert verification.records == verification.last == store.trail.count() > 20
    assert "chain valid" in verification.sentence


COLUMNS = {
    "time": "2020-01-01T00:00:00.000000Z",
    "kind": "flagged",
    "actor": "Mallory",
    "role": "auditor",
    "case": 11,
    "content": '{"choice":"accept"}',
    "previous": "f" * 64,
    "digest": "e" * 64,
    "signature": "d" * 128,
}


@pytest.mark.parametrize("column", COLUMNS)
def test_any_column_of_any_record_is_named(filled: Store, column: str) -> None:
    change = f'UPDATE records SET "{column}" = :value WHERE sequence = :sequence'
    for sequence in range(1, filled.trail.count() + 1, 3):
        values = {"value": COLUMNS[column], "sequence": sequence}
        verification = after(filled, (change, values), tables=False)
        assert sequence in named(verification), (column, sequence)
    assert filled.verify().valid


def test_a_change_too_small_to_see_is_named(filled: Store) -> None:
    sequence = next(row["sequence"] for row in rows(filled) if row["kind"] == "decided")
    change = "UPDATE records SET content = replace(content, ':', ': ') WHERE sequence = :sequence"
    assert named(after(filled, (change, {"sequence": sequence}))) == {sequence}


def test_a_removed_record_is_named(filled: Store) -> None:
    for sequence in range(1, filled.trail.count() + 1):
        removal = (f"DELETE FROM records WHERE sequence = {sequence}", {})
        verification = after(filled, removal, tables=False)
        assert sequence in named(verification)
        assert verification.sentence.startswith(
            f"chain NOT valid: Record {sequence} was removed"
            if sequence > 1
            else "chain NOT valid: The records from 1 to 1 were removed"
        )
    verification = after(filled, ("DELETE FROM records WHERE sequence BETWEEN 8 AND 12", {}))
    assert verification.findings[0].sentence == "The records from 8 to 12 were removed."


def test_a_removed_beginning_is_named(filled: Store) -> None:
    finding = after(filled, ("DELETE FROM records WHERE sequence <= 3", {})).findings[0]
    assert (finding.sequence, finding.problem) == (1, "removed")


def test_all_records_removed_is_found(filled: Store) -> None:
    finding = after(filled, ("DELETE FROM records", {})).findings[0]
    assert (finding.sequence, finding.problem) == (1, "truncated")


def test_exchanged_records_are_named(filled: Store) -> None:
    verification = after(
        filled,
        ("UPDATE records SET sequence = 1000 WHERE sequence = 7", {}),
        ("UPDATE records SET sequence = 7 WHERE sequence = 8", {}),
        ("UPDATE records SET sequence = 8 WHERE sequence = 1000", {}),
    )
    assert {7, 8} <= named(verification)


def test_a_cut_end_is_named(filled: Store) -> None:
    last = filled.trail.head().count
    cut = ("DELETE FROM records WHERE sequence > :last", {"last": last - 3})
    finding = after(filled, cut).findings[0]
    assert (finding.sequence, finding.problem) == (last - 2, "truncated")
    assert finding.sentence == f"The records from {last - 2} to {last} were removed."


def test_a_moved_number_is_named(filled: Store) -> None:
    finding = after(filled, ("UPDATE records SET sequence = 0 WHERE sequence = 1", {})).findings[0]
    assert (finding.sequence, finding.problem) == (0, "inserted")


HEAD = ["store", "count", "digest", "seals", "time", "fingerprint", "signature"]


@pytest.mark.parametrize("column", HEAD)
def test_a_changed_head_is_found(filled: Store, column: str) -> None:
    value = 3 if column == "count" else "abc"
    findings = after(filled, (f"UPDATE head SET {column} = :value", {"value": value})).findings
    assert [finding.problem for finding in findings] == [
        "key" if column == "fingerprint" else "head"
    ]


@pytest.mark.parametrize("column", ["digest", "fingerprint"])
def test_a_changed_head_is_never_signed_anew(store: Store, column: str) -> None:
    store.switch.stop(LEAD, "a test")
    by_hand(store, (f"UPDATE head SET {column} = 'abc'", {}))
    with pytest.raises(ConflictError, match=r"key|changed"):
        store.switch.resume(LEAD, "a test")


def test_a_removed_head_is_found(opening: Opening) -> None:
    store = opening()
    fill(store)
    by_hand(store, ("DELETE FROM head", {}))
    (finding,) = verify(store.database, store.key.public).findings
    assert finding.problem == "head"
    assert store.verify().findings == (finding,)
    with pytest.raises(ConflictError, match="removed"):
        store.switch.stop(LEAD, "a test")
    with pytest.raises(Exception, match="removed"):
        opening()


def rewritten(store: Store, start: int, change: dict[str, Any]) -> None:
    """Change a record and write all digests after it anew, head included: all but the signatures."""
    with store.database.read() as connection:
        all_rows = [
            dict(row._mapping)
            for row in connection.execute(text("SELECT * FROM records ORDER BY sequence"))
        ]
    previous = NOTHING
    statements = []
    for row in all_rows:
        if row["sequence"] == start:
            row.update(change)
        if row["sequence"] >= start:
            row["previous"] = previous
            names = ("sequence", "time", "kind", "actor", "role", "case", "content", "previous")
            row["digest"] = digest_of(*(row[name] for name in names))
            statements.append(
                (
                    "UPDATE records SET actor = :actor, content = :content, previous = :previous, "
                    "digest = :digest WHERE sequence = :sequence",
                    row,
                )
            )
        previous = row["digest"]
    by_hand(store, *statements, ("UPDATE head SET digest = :digest", {"digest": previous}))


def test_a_chain_written_anew_is_named_at_the_first_record_that_changed(store: Store) -> None:
    fill(store)
    assert store.verify().valid
    rewritten(store, 11, {"actor": "Mallory"})
    findings = verify(store.database, store.key.public, tables=False).findings
    assert findings[0].sequence == 11
    assert findings[0].problem == "forged"
    assert f"Records 11 to {store.trail.head().count}" in findings[0].sentence


def test_an_appended_forgery_is_named(store: Store) -> None:
    fill(store)
    last = rows(store)[-1]
    forged = {**last, "sequence": last["sequence"] + 1, "previous": last["digest"]}
    names = ("sequence", "time", "kind", "actor", "role", "case", "content", "previous")
    forged["digest"] = digest_of(*(forged[name] for name in names))
    columns = ", ".join(f'"{name}"' for name in forged)
    marks = ", ".join(f":{name}" for name in forged)
    by_hand(store, (f"INSERT INTO records ({columns}) VALUES ({marks})", forged))
    assert forged["sequence"] in named(store.verify())


def test_a_truly_signed_record_of_another_store_is_named(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    other = open_store(f"sqlite:///{tmp_path / 'other.sqlite'}", store.key, clock=clock)
    other.switch.stop(LEAD, "a test")
    store.switch.stop(LEAD, "a test")
    foreign = rows(other)[0]
    mine = rows(store)[0]
    assert foreign["digest"] == mine["digest"]  # to the last byte the same, but for its store
    by_hand(store, ("UPDATE records SET signature = :signature", foreign))
    assert named(store.verify()) == {1}
    other.close()


def test_an_older_state_that_was_truly_signed_is_found_by_an_anchor(opening: Opening) -> None:
    store = opening()
    fill(store)
    head, count = store.trail.head(), store.trail.head().count
    store.switch.stop(LEAD, "what the attacker wants forgotten")
    store.close()  # keeps an anchor beside the key
    again = opening()
    by_hand(
        again,
        ("DELETE FROM records WHERE sequence > :count", {"count": count}),
        (
            "UPDATE head SET count = :count, digest = :digest, seals = :seals, time = :time, "
            "signature = :signature",
            head.__dict__,
        ),
    )
    assert verify(again.database, again.key.public).valid  # in itself it is as it was signed
    (finding,) = again.verify().findings
    assert finding.problem == "rollback"
    assert finding.sequence == count + 1
    with pytest.raises(ConflictError, match="older state"):
        again.switch.stop(LEAD, "nothing is appended to it")
    third = opening()
    with pytest.raises(ConflictError, match="older state"):
        third.switch.stop(LEAD, "nor by a console that was started afterwards")


def test_an_older_state_under_a_running_console_is_found_without_an_anchor(store: Store) -> None:
    fill(store)
    head = store.trail.head()
    store.switch.stop(LEAD, "one")
    store.switch.resume(LEAD, "two")
    by_hand(
        store,
        ("DELETE FROM records WHERE sequence > :count", head.__dict__),
        (
            "UPDATE head SET count = :count, digest = :digest, seals = :seals, time = :time, "
            "signature = :signature",
            head.__dict__,
        ),
    )
    with pytest.raises(ConflictError, match="older state"):
        store.switch.stop(LEAD, "three")


def test_a_fork_is_found_by_an_anchor(opening: Opening, review_key: ReviewKey) -> None:
    """Put back to an older state, and gone on with on a machine that did not know."""
    store = opening()
    fill(store)
    head = store.trail.head()
    store.switch.stop(LEAD, "one")
    store.close()
    anchors = kept_anchors(review_key)
    again = opening()
    by_hand(
        again,
        ("DELETE FROM records WHERE sequence > :count", head.__dict__),
        (
            "UPDATE head SET count = :count, digest = :digest, seals = :seals, time = :time, "
            "signature = :signature",
            head.__dict__,
        ),
    )
    again.trail.memory.known = None
    again.switch.stop(BEN, "another history")
    (finding,) = verify(again.database, review_key.public, anchors).findings
    assert finding.problem == "anchor"
    assert finding.sequence == head.count + 1


TABLES = [
    ("decisions", "UPDATE decisions SET label = 9 WHERE choice = 'accept'"),
    ("decisions", "UPDATE decisions SET reviewer = 'Ben' WHERE reviewer = 'Anna'"),
    ("decisions", "UPDATE decisions SET seconds = 1e6"),
    ("decisions", "UPDATE decisions SET model = NULL"),
    ("decisions", "UPDATE decisions SET undone_by = NULL"),
    ("decisions", "UPDATE decisions SET undone_by = 5 WHERE choice = 'accept'"),
    ("decisions", "DELETE FROM decisions WHERE choice = 'override'"),
    ("decisions", "UPDATE decisions SET sequence = sequence + 100 WHERE choice = 'override'"),
    ("cases", "UPDATE cases SET predicted = 9 WHERE number = 2"),
    ("cases", "UPDATE cases SET need = 0 WHERE number = 2"),
    ("cases", "UPDATE cases SET digest = source WHERE number = 2"),
    ("cases", "UPDATE cases SET source = 'test/99' WHERE number = 2"),
    ("cases", "UPDATE cases SET probabilities = '[1]' WHERE number = 2"),
    ("cases", "UPDATE cases SET signals = '{}' WHERE number = 2"),
    ("cases", "UPDATE cases SET flags = '|' WHERE number = 2"),
    ("cases", "UPDATE cases SET added = 0 WHERE number = 2"),
    ("cases", "UPDATE cases SET label = 9 WHERE number = 2"),
    ("cases", "UPDATE cases SET state = 'open' WHERE number = 2"),
    ("cases", "UPDATE cases SET assignee = 'Mallory' WHERE number = 2"),
    ("cases", "UPDATE cases SET decision = NULL, label = NULL, state = 'open' WHERE number = 2"),
    ("cases", "UPDATE cases SET state = 'decided', label = 1 WHERE number = 12"),
    ("cases", "UPDATE cases SET state = 'open', deferred_by = NULL WHERE number = 7"),
    ("cases", "UPDATE cases SET state = 'deferred' WHERE number = 12"),
    ("cases", "UPDATE cases SET state = 'bogus' WHERE number = 12"),
    ("cases", "UPDATE cases SET assignee = 'Ghost' WHERE number = 12"),
    ("cases", "UPDATE cases SET state = 'assigned' WHERE number = 12"),
    ("cases", "UPDATE cases SET state = 'assigned', assignee = 'Ghost' WHERE state = 'open'"),
    ("cases", "UPDATE cases SET lease_until = 1 WHERE number = 2"),
    ("cases", "UPDATE cases SET number = 99 WHERE number = 12"),
    ("head", "UPDATE head SET next_case = 1"),
    ("head", "UPDATE head SET id = 2"),
    (
        "head",
        "INSERT INTO head SELECT 2, store, count, digest, seals, time, fingerprint, signature, "
        "next_case FROM head",
    ),
    ("cases", "UPDATE cases SET record = 1 WHERE number = 12"),
    ("cases", "DELETE FROM cases WHERE number = 12"),
    ("people", "UPDATE people SET role = 'lead' WHERE name = 'Anna'"),
    ("people", "UPDATE people SET name = 'Mallory', folded = 'mallory' WHERE name = 'Anna'"),
    ("people", "UPDATE people SET secret = 'x' WHERE name = 'Anna'"),
    ("people", "DELETE FROM people WHERE name = 'Anna'"),
]


@pytest.mark.parametrize(("problem", "statement"), TABLES, ids=[one for _, one in TABLES])
def test_a_table_that_says_something_else_than_the_trail_is_found(
    filled: Store, problem: str, statement: str
) -> None:
    assert problem in {finding.problem for finding in after(filled, (statement, {})).findings}


def test_somebody_elses_trigger_is_found(filled: Store) -> None:
    if filled.database.dialect == "sqlite":
        statements = [
            "CREATE TRIGGER sly AFTER INSERT ON records BEGIN UPDATE cases SET label = 1; END"
        ]
    else:
        statements = ["CREATE RULE sly AS ON DELETE TO decisions DO INSTEAD NOTHING"]
    (finding,) = after(filled, *((one, {}) for one in statements)).findings
    assert finding.problem == "schema"
    assert "sly" in finding.sentence


JUNK = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=5), st.binary(max_size=5)
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_junk_of_any_type_is_named_and_breaks_nothing(sqlite_filled: Store, data: Any) -> None:
    """SQLite keeps any type in any column; NOT NULL is no hindrance to who can write the file."""
    store = sqlite_filled
    every = rows(store)
    row = data.draw(st.sampled_from(every))
    column = data.draw(st.sampled_from(sorted(COLUMNS)))
    value = data.draw(JUNK)
    if value == row[column] or (value is None and column != "case"):
        return
    change = f'UPDATE records SET "{column}" = :value WHERE sequence = :sequence'
    by_hand(store, (change, {"value": value, "sequence": row["sequence"]}))
    try:
        verification = store.verify()
        assert row["sequence"] in named(verification)
        store.trail.page(limit=1000)
    finally:
        by_hand(store, (change, {"value": row[column], "sequence": row["sequence"]}))


@pytest.fixture
def sqlite_filled(sqlite_url: str, review_key: ReviewKey, clock: Clock) -> Any:
    store = open_store(sqlite_url, review_key, clock=clock)
    fill(store)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("head", name) for name in ("store", "digest", "seals", "time", "fingerprint")),
        ("records", "signature"),
        ("people", "secret"),
        ("people", "name"),
    ],
)
def test_invalid_utf8_anywhere_is_found_and_said_in_utf8(
    sqlite_filled: Store, table: str, column: str
) -> None:
    by_hand(sqlite_filled, (f"UPDATE {table} SET {column} = CAST(x'61ff' AS TEXT)", {}))
    findings = sqlite_filled.verify().findings
    assert findings
    assert all(finding.sentence.encode() for finding in findings)


@pytest.mark.parametrize(
    "column", ["cases.queued", "people.active", "people.token", "decisions.misleading"]
)
@pytest.mark.parametrize("value", ["2", "x'ff'", "'yes'", "''"])
def test_what_is_neither_true_nor_false_is_found(
    sqlite_filled: Store, column: str, value: str
) -> None:
    table, name = column.split(".")
    by_hand(sqlite_filled, (f"UPDATE {table} SET {name} = {value}", {}))
    assert table in {finding.problem for finding in sqlite_filled.verify().findings}


@pytest.mark.parametrize("until", ["'for ever'", "x'ff'", "9e999"])
def test_a_lease_without_an_end_is_found(sqlite_filled: Store, until: str) -> None:
    by_hand(
        sqlite_filled,
        (
            "UPDATE cases SET state = 'assigned', assignee = 'Anna', "
            f"lease_until = {until} WHERE number = 12",
            {},
        ),
    )
    assert "cases" in {finding.problem for finding in sqlite_filled.verify().findings}


def test_a_table_that_was_made_anew_is_found(sqlite_filled: Store) -> None:
    """Without its key, a table may hold a number twice, or one that is none, and NULL anywhere."""
    by_hand(
        sqlite_filled,
        ("CREATE TABLE other AS SELECT * FROM records", {}),
        ("UPDATE other SET sequence = 'x', content = NULL WHERE sequence = 7", {}),
        ("DROP TABLE records", {}),
        ("ALTER TABLE other RENAME TO records", {}),
    )
    findings = sqlite_filled.verify().findings
    assert {"schema", "inserted", "removed"} <= {finding.problem for finding in findings}


def test_another_store_in_the_place_of_this_one_is_not_appended_to(
    opening: Opening, review_key: ReviewKey, tmp_path: Path
) -> None:
    store = opening()
    fill(store)
    other = open_store(f"sqlite:///{tmp_path / 'other.sqlite'}", review_key)
    fill(other)
    fields = other.trail.head().__dict__
    other.close()
    names = ", ".join(f"{name} = :{name}" for name in fields)
    by_hand(store, (f"UPDATE head SET {names}", fields))
    store.trail.memory.made = None
    with pytest.raises(ConflictError, match="Another store"):
        store.switch.stop(LEAD, "x")


def test_invalid_utf8_is_named_and_breaks_nothing(sqlite_filled: Store) -> None:
    by_hand(
        sqlite_filled,
        ("UPDATE records SET content = CAST(x'7bff7d' AS TEXT) WHERE sequence = 6", {}),
    )
    assert 6 in named(sqlite_filled.verify())


def test_junk_in_the_tables_breaks_nothing(sqlite_filled: Store) -> None:
    for table in ("cases", "decisions", "people"):
        engine = create_engine(f"sqlite:///{sqlite_filled.database.place}")
        with engine.begin() as connection:
            columns = [
                row[1]
                for row in connection.execute(text(f"PRAGMA table_info({table})"))
                if not row[5]
            ]
            connection.execute(text("DROP INDEX IF EXISTS cases_source"))
            for column in columns:
                connection.execute(text(f"UPDATE {table} SET \"{column}\" = x'ff00'"))
        engine.dispose()
    assert {"cases", "decisions", "people"} <= {
        one.problem for one in sqlite_filled.verify().findings
    }
