"""The trail as a file: JSON lines that verify by themselves, and CSV for a spreadsheet."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, select

from fedlens.review.contract import Actor, ReviewError
from fedlens.review.store.chain import NOTHING, Head, canonical, in_words
from fedlens.review.store.checking import ChainCheck, Findings, check_head
from fedlens.review.store.database import last_work
from fedlens.review.store.end import read_head
from fedlens.review.store.signing import PublicKey
from fedlens.review.store.tables import RECORDS
from fedlens.review.store.trail import EXPORTED, PRUNED, RECORD_COLUMNS
from fedlens.review.store.verification import Verification, prunes_by_last

if TYPE_CHECKING:
    from fedlens.review.store.store import Store

T = TypeVar("T", bound=BaseModel)
FORMAT = 1
PURPOSE = "export"
LARGEST_LINE = 1 << 20
_STREAM = {"yield_per": 500}
_CSV = ("sequence", "time", "kind", "actor", "role", "case", "content", "previous", "digest")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class _First(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: int
    store: str = Field(max_length=64)
    first: int = Field(ge=0)
    previous: str = Field(max_length=64)
    seals: str = Field(max_length=64)


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sequence: int
    time: str
    kind: str
    actor: str
    role: str
    case: int | None
    content: dict[str, Any]
    previous: str
    digest: str
    signature: str


class _Last(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    store: str
    count: int
    digest: str
    seals: str
    time: str
    fingerprint: str
    signature: str


def jsonl(store: "Store", actor: Actor) -> Iterator[str]:
    """Record an export, and yield the trail up to that record as lines of JSON.

    The first line says which store it is and where the chain begins; then comes one line a record;
    the last is the signed end. :func:`verify_export` checks such a file without the store.

    Args:
        store: to be exported.
        actor: who exports.

    Raises:
        ReviewError: the end of the trail is not what was signed.
    """
    return _jsonl(store, _recorded(store, actor, "jsonl"))


def _recorded(store: "Store", actor: Actor, kind: str) -> Head:
    """Record an export; return where the chain ends with that record.

    What comes after it is not exported: by the record's number it is known what its actor was told.
    """

    def work(connection: Connection) -> Head:
        store.trail.append(connection, EXPORTED, actor, {"format": kind})
        sealing = cast("partial[None]", last_work(connection)["head"])
        head: Head = sealing.args[0]  # as it is signed if nothing comes after it
        return head

    return store.database.write(work)


def _jsonl(store: "Store", until: Head) -> Iterator[str]:
    with store.database.read() as connection:
        head = read_head(connection)
        if head is None or not head.holds(store.key.public):
            raise ReviewError("The end of the trail is not what was signed; verify the store.")
        rows = connection.execute(
            select(*RECORD_COLUMNS)
            .where(RECORDS.c.sequence <= until.count)
            .order_by(RECORDS.c.sequence),
            execution_options=_STREAM,
        )
        begun = False
        for row in rows:
            values = {name: _unicode(value) for name, value in row._mapping.items()}
            if not begun:
                begun = True
                yield _line(_beginning(connection, head.store, values))
            content = values.pop("content")
            # spliced as it is kept: what was altered must not be put right by writing it anew
            text = canonical({**values, "content": None})
            yield text.replace('"content":null', f'"content":{content}', 1) + "\n"
    now = in_words(store.clock())
    end = Head(until.store, until.count, until.digest, until.seals, now, until.fingerprint)
    yield _line(end.signed(store.key, PURPOSE).__dict__)


def _unicode(value: Any) -> Any:
    """What somebody made unreadable must not keep the rest from being exported."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _beginning(connection: Any, store: str, first: Mapping[str, Any]) -> dict[str, Any]:
    sequence = first["sequence"]
    prune = {} if sequence == 1 else prunes_by_last(connection).get(sequence - 1, {})
    return {
        "format": FORMAT,
        "store": store,
        "first": sequence,
        "previous": first["previous"],
        "seals": NOTHING if sequence == 1 else str(prune.get("seals", NOTHING)),
    }


def _line(value: Mapping[str, Any]) -> str:
    return canonical(dict(value)) + "\n"


