"""The trail: how a record is digested and signed, and how it is read."""

import hashlib
import json
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from fedlens.review.contract import Actor, NotFoundError, ReviewError, Role
from fedlens.review.store import Store
from fedlens.review.store.chain import (
    LARGEST_CONTENT,
    canonical,
    digest_of,
    in_seconds,
    in_words,
)
from fedlens.review.store.tables import RECORDS
from fedlens.review.store.trail import FLAGGED, KINDS, SERVING_BEGAN, Entry, append
from reviewing import ANNA, BEN, LEAD, Clock


def test_a_record_by_hand(store: Store) -> None:
    """Digest and signature worked out from the description, with plain JSON and another call."""
    first = store.trail.add(SERVING_BEGAN, LEAD, {"model": "m", "ü": [1, 2.5, None, True]})
    second = store.trail.add(FLAGGED, ANNA, {}, 7)
    plain = {
        "sequence": 1,
        "time": "2026-11-18T11:06:40.000000Z",
        "kind": "serving-began",
        "actor": "Lena",
        "role": "lead",
        "case": None,
        "content": {"model": "m", "ü": [1, 2.5, None, True]},
        "previous": "0" * 64,
    }
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert first.digest == hashlib.sha256(text.encode()).hexdigest()
    assert second.previous == first.digest
    assert (second.sequence, second.case, second.actor, second.role) == (2, 7, "Anna", "reviewer")
    with store.database.read() as connection:
        signature = connection.execute(
            select(RECORDS.c.signature).where(RECORDS.c.sequence == 1)
        ).scalar_one()
    public = Ed25519PublicKey.from_public_bytes(store.key.public.raw)
    message = f"fedlens review record 1\n{store.identity}\n1\n{first.digest}"
    public.verify(bytes.fromhex(signature), message.encode())  # raises where it does not hold


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    value=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), PLAIN),
    actor=st.text(max_size=8),
)
def test_a_digest_is_that_of_the_canonical_whole(value: dict[str, Any], actor: str) -> None:
    try:
        text = canonical(value)
    except ReviewError:
        return
    assert canonical(json.loads(text)) == text  # what was read and written again is the same
    whole = {
        "sequence": 3,
        "time": "t",
        "kind": "k",
        "actor": actor,
        "role": "r",
        "case": 5,
        "content": value,
        "previous": "p",
    }
    plain = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    expected = hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()
    assert digest_of(3, "t", "k", actor, "r", 5, text, "p") == expected


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"x", {1, 2}, object(), "\ud800", {"a": {"b": 1j}}]
)
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(ReviewError, match="cannot be kept"):
        canonical({"value": value})


ROWS = [[0.5] * 8 for _ in range(8)]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (ROWS, False),
        ([tuple(row) for row in ROWS], False),
        ({"deep": [{"in": [1, ROWS]}]}, False),
        ([[0] * 28] * 28, False),
        (["x", *ROWS], False),
        (b"\x89PNG", False),
        (ROWS[:7], True),
        ([row[:7] for row in ROWS], True),
        (["a name of a class"] * 20, True),
        ([["a name of a class"] * 8] * 20, True),
        ([0.1] * 1000, True),
        ([{"case": n, "source": "test"} for n in range(200)], True),
    ],
)
def test_no_picture_is_kept_and_lists_are(store: Store, value: Any, kept: bool) -> None:
    if kept:
        assert store.trail.add(FLAGGED, ANNA, {"value": value}).content["value"] == value
        return
    with pytest.raises(ReviewError, match=r"never the pixels|cannot be kept"):
        store.trail.add(FLAGGED, ANNA, {"value": value})
    assert store.trail.count() == 0


def test_a_record_is_of_128_kibibytes_at_most(store: Store) -> None:
    around = len('{"text":""}')
    store.trail.add(FLAGGED, ANNA, {"text": "é" * ((LARGEST_CONTENT - around) // 2)})
    with pytest.raises(ReviewError, match="131,072 bytes, and this has 131,073"):
        store.trail.add(FLAGGED, ANNA, {"text": "x" * (LARGEST_CONTENT - around + 1)})


def test_records_that_are_appended_together_are_those_one_after_another(store: Store) -> None:
    entries = [Entry(FLAGGED, (ANNA, BEN)[k % 2], {"k": k}, k or None) for k in range(5)]
    store.trail.add(FLAGGED, LEAD, {})
    rows = store.database.write(lambda connection: store.trail.append_all(connection, entries))
    assert [row["sequence"] for row in rows] == [2, 3, 4, 5, 6]
    records = store.trail.page()[::-1]
    for before, record, entry in zip(records, records[1:], entries, strict=False):
        assert record.previous == before.digest
        assert (record.actor, record.case, record.content) == (
            entry.actor.name,
            entry.case,
            entry.content,
        )
    assert store.trail.head().digest == records[-1].digest == rows[-1]["digest"]
    assert store.verify().valid
    bad = [Entry(FLAGGED, ANNA, {}), Entry(FLAGGED, ANNA, {"x": float("nan")})]
    with pytest.raises(ReviewError):
        store.database.write(lambda connection: store.trail.append_all(connection, bad))
    assert store.database.write(lambda connection: store.trail.append_all(connection, [])) == []
    assert store.trail.count() == 6
    assert store.verify().valid


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\tb", "a\u2028b", "a\u202eb"])
def test_who_acts_has_a_name_that_can_be_read(store: Store, name: str) -> None:
    with pytest.raises(ReviewError, match="name"):
        store.trail.add(FLAGGED, Actor(name, Role.LEAD), {})
    assert store.trail.count() == 0


def test_a_kind_is_one_of_those_described(store: Store) -> None:
    assert len(set(KINDS)) == len(KINDS) == 21
    with pytest.raises(ValueError, match="no kind"):
        store.trail.add("deleted", ANNA, {})


def test_a_record_is_appended_only_within_a_write(store: Store) -> None:
    with store.database.read() as connection, pytest.raises(RuntimeError, match="inside"):
        append(connection, store.key, kind=FLAGGED, actor=ANNA, content={})


def test_pages_of_the_trail(store: Store) -> None:
    for k in range(10):
        store.trail.add(FLAGGED if k % 2 else SERVING_BEGAN, (ANNA, BEN)[k % 3 == 0], {}, k // 5)
    trail = store.trail
    assert [one.sequence for one in trail.page(limit=3)] == [10, 9, 8]
    assert [one.sequence for one in trail.page(before=8, limit=3)] == [7, 6, 5]
    assert [one.sequence for one in trail.page(kind=FLAGGED)] == [10, 8, 6, 4, 2]
    assert [one.sequence for one in trail.page(actor="Ben")] == [10, 7, 4, 1]
    assert [one.sequence for one in trail.page(case=0, actor="Ben")] == [4, 1]
    assert trail.count() == 10
    assert trail.count(kind=FLAGGED, actor="Ben", case=1) == 1
    assert trail.page(case=10**30) == []
    assert trail.record(4).kind == FLAGGED
    for number in (0, -1, 11, 10**30):
        with pytest.raises(NotFoundError):
            trail.record(number)


def test_times_are_utc_to_the_microsecond(store: Store, clock: Clock) -> None:
    clock.now += 0.25
    record = store.trail.add(FLAGGED, ANNA, {})
    assert record.time == "2026-11-18T11:06:40.250000Z"
    assert in_seconds(record.time) == clock.now
    assert in_words(0) == "1970-01-01T00:00:00.000000Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.time)
