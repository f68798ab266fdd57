"""Anchors: kept outside the store, and what they tell of it."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from fedlens.review.contract import ReviewError
from fedlens.review.store import ReviewKey, Store, open_store
from fedlens.review.store.anchors import (
    PURPOSE,
    anchor_line,
    anchor_of,
    export_anchor,
    keep_anchor,
    kept_anchors,
    kept_path,
    read_anchors,
)
from fedlens.review.store.verification import verify
from reviewing import AUDITOR, LEAD


def test_an_anchor_says_where_the_chain_ends(store: Store, tmp_path: Path) -> None:
    store.switch.stop(LEAD, "a test")
    anchor = export_anchor(store.trail, tmp_path / "anchor.json", AUDITOR)
    record = store.trail.record(2)
    assert (record.kind, record.content) == ("anchored", {"file": "anchor.json"})
    assert (anchor.count, anchor.digest, anchor.store) == (2, record.digest, store.identity)
    assert json.loads((tmp_path / "anchor.json").read_text()) == anchor.__dict__
    assert read_anchors(tmp_path / "anchor.json") == kept_anchors(store.key) == [anchor]
    assert anchor.holds(store.key.public, PURPOSE)
    assert not anchor.holds(store.key.public)  # it cannot be put back into a store as its head
    verification = store.verify(read_anchors(tmp_path / "anchor.json"))
    assert verification.valid
    assert verification.anchors == 2


@pytest.mark.parametrize(
    "changes", [{"count": 1}, {"digest": "0" * 64}, {"time": "never"}, {"signature": "0" * 128}]
)
def test_an_altered_anchor_is_named(store: Store, changes: dict[str, object]) -> None:
    store.switch.stop(LEAD, "a test")
    store.switch.resume(LEAD, "a test")
    altered = replace(anchor_of(store.trail), **changes)
    (finding,) = store.verify([altered]).findings
    assert finding.problem == "anchor"


def test_closing_keeps_an_anchor_and_only_where_there_is_news(
    opening: Callable[[], Store], review_key: ReviewKey
) -> None:
    opening().close()
    assert not kept_path(review_key).exists()
    store = opening()
    store.switch.stop(LEAD, "a test")
    store.close()
    opening().close()
    (anchor,) = kept_anchors(review_key)
    assert anchor.count == 1


def test_anchors_of_another_store_are_counted_apart(
    store: Store, opening: Callable[[], Store]
) -> None:
    store.switch.stop(LEAD, "a test")
    foreign = replace(anchor_of(store.trail), store="f" * 32)
    verification = store.verify([foreign])
    assert verification.valid
    assert (verification.anchors, verification.other_anchors) == (0, 1)


def test_an_anchor_held_against_another_store_is_a_finding(
    store: Store, tmp_path: Path, review_key: ReviewKey
) -> None:
    """One key signs the stores of many runs: a whole other one may be put in a store's place."""
    store.switch.stop(LEAD, "a test")
    held = anchor_of(store.trail)
    other = open_store(f"sqlite:///{tmp_path / 'other.sqlite'}", review_key)
    other.switch.stop(LEAD, "another store")
    (finding,) = verify(other.database, review_key.public, given=[held]).findings
    other.close()
    assert finding.problem == "anchor"
    assert held.store in finding.sentence


def test_many_keep_anchors_at_once(store: Store) -> None:
    def one(k: int) -> None:
        store.trail.add("flagged", LEAD, {"k": k})
        keep_anchor(store.trail)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))
    keep_anchor(store.trail)
    anchors = kept_anchors(store.key, store.identity)
    assert max(anchor.count for anchor in anchors) == 24
    assert store.verify().valid


def test_a_half_line_that_a_crash_left_is_passed_over(store: Store) -> None:
    store.switch.stop(LEAD, "a test")
    anchor = keep_anchor(store.trail)
    assert anchor is not None
    path = kept_path(store.key)
    path.write_text(path.read_text() + anchor_line(anchor)[:50])
    assert kept_anchors(store.key) == [anchor]
    store.switch.resume(LEAD, "a test")
    keep_anchor(store.trail)
    assert [one.count for one in kept_anchors(store.key)] == [1, 2]


@pytest.mark.parametrize("line", ["{}\n", "null\n", '{"count": 1}\n', "[" * 9000 + "\n", "\xff\n"])
def test_what_is_no_anchor_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "anchors.jsonl"
    path.write_text(line, encoding="latin-1")
    with pytest.raises(ReviewError, match="Line 1"):
        read_anchors(path)
    with pytest.raises(ReviewError):
        read_anchors(tmp_path / "missing")


def test_nothing_false_is_anchored(store: Store) -> None:
    store.switch.stop(LEAD, "a test")
    with store.database._writing.begin() as connection:
        connection.execute(text("UPDATE head SET digest = :digest"), {"digest": "0" * 64})
    with pytest.raises(ReviewError, match="not what"):
        anchor_of(store.trail)
    assert keep_anchor(store.trail) is None
