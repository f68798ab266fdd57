"""Signing in, by password or by a link that works once, and signing out.

Whoever signs in has no session yet whose token a form could send back: that another site cannot
sign somebody in is seen to by the doorman, which asks where a form comes from.
"""

import threading
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from fedlens.review.store.people import LONGEST_PASSWORD
from fedlens.review.store.sessions import folded_name
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.limits import TokenBuckets
from fedlens.review.web.rendering import page
from fedlens.review.web.security import (
    LONGEST_CREDENTIAL,
    Signed,
    check_csrf,
    forget_session,
    local_path,
    set_session,
    visitor_of,
)

ATTEMPTS_AT_ONCE = 10
SECONDS_AN_ATTEMPT = 15.0
"""A name, or an address, has ten attempts, and another each quarter of a minute."""
_CHECKS_AT_ONCE = 2
_LOST = (
    "You were signed out meanwhile, and what you sent was not recorded. Sign in, and send it again."
)
_WRONG = "The name and the password do not belong together."

router = APIRouter()


class SignInLimits:
    """How often somebody may try: by name, by address, and by how much memory the checks take."""

    def __init__(self) -> None:
        self.names = TokenBuckets(1 / SECONDS_AN_ATTEMPT, ATTEMPTS_AT_ONCE)
        self.addresses = TokenBuckets(1 / SECONDS_AN_ATTEMPT, 3 * ATTEMPTS_AT_ONCE)
        self.checks = threading.Semaphore(_CHECKS_AT_ONCE)

    def wait(self, address: str, name: str) -> float:
        """Count an attempt; return the seconds to wait before it may be made, or 0."""
        return max(self.addresses.take(address), self.names.take(folded_name(name)))


def add_limits(app: FastAPI) -> None:
    """Give ``app`` its own count of attempts."""
    app.state.sign_in_limits = SignInLimits()


@router.get("/sign-in")
def show(request: Request, next: str = "/", lost: str = "") -> Response:
    """Show the form; whoever is signed in already is taken on."""
    if visitor_of(request) is not None:
        return RedirectResponse(local_path(next), 303)
    problem = _LOST if lost == "yes" else None
    return page(request, "sign_in.html.j2", next=local_path(next), name="", problem=problem)


@router.post("/sign-in")
def sign_in(
    request: Request,
    console: ConsoleOf,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Check the password and begin a session."""

    def again(status: int, problem: str, headers: dict[str, str] | None = None) -> Response:
        return page(
            request,
            "sign_in.html.j2",
            status=status,
            headers=headers,
            next=local_path(next),
            name=name[:64],
            problem=problem,
        )

    if not name or not password:
        return again(422, "Both the name and the password are needed.")
    if len(name) > 64 or len(password) > LONGEST_PASSWORD:
        return again(422, _WRONG)
    limits: SignInLimits = request.app.state.sign_in_limits
    wait = limits.wait(_address(request), name)
    if wait > 0:
        seconds = int(wait) + 1
        return again(
            429,
            f"That was tried too often; try again in {seconds} s.",
            {"Retry-After": str(seconds)},
        )
    with limits.checks:
        person = console.store.people.check_password(name, password)
    if person is None:
        return again(401, _WRONG)
    session = console.store.people.start_session(person)
    return _signed_in(request, console, session, local_path(next))


@router.get("/link/{token}")
def follow_link(request: Request, console: ConsoleOf, token: str) -> Response:
    """Sign in by a link that works once.

    It is used up at once only where a person opened it from outside of any page (the command line
    does); what merely looks at links, or a page that leads here, gets a form with a button.
    """
    headers = request.headers
    opened = headers.get("sec-fetch-site") == "none" and "sec-purpose" not in headers
    if not opened:
        return page(request, "link.html.j2", token=token)
    return use_link(request, console, token)


@router.post("/link/{token}")
def use_link(request: Request, console: ConsoleOf, token: str) -> Response:
    """Use a link up and begin a session."""
    limits: SignInLimits = request.app.state.sign_in_limits
    tried_too_often = limits.addresses.take(_address(request)) > 0
    person = None
    if not tried_too_often and len(token) <= LONGEST_CREDENTIAL:
        person = console.store.people.use_link(token)
    if person is None:
        problem = "This link was used already or is too old; sign in, or ask for another."
        return page(request, "sign_in.html.j2", status=401, next="/", name="", problem=problem)
    session = console.store.people.start_session(person, "link")
    return _signed_in(request, console, session, "/")


@router.post("/sign-out", dependencies=[Depends(check_csrf)])
def sign_out(request: Request, console: ConsoleOf, person: Signed) -> Response:
    """End the session, here and in the store."""
    visitor = visitor_of(request)
    if visitor is not None:
        console.store.people.end_session(visitor.secret)
    response = RedirectResponse("/sign-in", 303)
    forget_session(request, response)
    return response


def _signed_in(request: Request, console: Console, session: str, then: str) -> Response:
    before = visitor_of(request)
    if before is not None:
        console.store.people.end_session(before.secret)
    response = RedirectResponse(then, 303)
    set_session(request, response, session)
    return response


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