def table(store: "Store", actor: Actor) -> Iterator[str]:
    """Record an export, and yield the trail as lines of CSV, with a first line of names.

    A cell that a spreadsheet would take for a formula begins with an apostrophe; for checking the
    chain, export JSON lines.

    Args:
        store: to be exported.
        actor: who exports.
    """
    return _table(store, _recorded(store, actor, "csv"))


def _table(store: "Store", until: Head) -> Iterator[str]:
    yield _row(_CSV)
    columns = [RECORDS.c[name] for name in _CSV]
    with store.database.read() as connection:
        rows = connection.execute(
            select(*columns).where(RECORDS.c.sequence <= until.count).order_by(RECORDS.c.sequence),
            execution_options=_STREAM,
        )
        for row in rows:
            yield _row(tuple(_safe(_unicode(value)) for value in row))


def _row(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def verify_export(lines: Iterable[str], public_key: PublicKey) -> Verification:
    """Check an exported file of JSON lines by itself.

    Args:
        lines: of the file, from anywhere.
        public_key: of the key that signed the trail.

    Raises:
        ReviewError: it is no export of a trail: a line is missing or is not what it should be.
    """
    left = _limited(lines)
    first = _parsed(_First, next(left, ""), 1)
    if first.format != FORMAT:
        raise ReviewError(f"The export is of format {first.format}, expected {FORMAT}.")
    findings = Findings()
    check = ChainCheck(first.store, public_key, findings, seals=first.seals)
    ends: list[Head] = []
    prunes: list[Mapping[str, Any]] = []
    check.feed(_records(left, ends, prunes, findings))
    if not ends:
        raise ReviewError("The export has no signed end: it was cut off.")
    (end,) = ends
    check_head(end, public_key, findings, PURPOSE)
    if check.first != first.first or check.before != first.previous:
        findings.add(first.first, "removed", "The export does not begin as it says.")
    _check_beginning(first, prunes, findings)
    check.close(end, PURPOSE)
    if end.store != first.store:
        findings.add(None, "head", "The end of the export is of another store.")
    if not findings and end.seals != check.seals:
        findings.add(None, "signature", "The signature of a record in the export was altered.")
    return Verification(
        store=first.store,
        records=check.records,
        first=check.first,
        last=check.last,
        pruned=max(0, first.first - 1),
        time=end.time,
        fingerprint=public_key.fingerprint,
        anchors=0,
        other_anchors=0,
        findings=tuple(findings),
    )


def _check_beginning(first: _First, prunes: list[Mapping[str, Any]], findings: Findings) -> None:
    """What an export says of its beginning anyone can write; a signed record has to say it too."""
    if first.first <= 1:
        if (first.first, first.previous, first.seals) != (1, NOTHING, NOTHING):
            findings.add(1, "altered", "The export says that something came before its record 1.")
        return
    begins = {"last": first.first - 1, "digest": first.previous, "seals": first.seals}
    if not any(begins.items() <= prune.items() for prune in prunes):
        findings.add(
            1,
            "removed",
            f"The records from 1 to {first.first - 1} were removed, and no record of pruning in the "
            "export says so.",
        )


def _records(
    lines: Iterator[str], ends: list[Head], prunes: list[Mapping[str, Any]], findings: Findings
) -> Iterator[tuple[Any, ...]]:
    before = next(lines, None)
    number = 2
    for line in lines:
        assert before is not None
        record = _parsed(_Line, before, number)
        if _line(record.model_dump()) != before:  # such as a key twice, of which JSON reads one
            findings.add(
                record.sequence, "altered", f"Record {record.sequence} is not as it was exported."
            )
        if record.kind == PRUNED:
            prunes.append(record.content)
        yield (
            record.sequence,
            record.time,
            record.kind,
            record.actor,
            record.role,
            record.case,
            canonical(record.content),
            record.previous,
            record.digest,
            record.signature,
        )
        before, number = line, number + 1
    if before is not None:
        ends.append(Head(**_parsed(_Last, before, number).model_dump()))


def _limited(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if len(line) > LARGEST_LINE:
            raise ReviewError("The export has a line that is longer than any record.")
        if line.strip():
            yield line.rstrip("\r\n") + "\n"


def _parsed(kind: type[T], line: str, number: int) -> T:
    try:
        return kind.model_validate(json.loads(line))
    except (ValidationError, ValueError, RecursionError) as error:
        raise ReviewError(f"Line {number} is not one of an export of a trail.") from error
