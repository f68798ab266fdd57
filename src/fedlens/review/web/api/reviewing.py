"""What a program does for a person: decisions, cases, and what the model is."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from fedlens.review.contract import Case, Decision, NotAllowedError, Person, Role, State
from fedlens.review.model.evidence import evidence_of_case
from fedlens.review.web.api.asking import class_number
from fedlens.review.web.api.models import (
    CaseAnswer,
    ModelAnswer,
    NewDecision,
    RecordAnswer,
    Refusal,
    case_answer,
    model_answer,
    record_answer,
)
from fedlens.review.web.api.recording import evidence_of
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.security import Signed, needs
from fedlens.review.web.showing import note_answer

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": words}
    for status, words in {
        400: "The body is not JSON, or the decision does not hang together.",
        401: "No API token, or one that is not valid.",
        403: "The role, or whose case it is, does not allow it.",
        404: "There is no such case.",
        408: "The body took too long to arrive.",
        409: "The case was decided already.",
        413: "The body is too large.",
        422: "A field is missing or cannot have this value.",
        429: "Too many requests.",
        503: "The store cannot be reached.",
    }.items()
}

CaseNumber = Annotated[int, Path(ge=1, le=2**53, description="Number of the case.")]

router = APIRouter(prefix="/v1", tags=["review"], responses=REFUSALS)


@router.post("/decisions", status_code=201)
def decide(
    console: ConsoleOf,
    person: Annotated[Person, needs(Role.REVIEWER, Role.LEAD)],
    body: NewDecision,
) -> RecordAnswer:
    """Record what a person decided of a case: of an image that was sent here, or of their own."""
    label = None if body.label is None else class_number(console, body.label, "label")
    found = console.store.queue.get(body.case)
    if _withheld(console, person, found):  # whoever has it
        # which override is refused would tell what was predicted
        raise NotAllowedError(f"Take and label case {body.case} on its page first.")
    evidence, shown = evidence_of(console, body.case)
    decision = Decision(
        case=body.case,
        choice=body.choice,
        label=label,
        reason=body.reason,
        text=body.text,
        misleading=body.misleading,
        displayed={"through": "api", **shown},
        evidence=evidence or evidence_of_case(found, console.examiner.identity),
    )
    return record_answer(console.store.decisions.decide(person.actor, decision))


@router.get("/cases/{number}")
def case(console: ConsoleOf, person: Signed, number: CaseNumber) -> CaseAnswer:
    """Show a case. Where people label first, what the model says is withheld until they have."""
    found = console.store.queue.get(number)
    hidden = _withheld(console, person, found)
    if not hidden:
        note_answer(console, person, found)
    history = console.store.decisions.history(number)
    return case_answer(found, history, console.subject.class_names, hidden)


@router.get("/model")
def model(console: ConsoleOf, person: Signed) -> ModelAnswer:
    """Show the model under review."""
    stopped = console.store.switch.state() is not None
    return model_answer(console.examiner, console.fingerprint, stopped)


def _withheld(console: Console, person: Person, found: Case) -> bool:
    """Return whether ``person`` may not know yet what the model says of a case."""
    if not console.policy.blind_first or not found.queued or found.state is State.DECIDED:
        return False
    if person.role is Role.AUDITOR:
        return False
    return bool(console.store.decisions.unseen(person.actor, [found.number]))
