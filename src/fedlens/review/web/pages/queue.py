"""The queue: which cases need a person, why, and how far the work is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from fedlens.report.wording import percent
from fedlens.review.contract import (
    SOURCE_API,
    Case,
    Filters,
    NotAllowedError,
    Person,
    Progress,
    Role,
    State,
)
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.pages import words
from fedlens.review.web.pages.after import after_view
from fedlens.review.web.pages.paging import offset_of, paging
from fedlens.review.web.rendering import page
from fedlens.review.web.security import Signed, needs

CASES_A_PAGE = 25
EMPTY = "There is no case left for you: the rest is decided, deferred by you, or with others."

WEAK = "weak-class"
TO_DO = "to-do"
ALL = "all"
_STATES: Mapping[str, tuple[State, ...]] = {
    TO_DO: (State.OPEN, State.ASSIGNED, State.DEFERRED),
    ALL: (),
    **{str(state): (state,) for state in State},
}

router = APIRouter()


@dataclass(frozen=True)
class Part:
    """One state's share of the progress bar, in percent of its width."""

    kind: str
    start: float
    width: float
    words: str


@dataclass(frozen=True)
class Row:
    """One case in the list."""

    number: int
    picture: str
    predicted: str
    confidence: str
    state: str
    why: str
    need: float
    signals: list[float | None]
    decided: bool
    held: str


@dataclass(frozen=True)
class Chosen:
    """The filters as the form has them."""

    state: str
    predicted: str
    signal: str
    mine: bool

    @property
    def any(self) -> bool:
        """Return whether there is a filter at all."""
        return bool(self.state != TO_DO or self.predicted or self.signal or self.mine)


@router.get("/")
def show(request: Request, console: ConsoleOf, person: Signed) -> Response:
    """Show the queue, or the part of it that is asked for."""
    query = request.query_params
    classes = len(console.subject.class_names)
    predicted_shown = shows_predicted(console, person)
    chosen = _chosen(query, classes if predicted_shown else 0, signals := _signals(predicted_shown))
    filters = Filters(
        states=_STATES.get(chosen.state, ()),
        predicted=int(chosen.predicted) if chosen.predicted else None,
        assignee=person.name if chosen.mine else None,
        signal=chosen.signal or None,
    )
    queue = console.store.queue
    offset = offset_of(query)
    mine = queue.count(Filters(states=(State.ASSIGNED,), assignee=person.name))
    kept = {
        "state": "" if chosen.state == TO_DO else chosen.state,
        "predicted": chosen.predicted,
        "signal": chosen.signal,
        "mine": "yes" if chosen.mine else "",
    }
    everybody = console.store.people.list() if person.role is Role.LEAD else []
    return page(
        request,
        "queue.html.j2",
        said=EMPTY if query.get("said") == "empty" else "",
        after=after_view(console, person, query.get("after", "")),
        next_words="Go on with your case" if mine else "Work the next case",
        progress=progress_view(queue.progress()),
        chosen=chosen,
        shows_predicted=predicted_shown,
        states=[
            (TO_DO, "to do"),
            *((str(state), text) for state, text in words.STATES.items()),
            (ALL, "all"),
        ],
        signals=[(name, text) for name, (_, text) in signals.items()],
        heads={name: head for name, (head, _) in signals.items()},
        rows=[
            _row(case, console, person, predicted_shown)
            for case in queue.page(filters, offset, CASES_A_PAGE)
        ],
        people=[one.name for one in everybody if one.active and one.role is not Role.AUDITOR],
        paging=paging("/", kept, offset, CASES_A_PAGE, queue.count(filters)),
    )


@router.post("/next")
def work_next(console: ConsoleOf, person: Signed) -> Response:
    """Take the case that this person should see next."""
    return RedirectResponse(next_address(console, person), 303)


@router.post("/cases/{number}/take")
def take(console: ConsoleOf, person: Signed, number: int) -> Response:
    """Take one case."""
    console.store.queue.claim(person.actor, number)
    return RedirectResponse(f"/cases/{number}", 303)


