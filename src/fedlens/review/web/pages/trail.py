"""The trail: who did what when, and whether the chain is whole."""

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fedlens.report.wording import count
from fedlens.review.contract import NotAllowedError, Person, Record, Role
from fedlens.review.store import exports
from fedlens.review.store.anchors import anchor_line, anchor_of, keep_anchor
from fedlens.review.store.trail import ANCHORED, KINDS
from fedlens.review.store.verification import Verification
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.pages.history import KINDS_IN_WORDS, record_words
from fedlens.review.web.pages.withheld import (
    is_withheld,
    unseen_of,
    without_what_is_withheld,
)
from fedlens.review.web.rendering import page
from fedlens.review.web.security import Signed, needs

RECORDS_A_PAGE = 50
FINDINGS_SHOWN = 20
Reader = Annotated[Person, needs(Role.LEAD, Role.AUDITOR)]

router = APIRouter()
_verifying = threading.Lock()


@dataclass(frozen=True)
class Line:
    """One record in the list."""

    sequence: int
    time: str
    actor: str
    role: str
    words: str
    case: int | None


@dataclass(frozen=True)
class Chosen:
    """The filters as the form has them."""

    case: str
    person: str
    kind: str

    @property
    def any(self) -> bool:
        """Return whether there is a filter at all."""
        return bool(self.case or self.person or self.kind)


@dataclass(frozen=True)
class FindingView:
    """Something that is wrong with the chain."""

    sequence: int | None
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """Whether the chain is whole, in words, and what is wrong with it."""

    whole: bool
    words: str
    findings: Sequence[FindingView]
    more: int


@router.get("/trail")
def show(request: Request, console: ConsoleOf, person: Signed) -> Response:
    """Show records, the newest first; a reviewer sees what they did themselves."""
    return _page(request, console, person, None)


@router.post("/trail/verify")
def check(request: Request, console: ConsoleOf, person: Signed) -> Response:
    """Verify the whole chain now, and show what was found; one at a time.

    Whoever comes meanwhile is told so and does not wait: who waits holds one of the threads that
    answer everybody.
    """
    if not _verifying.acquire(blocking=False):
        raise HTTPException(
            429,
            "The chain is being verified just now; try again in a moment.",
            {"Retry-After": "5"},
        )
    try:
        found = console.store.verify()
    finally:
        _verifying.release()
    return _page(request, console, person, verdict_of(found))


@router.get("/trail/export.jsonl")
def as_jsonl(console: ConsoleOf, person: Reader) -> Response:
    """Send the trail as JSONL, which can be verified on its own."""
    lines = exports.jsonl(console.store, person.actor)
    return _file(lines, "application/jsonl", "trail.jsonl")


@router.get("/trail/export.csv")
def as_csv(console: ConsoleOf, person: Reader) -> Response:
    """Send the trail as CSV."""
    lines = exports.table(console.store, person.actor)
    return _file(lines, "text/csv; charset=utf-8", "trail.csv")


@router.get("/trail/anchor.jsonl")
def anchor(console: ConsoleOf, person: Reader) -> Response:
    """Send an anchor of where the chain ends now; it is kept beside the key too."""
    console.store.trail.add(ANCHORED, person.actor, {"file": "anchor.jsonl"})
    keep_anchor(console.store.trail)
    return _file([anchor_line(anchor_of(console.store.trail))], "application/jsonl", "anchor.jsonl")


@router.get("/trail/key.pem")
def public_key(console: ConsoleOf, person: Reader) -> Response:
    """Send the key that verifies the trail and cannot sign it."""
    pem = console.store.key.public.pem().decode()
    return _file([pem], "application/x-pem-file", "review-key.pem")


