"""Verification: is the trail what was signed, all of it, and do the tables beside it agree?

It needs the public key alone. It streams: memory does not grow with the trail.

What it finds: any record that was altered, removed, inserted, exchanged, or written anew with all
that follow; an end that was cut off; with an anchor, an older state that was put back. What it cannot
find: records that were cut off together with the head that saw them, by somebody who kept an older
signed head, when no anchor is newer than that head. And whoever has the private key can write
another trail altogether; only an anchor that they cannot reach contradicts them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from fedlens.review.store.anchors import PURPOSE
from fedlens.review.store.chain import NOTHING, Head, record_message, signed_by
from fedlens.review.store.checking import (
    ChainCheck,
    Finding,
    Findings,
    check_each_signature,
    check_head,
)
from fedlens.review.store.database import Database
from fedlens.review.store.end import read_head
from fedlens.review.store.projection_check import check_tables
from fedlens.review.store.schema_check import check_schema
from fedlens.review.store.signing import PublicKey
from fedlens.review.store.tables import RECORDS
from fedlens.review.store.trail import PRUNED, RECORD_COLUMNS

STREAM = {"yield_per": 1000}


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        store: identity of the store; empty where its head was removed.
        records: how many there are and were checked.
        first, last: numbers of the first and last of them; 0 where there is none.
        pruned: how many older ones were removed as the rules of retention say.
        time: when the end of the chain was signed.
        fingerprint: of the key that it was checked with.
        anchors: how many anchors of this store were compared.
        other_anchors: how many were of other stores.
        findings: at most a thousand; none where all is as it was signed.
    """

    store: str
    records: int
    first: int
    last: int
    pruned: int
    time: str
    fingerprint: str
    anchors: int
    other_anchors: int
    findings: tuple[Finding, ...]

    @property
    def valid(self) -> bool:
        """Return whether nothing was found."""
        return not self.findings

    @property
    def sentence(self) -> str:
        """Return the result for a person."""
        if self.findings:
            more = len(self.findings) - 1
            rest = "" if not more else f" ({more:,} more finding{'s' if more > 1 else ''})"
            return f"chain NOT valid: {self.findings[0].sentence}{rest}"
        pruned = f", {self.pruned:,} older ones pruned" if self.pruned else ""
        return f"chain valid: {self.records:,} records{pruned}"


def verify(
    database: Database,
    public_key: PublicKey,
    anchors: Iterable[Head] = (),
    *,
    given: Iterable[Head] = (),
    tables: bool = True,
) -> Verification:
    """Check a store.

    Args:
        database: of the store.
        public_key: of the key that signs its trail.
        anchors: that were kept outside of it, of this store or others; see :mod:`~.anchors`.
        given: more of them, which somebody holds against this very store: one of another store is a
            finding, since a whole other store may have been put in the place of this one.
        tables: also compare cases, decisions and people with the trail.

    Raises:
        StoreError: the database cannot be read.
    """
    with database.read() as connection:
        return verify_snapshot(connection, public_key, anchors, given=given, tables=tables)


def verify_snapshot(
    connection: Connection,
    public_key: PublicKey,
    anchors: Iterable[Head] = (),
    *,
    given: Iterable[Head] = (),
    tables: bool = True,
) -> Verification:
    """Check what a connection sees; see :func:`verify`."""
    findings = Findings()
    head = read_head(connection)
    true_head = check_head(head, public_key, findings)
    given = list(given)
    anchors = [*anchors, *given]
    row = connection.execute(
        select(RECORDS.c.sequence, RECORDS.c.digest, RECORDS.c.signature)
        .order_by(RECORDS.c.sequence)
        .limit(1)
    ).one_or_none()
    store = "" if head is None else head.store
    known = true_head or row is None
    if not known:
        store, known = _which_store(store, row, anchors, public_key)
    mine, others = _of_store(anchors, store, public_key, findings)
    _check_given(given, store, findings)
    prunes = prunes_by_last(connection)
    start = row.sequence if row is not None and isinstance(row.sequence, int) else 1
    prune = prunes.get(start - 1)
    check = ChainCheck(
        store,
        public_key,
        findings,
        seals=NOTHING if prune is None else str(prune.get("seals")),
        wanted={anchor.count: "" for anchor in mine},
        signatures=known,
    )
    rows = connection.execute(
        select(*RECORD_COLUMNS).order_by(RECORDS.c.sequence), execution_options=STREAM
    )
    check.feed(rows)
    _check_beginning(check, prune, head, findings)
    check.close(head)
    if head is not None and not findings and head.seals != check.seals:
        _name_signatures(connection, store, public_key, findings)
    _check_anchors(mine, check, findings)
    check_schema(connection, findings)
    if tables:
        check_tables(connection, start, findings)
    return Verification(
        store=store,
        records=check.records,
        first=check.first,
        last=check.last,
        pruned=max(0, start - 1) if prune is not None else 0,
        time="" if head is None else str(head.time),
        fingerprint=public_key.fingerprint,
        anchors=len(mine),
        other_anchors=others,
        findings=tuple(sorted(findings, key=lambda one: one.sequence is None)),
    )


