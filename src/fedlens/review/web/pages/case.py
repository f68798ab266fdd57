"""The page of a case: seen first without the model, then with it; then decided, or given on."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from torch import Tensor

from fedlens.review.contract import (
    Case,
    Choice,
    ConflictError,
    Decision,
    NotFoundError,
    Person,
    Reason,
    ReviewError,
    Role,
    State,
    StoppedError,
)
from fedlens.review.model import Explained
from fedlens.review.model.evidence import evidence_of_case
from fedlens.review.model.neighbours import Neighbour
from fedlens.review.store.rights import must_work
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.pages.after import after_view
from fedlens.review.web.pages.asked import OPACITY, Asked, asked_of
from fedlens.review.web.pages.case_view import Seen, case_view, neighbour_view
from fedlens.review.web.pages.history import history_lines
from fedlens.review.web.pages.queue import next_address
from fedlens.review.web.pages.seeing import (
    access,
    both_maps,
    must_see,
    neighbours,
    prepare,
)
from fedlens.review.web.rendering import page
from fedlens.review.web.security import Signed
from fedlens.review.web.showing import decided_on, displayed, note_display

CANNOT_TELL = "unsure"
NONE_OF_THEM = "none"
_EMPTY: Mapping[str, str | bool] = {
    "choice": "",
    "label": "",
    "reason": "",
    "text": "",
    "misleading": False,
}

router = APIRouter()


@router.get("/cases/{number}")
def show(request: Request, console: ConsoleOf, person: Signed, number: int) -> Response:
    """Show a case; whoever has it leaves a record of opening it, and whoever works of what they saw."""
    case = console.store.queue.get(number)
    asked = _asked(console, case, request.query_params)
    return _page(request, console, person, case, asked)


@router.post("/cases/{number}/label")
def label(
    console: ConsoleOf, person: Signed, number: int, label: Annotated[str, Form()] = ""
) -> Response:
    """Keep what a person sees before the model's answer is shown, and show it."""
    case = _held(console, person, number)
    own = None if label == NONE_OF_THEM else _class_number(label)
    if own is None and label not in (NONE_OF_THEM, CANNOT_TELL):
        raise ReviewError("Choose what you see, or that you cannot tell.")
    if label != CANNOT_TELL:
        console.store.decisions.label_blind(person.actor, number, own)
    asked = _asked(console, case, {})
    maps, _, stopped = _maps(console, case, asked)
    shown = displayed(case, asked, maps, stopped=stopped)
    if label == CANNOT_TELL:
        shown["own_label"] = CANNOT_TELL
    console.store.decisions.reveal(person.actor, number, shown, _evidence(console, case, maps))
    return RedirectResponse(f"/cases/{number}", 303)


@router.post("/cases/{number}/decide")
def decide(
    request: Request,
    console: ConsoleOf,
    person: Signed,
    number: int,
    choice: Annotated[str, Form()] = "",
    label: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    text: Annotated[str, Form()] = "",
    misleading: Annotated[str, Form()] = "",
    method: Annotated[str, Form()] = "",
    second: Annotated[str, Form()] = "",
    against: Annotated[str, Form()] = "",
    opacity: Annotated[str, Form()] = "",
) -> Response:
    """Record a decision, and go on to the next case."""
    case = console.store.queue.get(number)
    form = {"method": method, "second": second, "against": against, "opacity": opacity}
    asked = _asked(console, case, form)
    if not access(console, case, person).revealed:
        raise ConflictError(
            f"Label case {number} first; then the model's answer is yours to judge."
        )
    shown, evidence = _decided_on(console, case, person, form)
    try:
        decision = Decision(
            case=number,
            displayed=shown,
            evidence=evidence,
            text=text.replace("\r\n", "\n").strip(),
            misleading=misleading == "yes",
            **_chosen(choice, label, reason),
        )
        record = console.store.decisions.decide(person.actor, decision)
    except (ConflictError, NotFoundError):
        raise
    except ReviewError as error:
        kept: dict[str, str | bool] = {
            "choice": choice,
            "label": label,
            "reason": reason,
            "text": text,
            "misleading": misleading == "yes",
        }
        return _page(
            request,
            console,
            person,
            case,
            asked,
            form=kept,
            problem=str(error),
            status=error.status,
        )
    return RedirectResponse(next_address(console, person, record.sequence), 303)


@router.post("/cases/{number}/flag")
def flag(
    console: ConsoleOf,
    person: Signed,
    number: int,
    text: Annotated[str, Form()] = "",
    method: Annotated[str, Form()] = "",
    second: Annotated[str, Form()] = "",
    against: Annotated[str, Form()] = "",
    opacity: Annotated[str, Form()] = "",
) -> Response:
    """Flag an explanation that was shown to them as misleading, outside of a decision."""
    case = console.store.queue.get(number)
    must_see(console, case, person)
    form = {"method": method, "second": second, "against": against, "opacity": opacity}
    must_work(person.actor)
    shown, _ = decided_on(console, person, case, form)
    if not shown.get("maps"):
        raise ConflictError(f"No explanation of case {number} was shown to you to be flagged.")
    said = text.replace("\r\n", "\n").strip()
    console.store.decisions.flag(person.actor, number, said, shown)
    return RedirectResponse(f"/cases/{number}", 303)