@router.get("/trail/{sequence}")
def show_record(request: Request, console: ConsoleOf, person: Signed, sequence: int) -> Response:
    """Show one record, all of it."""
    record = console.store.trail.record(sequence)
    if not _reads_all(person) and record.actor != person.name:
        raise NotAllowedError(
            "A reviewer reads the records of what they did themselves; a lead or auditor reads all."
        )
    unseen = unseen_of(console, person, [record])
    words = _words(console, record, unseen, person)
    record = without_what_is_withheld(record, unseen, person)
    return page(
        request,
        "record.html.j2",
        record=record,
        words=words,
        content=json.dumps(dict(record.content), indent=2, ensure_ascii=False, sort_keys=True),
        reads_all=_reads_all(person),
        last=console.store.trail.head().count,
    )


def verdict_of(found: Verification) -> Verdict:
    """Return in words what verifying the chain found."""
    findings = [FindingView(one.sequence, one.sentence) for one in found.findings]
    sentence = found.sentence[:1].upper() + found.sentence[1:]
    if found.valid:
        anchors = f", held to {count(found.anchors, 'anchor')}" if found.anchors else ""
        return Verdict(True, f"{sentence}{anchors}.", (), 0)
    number = count(len(findings), "finding")
    return Verdict(
        False,
        f"Chain NOT valid: {number} in {found.records:,} records.",
        findings[:FINDINGS_SHOWN],
        max(0, len(findings) - FINDINGS_SHOWN),
    )


def _page(request: Request, console: Console, person: Person, verdict: Verdict | None) -> Response:
    query = request.query_params
    reads_all = _reads_all(person)
    chosen = _chosen(query, reads_all)
    actor = (chosen.person or None) if reads_all else person.name
    case = int(chosen.case) if chosen.case else None
    before = query.get("before", "")
    trail = console.store.trail
    records = trail.page(
        case=case,
        actor=actor,
        kind=chosen.kind or None,
        before=int(before) if _is_number(before) else None,
        limit=RECORDS_A_PAGE + 1,
    )
    more, records = len(records) > RECORDS_A_PAGE, records[:RECORDS_A_PAGE]
    total = trail.count(case=case, actor=actor, kind=chosen.kind or None)
    unseen = unseen_of(console, person, records)
    return page(
        request,
        "trail.html.j2",
        scope="Everything that was done" if reads_all else "What you did",
        reads_all=reads_all,
        verdict=verdict,
        fingerprint=console.fingerprint,
        chosen=chosen,
        kinds=[(kind, KINDS_IN_WORDS[kind]) for kind in KINDS],
        lines=[_line(record, _words(console, record, unseen, person)) for record in records],
        counted=f"{total:,} {'record' if total == 1 else 'records'}",
        older=_older(chosen, records[-1].sequence) if more else "",
    )


def _reads_all(person: Person) -> bool:
    return person.role in (Role.LEAD, Role.AUDITOR)


def _chosen(query: Mapping[str, str], reads_all: bool) -> Chosen:
    case, kind = query.get("case", "").strip(), query.get("kind", "")
    return Chosen(
        case if _is_number(case) else "",
        query.get("person", "").strip()[:64] if reads_all else "",
        kind if kind in KINDS else "",
    )


def _older(chosen: Chosen, before: int) -> str:
    asked = {"case": chosen.case, "person": chosen.person, "kind": chosen.kind}
    kept = {name: value for name, value in asked.items() if value}
    return f"/trail?{urlencode(kept | {'before': str(before)})}"


def _words(console: Console, record: Record, unseen: set[int], person: Person) -> str:
    if is_withheld(record, unseen, person):
        return KINDS_IN_WORDS[record.kind]
    return record_words(console, record)


def _line(record: Record, said: str) -> Line:
    time = record.time[:19].replace("T", " ")
    return Line(record.sequence, time, record.actor, record.role, said, record.case)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _file(lines: Iterable[str], media_type: str, name: str) -> Response:
    left = iter(lines)
    first = next(left, "")  # what cannot be sent is refused before anything is
    return StreamingResponse(
        chain([first], left),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
