"""What was just decided, and the way back."""

from dataclasses import dataclass

from fedlens.review.contract import Choice, Person, Reason, Record
from fedlens.review.web.console import Console
from fedlens.review.web.pages import words

RECENT = 20


@dataclass(frozen=True)
class AfterView:
    """The notice of a decision just made; ``undo`` tells whether it still may be taken back."""

    sequence: int
    words: str
    undo: bool


def after_view(console: Console, person: Person, sequence: str) -> AfterView | None:
    """Return the notice of the decision that an address names, if it is this person's and stands."""
    if not sequence.isascii() or not sequence.isdigit() or len(sequence) > 18:
        return None
    number = int(sequence)
    recent = console.store.decisions.recent(person.actor, RECENT)
    found = next((record for record in recent if record.sequence == number), None)
    if found is None:
        return None
    return AfterView(number, f"Case {found.case} {decided_words(console, found)}.", undo=True)


def decided_words(console: Console, record: Record) -> str:
    """Return what a record of a decision decided, such as ``accepted as Coat``."""
    content = record.content
    reason = content.get("reason")
    return words.decision_words(
        Choice(content["choice"]),
        content["predicted"],
        content.get("label"),
        Reason(reason) if reason else None,
        console.subject.class_names,
    )
