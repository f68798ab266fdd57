"""The stop switch: anyone who works cases may take the model out of service, a lead puts it back."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from fedlens.review.contract import NotAllowedError, Record, ReviewError
from fedlens.review.store.trail import RESUMED, STOPPED
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.pages.history import record_words
from fedlens.review.web.rendering import moment, page
from fedlens.review.web.security import Signed

SHOWN = 20

router = APIRouter()


@dataclass(frozen=True)
class Turn:
    """One turn of the switch."""

    time: str
    actor: str
    role: str
    words: str


@router.get("/stop")
def show(request: Request, console: ConsoleOf, person: Signed) -> Response:
    """Show whether the model is in service, and who turned the switch when."""
    return _page(request, console)


@router.post("/stop")
def stop(
    request: Request, console: ConsoleOf, person: Signed, why: Annotated[str, Form()] = ""
) -> Response:
    """Take the model out of service."""
    try:
        console.store.switch.stop(person.actor, why.strip())
    except NotAllowedError:
        raise
    except ReviewError as error:
        return _page(request, console, error, why)
    return RedirectResponse("/stop", 303)


@router.post("/stop/resume")
def resume(
    request: Request, console: ConsoleOf, person: Signed, why: Annotated[str, Form()] = ""
) -> Response:
    """Put the model back into service."""
    try:
        console.store.switch.resume(person.actor, why.strip())
    except NotAllowedError:
        raise
    except ReviewError as error:
        return _page(request, console, error, why)
    return RedirectResponse("/stop", 303)


def _page(
    request: Request, console: Console, error: ReviewError | None = None, why: str = ""
) -> Response:
    records = [
        record
        for kind in (STOPPED, RESUMED)
        for record in console.store.trail.page(kind=kind, limit=SHOWN)
    ]
    newest = sorted(records, key=lambda record: -record.sequence)[:SHOWN]
    return page(
        request,
        "stop.html.j2",
        status=200 if error is None else error.status,
        problem="" if error is None else str(error),
        why=why,
        turns=[_turn(console, record) for record in newest],
    )


def _turn(console: Console, record: Record) -> Turn:
    return Turn(moment(record.time), record.actor, record.role, record_words(console, record))
