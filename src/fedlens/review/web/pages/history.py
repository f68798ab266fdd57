"""Records of the trail in words."""

from fedlens.review.contract import Case, Person, Record, Role
from fedlens.review.store import trail
from fedlens.review.store.work import maps_are_on
from fedlens.review.web.console import Console
from fedlens.review.web.pages import words
from fedlens.review.web.pages.after import decided_words
from fedlens.review.web.pages.case_view import HistoryLine
from fedlens.review.web.rendering import moment

LONGEST = 160
KINDS_IN_WORDS = {
    trail.SERVING_BEGAN: "the console was started",
    trail.CASES_ADDED: "cases came in",
    trail.OPENED: "opened the case",
    trail.LABELLED_BLIND: "labelled it before seeing the prediction",
    trail.REVEALED: "was shown the prediction",
    trail.DECIDED: "decided",
    trail.UNDONE: "took a decision back",
    trail.FLAGGED: "flagged the explanation as misleading",
    trail.ASSIGNED: "gave the case to a person",
    trail.RELEASED: "gave the case back",
    trail.PREDICTED: "had an image predicted through the API",
    trail.EXPLAINED: "had a prediction explained through the API",
    trail.STOPPED: "stopped the model",
    trail.RESUMED: "put the model back into service",
    trail.PERSON_ADDED: "added a person",
    trail.PERSON_CHANGED: "changed a person",
    trail.SIGNED_IN: "signed in",
    trail.SIGN_IN_REFUSED: "was refused at signing in",
    trail.EXPORTED: "exported the trail",
    trail.PRUNED: "removed the oldest records",
    trail.ANCHORED: "wrote down where the chain ends",
}
"""Kind of record -> what its actor did."""


def record_words(console: Console, record: Record) -> str:
    """Return a record as a sentence without its actor, such as ``overridden: Shirt, not Coat``."""
    content = record.content
    if record.kind == trail.DECIDED:
        text = decided_words(console, record)
        return f"{text}; flagged as misleading" if content.get("misleading") else text
    said = KINDS_IN_WORDS.get(record.kind, record.kind)
    if record.kind == trail.LABELLED_BLIND:
        label = words.class_name(content.get("label"), console.subject.class_names)
        return f"said {label} before seeing the prediction"
    if record.kind == trail.REVEALED:
        return f"{said}{_maps_in_words(content)}"
    if record.kind == trail.CASES_ADDED:
        came = content.get("cases")
        return f"{said}: {len(came):,}" if isinstance(came, list) else said
    if record.kind == trail.UNDONE:
        said = f"took back the decision in record {content.get('record')}"
    if record.kind in (trail.PERSON_ADDED, trail.PERSON_CHANGED):
        said = f"{said}: {content.get('name')}, {content.get('role')}"
    if record.kind == trail.ASSIGNED:
        said = f"gave the case to {content.get('to')}"
    detail = str(content.get("why") or content.get("text") or "").strip()
    return f"{said}: {_short(detail)}" if detail else said


def history_lines(console: Console, case: Case, person: Person) -> list[HistoryLine]:
    """Return what happened to a case, the oldest first, with links for whoever may follow them."""
    reads = person.role is not Role.REVIEWER
    lines = []
    for record in console.store.decisions.history(case.number):
        standing = record.kind == trail.DECIDED and record.sequence == case.decision
        theirs = record.actor == person.name and person.role is not Role.AUDITOR
        lines.append(
            HistoryLine(
                time=moment(record.time),
                words=f"{record.actor} {_joined(record_words(console, record), record.kind)}",
                address=f"/trail/{record.sequence}" if reads or theirs else "",
                undo=(
                    record.sequence if standing and (theirs or person.role is Role.LEAD) else None
                ),
            )
        )
    return lines


def _joined(said: str, kind: str) -> str:
    return said.replace("overridden:", "overrode it:") if kind == trail.DECIDED else said


def _maps_in_words(content: object) -> str:
    shown = content.get("displayed", {}) if isinstance(content, dict) else {}
    maps = shown.get("maps", []) if isinstance(shown, dict) else []
    names = [str(one.get("method", "")) for one in maps if isinstance(one, dict)]
    if not names:
        return ""
    if maps_are_on(shown):
        return f" with {' and '.join(names)}"
    return f", with the maps of {' and '.join(names)} off"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