@router.post("/cases/{number}/release")
def release(console: ConsoleOf, person: Signed, number: int) -> Response:
    """Give a case back."""
    console.store.queue.release(person.actor, number)
    return RedirectResponse("/", 303)


@router.post("/cases/{number}/assign")
def assign(
    console: ConsoleOf,
    person: Annotated[Person, needs(Role.LEAD)],
    number: int,
    to: Annotated[str, Form()] = "",
) -> Response:
    """Give a case to a person who may work it."""
    able = {
        one.name
        for one in console.store.people.list()
        if one.active and one.role is not Role.AUDITOR
    }
    if to not in able:
        raise NotAllowedError("A case is given to an active reviewer or lead; choose one of them.")
    console.store.queue.assign(person.actor, number, to)
    return RedirectResponse("/", 303)


def next_address(console: Console, person: Person, after: int | None = None) -> str:
    """Claim the next case and return its address; the queue's where there is none.

    Args:
        console: whose queue.
        person: who works.
        after: sequence number of the decision just made, which the page offers to undo.
    """
    case = console.store.queue.claim_next(person.actor)
    path = "/" if case is None else f"/cases/{case.number}"
    query = ([] if after is None else [f"after={after}"]) + (["said=empty"] if case is None else [])
    return f"{path}?{'&'.join(query)}" if query else path


def shows_predicted(console: Console, person: Person) -> bool:
    """Return whether the list may say what is predicted: not to whoever may come to label blind."""
    return not console.policy.blind_first or person.role is Role.AUDITOR


def _signals(predicted_shown: bool) -> Mapping[str, tuple[str, str]]:
    """Return the signals that may be told: how weak a class is, is another for each class."""
    return {name: said for name, said in words.SIGNALS.items() if predicted_shown or name != WEAK}


def progress_view(progress: Progress) -> dict[str, object]:
    """Return the progress bar: its parts, and the same in words."""
    counts = {
        "decided": progress.decided,
        "assigned": progress.assigned,
        "deferred": progress.deferred,
        "open": progress.open,
    }
    parts, start = [], 0.0
    for kind, number in counts.items():
        width = 100 * number / progress.total if progress.total else 0.0
        parts.append(Part(kind, start, width, f"{number:,} {words.STATES[State(kind)]}"))
        start += width
    share = progress.decided / progress.total if progress.total else 0.0
    total = f"{progress.decided:,} of {progress.total:,} cases decided"
    return {
        "words": f"{total} ({percent(share, 0)})" if progress.total else "No cases",
        "parts": parts,
    }


def _chosen(
    query: Mapping[str, str], classes: int, signals: Mapping[str, tuple[str, str]]
) -> Chosen:
    state, signal, predicted = (query.get(name, "") for name in ("state", "signal", "predicted"))
    known = predicted.isascii() and predicted.isdigit() and len(predicted) < 6
    return Chosen(
        state if state in _STATES else TO_DO,
        predicted if known and int(predicted) < classes else "",
        signal if signal in signals else "",
        query.get("mine") == "yes",
    )


def _row(case: Case, console: Console, person: Person, predicted_shown: bool) -> Row:
    decided = case.state is State.DECIDED
    held = case.assignee if case.state is State.ASSIGNED else None
    told = {name: case.signals.get(name) for name in _signals(predicted_shown)}
    # need and the others told exactly, what is left out could be worked out from them
    digits = 12 if predicted_shown else 1
    return Row(
        number=case.number,
        picture="" if case.source == SOURCE_API else f"/cases/{case.number}/native.png",
        predicted=console.subject.class_names[case.predicted] if predicted_shown else "",
        confidence=words.chance(case.confidence) if predicted_shown else "",
        state=words.standing(case, person.name),
        why=words.why_needy({name: value for name, value in told.items() if value is not None}),
        need=round(case.need, digits),
        signals=[None if value is None else round(value, digits) for value in told.values()],
        decided=decided,
        held=held or "",
    )
