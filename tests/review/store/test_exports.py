"""Exports: a file that verifies by itself, and a table that is safe in a spreadsheet."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlens.review.contract import Actor, ReviewError, Role
from fedlens.review.store import PublicKey, ReviewKey, Store
from fedlens.review.store.chain import NOTHING, add_seal
from fedlens.review.store.exports import jsonl, table, verify_export
from fedlens.review.store.retention import prune
from fedlens.review.store.trail import EXPORTED
from reviewing import AUDITOR, LEAD, Clock, new_case


@pytest.fixture
def lines(store: Store) -> list[str]:
    store.queue.add([new_case(number) for number in range(3)], LEAD)
    for why in ("=1+1", "plain", "ü \u2028 ü", '"quoted", and\nbroken'):
        store.switch.stop(LEAD, why)
        store.switch.resume(LEAD, "x")
    return list(jsonl(store, AUDITOR))


def test_an_export_verifies_with_the_public_key_alone(store: Store, lines: list[str]) -> None:
    public = PublicKey.read(store.key.public.pem())
    verification = verify_export(lines, public)
    assert verification.findings == ()
    assert verification.records == len(lines) - 2 == store.trail.count()
    record = json.loads(lines[-2])
    assert (record["kind"], record["actor"]) == (EXPORTED, "Otto")
    assert all(line.endswith("\n") and "\n" not in line[:-1] for line in lines)


def test_what_comes_in_after_the_record_of_an_export_is_not_in_it(store: Store) -> None:
    store.queue.add([new_case(1)], LEAD)
    as_lines, as_table = jsonl(store, AUDITOR), table(store, AUDITOR)
    until = store.trail.count()
    store.queue.add([new_case(2)], LEAD)  # before the first line is read
    lines = list(as_lines)
    assert [json.loads(line)["sequence"] for line in lines[1:-1]] == list(range(1, until))
    verification = verify_export(lines, store.key.public)
    assert (verification.valid, verification.last) == (True, until - 1)
    assert len(list(csv.reader("".join(as_table).splitlines()))) == 1 + until
    assert verify_export(jsonl(store, AUDITOR), store.key.public).valid


def edited(name: str) -> Callable[[list[str]], list[str]]:
    def edit(lines: list[str]) -> list[str]:
        record = json.loads(lines[4])
        record[name] = 7 if name in ("case", "sequence") else "0" * len(str(record[name]))
        if name == "content":
            record[name] = {"why": "y"}
        return [*lines[:4], canonical(record), *lines[5:]]

    return edit


def canonical(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text + "\n"


FIELDS = ("sequence", "time", "kind", "actor", "role", "case", "content", "previous", "digest")


@pytest.mark.parametrize(
    "edit",
    [
        *(edited(name) for name in (*FIELDS, "signature")),
        lambda lines: [*lines[:4], *lines[5:]],
        lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]],
        lambda lines: [*lines[:-3], lines[-1]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [*lines[:4], lines[4].replace("{", '{"actor":"Otto",', 1), *lines[5:]],
        lambda lines: [*lines[:-1], lines[-1].replace('"count":', '"count":1')],
    ],
)
def test_a_changed_export_is_found(
    store: Store, lines: list[str], edit: Callable[[list[str]], list[str]]
) -> None:
    verification = verify_export(edit(lines), store.key.public)
    assert not verification.valid


def test_a_beginning_that_nobody_pruned_is_missed(store: Store, lines: list[str]) -> None:
    """What the first line says of what came before is not signed: whoever cuts can write it."""
    seals = NOTHING
    for line in lines[1:4]:
        seals = add_seal(seals, json.loads(line)["signature"])
    previous = json.loads(lines[3])["digest"]
    first = {**json.loads(lines[0]), "first": 4, "previous": previous, "seals": seals}
    verification = verify_export([canonical(first), *lines[4:]], store.key.public)
    assert [(one.sequence, one.problem) for one in verification.findings] == [(1, "removed")]


def test_what_was_pruned_may_be_missing(store: Store, lines: list[str], clock: Clock) -> None:
    clock.now += 200 * 86_400
    store.switch.stop(LEAD, "later")
    record = prune(store, LEAD)
    assert record is not None
    verification = verify_export(jsonl(store, AUDITOR), store.key.public)
    assert verification.findings == ()
    assert verification.pruned == record.content["count"] > 3


@pytest.mark.parametrize("keep", [0, 1, 5])
def test_a_file_that_was_cut_off_is_refused(store: Store, lines: list[str], keep: int) -> None:
    with pytest.raises(ReviewError, match=r"Line|cut off"):
        verify_export(lines[:keep], store.key.public)


@pytest.mark.parametrize("junk", ["[" * 5000, "{}", "null", '{"format":2}', "x" * (2 << 20)])
def test_junk_is_refused_in_a_sentence(store: Store, junk: str) -> None:
    with pytest.raises(ReviewError):
        verify_export([junk, junk], store.key.public)


def test_another_key_is_told_apart(lines: list[str], tmp_path: Path) -> None:
    other = ReviewKey.load(tmp_path / "other.key")
    assert "key" in {one.problem for one in verify_export(lines, other.public).findings}


def test_the_table_is_what_the_trail_is_and_no_formula(store: Store) -> None:
    store.switch.stop(Actor("=cmd|' /C calc'!A1", Role.LEAD), '=1+1,"\n')
    store.switch.resume(Actor("@SUM(1)", Role.LEAD), "x")
    rows = list(csv.reader("".join(table(store, AUDITOR)).splitlines(keepends=True)))
    assert rows[0][:4] == ["sequence", "time", "kind", "actor"]
    assert len(rows) == 1 + store.trail.count() == 4
    assert rows[1][3] == "'=cmd|' /C calc'!A1"
    assert rows[2][3] == "'@SUM(1)"
    assert json.loads(rows[1][6]) == {"why": '=1+1,"\n'}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