def _which_store(claimed: str, row: Any, anchors: list[Head], key: PublicKey) -> tuple[str, bool]:
    """Return the store that the first record was signed for, and whether that is known."""
    true_anchors = [anchor.store for anchor in anchors if anchor.holds(key, PURPOSE)]
    for store in dict.fromkeys([claimed, *true_anchors]):
        message = record_message(store, row.sequence, str(row.digest))
        if signed_by(key, str(row.signature), message):
            return store, True
    return claimed, False


def _check_given(given: list[Head], store: str, findings: Findings) -> None:
    for anchor in given:
        if anchor.store != store:
            findings.add(
                None,
                "anchor",
                f"The anchor of {anchor.time} is of the store {anchor.store}, and this is "
                f"{store or 'none that is known'}: another store stands in its place.",
            )


def _of_store(
    anchors: Iterable[Head], store: str, key: PublicKey, findings: Findings
) -> tuple[list[Head], int]:
    mine, others = [], 0
    for anchor in anchors:
        if anchor.store != store:
            others += 1
        elif anchor.holds(key, PURPOSE):
            mine.append(anchor)
        else:
            findings.add(
                anchor.count,
                "anchor",
                f"The anchor of {anchor.time} was not signed with this key, or was altered.",
            )
    return mine, others


def prunes_by_last(connection: Connection) -> dict[int, dict[str, Any]]:
    """Return what the records of pruning say, by the number of the last record that each removed.

    They are records like all others: that nobody forged them, the chain says.
    """
    prunes = {}
    query = select(RECORDS.c.content).where(RECORDS.c.kind == PRUNED).order_by(RECORDS.c.sequence)
    for (text,) in connection.execute(query):
        try:
            content = json.loads(text)
            prunes[int(content["last"])] = dict(content)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # an altered record, which the chain names
    return prunes


def _check_beginning(
    check: ChainCheck, prune: dict[str, Any] | None, head: Head | None, findings: Findings
) -> None:
    if check.records == 0 or check.first < 1:
        return
    if check.first == 1:
        if check.before != NOTHING:
            findings.add(1, "altered", "Record 1 says that one came before it.")
    elif prune is None:
        findings.add(
            1,
            "removed",
            f"The records from 1 to {check.first - 1} were removed, and no record of pruning says so.",
        )
    elif prune.get("digest") != check.before:
        findings.add(
            check.first,
            "pruned",
            f"Record {check.first} does not follow the last one that was pruned.",
        )


def _name_signatures(
    connection: Connection, store: str, key: PublicKey, findings: Findings
) -> None:
    rows = connection.execute(
        select(RECORDS.c.sequence, RECORDS.c.digest, RECORDS.c.signature).order_by(
            RECORDS.c.sequence
        ),
        execution_options=STREAM,
    )
    check_each_signature(rows, store, key, findings)
    if not findings:
        findings.add(None, "signature", "The signatures are not those that the chain ended with.")


def _check_anchors(anchors: list[Head], check: ChainCheck, findings: Findings) -> None:
    for anchor in anchors:
        count = anchor.count
        if count > check.last:
            findings.add(
                check.last + 1,
                "rollback",
                f"The store was put back to an older state: on {anchor.time} it had {count:,} records, "
                f"and now it ends at record {check.last:,}.",
            )
        elif count >= check.first:
            seen = check.wanted[count]
            if seen and seen != anchor.digest:
                findings.add(
                    count,
                    "anchor",
                    f"Record {count} is not the one that the chain ended with on {anchor.time}.",
                )
        elif count == check.first - 1 and count > 0 and check.before != anchor.digest:
            findings.add(
                count,
                "anchor",
                f"Record {count}, since pruned, is not the one of the anchor of {anchor.time}.",
            )