@router.post("/undo/{sequence}")
def undo(
    console: ConsoleOf, person: Signed, sequence: int, why: Annotated[str, Form()] = ""
) -> Response:
    """Take a decision back, by a record of its own, and go back to the case."""
    record = console.store.decisions.undo(person.actor, sequence, why.strip())
    return RedirectResponse(f"/cases/{record.case}?undone={sequence}", 303)


def _page(
    request: Request,
    console: Console,
    person: Person,
    case: Case,
    asked: Asked,
    *,
    form: Mapping[str, str | bool] = _EMPTY,
    problem: str = "",
    status: int = 200,
) -> Response:
    image, image_gone = _image(console, case)
    may = access(console, case, person)
    if may.mine and may.work.opened is None:
        console.store.decisions.opened(person.actor, case.number)
    maps: list[Explained] = []
    no_maps = ""
    near: list[Neighbour] = []
    if may.revealed:
        maps, no_maps, stopped = _maps(console, case, asked)
        if maps and image is not None and request.query_params.get("neighbours") == "yes":
            near = neighbours(console, image)
        shown = displayed(case, asked, maps, near, stopped=stopped)
        note_display(console, person, case, shown, _evidence(console, case, maps))
    elif may.mine and image is not None:
        prepare(console, case, image, asked)
    seen = Seen(
        mine=may.mine,
        takeable=may.takeable and image is not None,
        revealed=may.revealed,
        asked=asked,
        prediction=maps[0].prediction if maps else None,
        explained=maps,
        scales=[console.examiner.scale(one.method) for one in maps],
        blind_label=(may.work.labelled, may.work.blind),
        image_gone=image_gone,
        no_maps=no_maps,
        history=history_lines(console, case, person) if may.revealed else (),
        neighbours=[neighbour_view(one, console.subject.class_names) for one in near],
        may_ask_neighbours=console.policy.neighbours and console.subject.train is not None,
    )
    return page(
        request,
        "case.html.j2",
        status=status,
        view=case_view(case, console.subject, console.examiner.methods, seen, person.name),
        form=form,
        problem=problem,
        after=after_view(console, person, request.query_params.get("after", "")),
        undone=bool(request.query_params.get("undone")) and may.mine and case.decision is None,
    )


def _decided_on(
    console: Console, case: Case, person: Person, form: Mapping[str, str]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what a decision rests on; what it says of the model now is that it was stopped."""
    if person.role is Role.AUDITOR:  # to whom nothing was shown on record, and who is refused
        return {}, {}
    shown, evidence = decided_on(console, person, case, form)
    if console.store.switch.state() is not None:
        shown = {**shown, "stopped": True}
    return shown, evidence or _evidence(console, case, [])


def _maps(console: Console, case: Case, asked: Asked) -> tuple[list[Explained], str, bool]:
    """Return the maps, why there are none, and whether that is because the model is stopped.

    It may be stopped between one map and the next: then neither is shown.
    """
    out_of_service = "The model is out of service: its maps are not shown."
    if console.store.switch.state() is not None:
        return [], out_of_service, True
    image, gone = _image(console, case)
    if image is None:
        return [], gone, False
    try:
        maps, problem = both_maps(console, case, image, asked)
    except StoppedError:
        return [], out_of_service, True
    return maps, problem, False


def _evidence(console: Console, case: Case, maps: list[Explained]) -> dict[str, Any]:
    if maps:
        return dict(console.examiner.evidence(maps[0]))
    return evidence_of_case(case, console.examiner.identity)


def _image(console: Console, case: Case) -> tuple[Tensor | None, str]:
    try:
        return console.images.image(case), ""
    except NotFoundError as error:
        return None, str(error)


def _asked(console: Console, case: Case, query: Mapping[str, str]) -> Asked:
    methods, classes = console.examiner.methods, len(console.subject.class_names)
    # Where nobody labels first, the map waits for the person who wants it.
    waits = not console.policy.blind_first and case.state is not State.DECIDED
    return asked_of(query, methods, case.predicted, classes, 0 if waits else OPACITY)


def _held(console: Console, person: Person, number: int) -> Case:
    case = console.store.queue.get(number)
    if not access(console, case, person).mine:
        raise ConflictError(f"Case {number} is not in your hands; take it first, or another one.")
    return case


def _class_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _chosen(choice: str, label: str, reason: str) -> dict[str, Any]:
    """Return choice, label and reason of a decision; what is hidden from the person is left out."""
    if choice not in set(map(str, Choice)):
        raise ReviewError("Choose whether to accept, override or defer.")
    if choice != Choice.OVERRIDE:
        return {"choice": Choice(choice)}
    if reason and reason not in set(map(str, Reason)):
        raise ReviewError("An override needs a reason; choose the one that fits best.")
    if label == NONE_OF_THEM:
        if reason not in ("", Reason.NOT_OF_ANY_CLASS):
            raise ReviewError(
                "If it is of none of the classes, that is the reason; choose it, or choose a class."
            )
        reason = Reason.NOT_OF_ANY_CLASS
    return {
        "choice": Choice.OVERRIDE,
        "label": _class_number(label),
        "reason": Reason(reason) if reason else None,
    }
