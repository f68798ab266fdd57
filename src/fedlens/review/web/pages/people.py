"""The people of the console and its API tokens, for leads; and everybody's own password."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from fedlens.review.contract import NotAllowedError, Person, ReviewError, Role
from fedlens.review.store.sessions import folded_name
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.pages.sign_in import SignInLimits
from fedlens.review.web.rendering import page
from fedlens.review.web.security import Signed, forget_session, needs

Lead = Annotated[Person, needs(Role.LEAD)]
Text = Annotated[str, Form()]
_DONE = {
    "added": "Added.",
    "changed": "Changed; they were signed out everywhere.",
    "revoked": "Revoked.",
}

router = APIRouter()


@dataclass(frozen=True)
class Secret:
    """What is shown this once."""

    title: str
    value: str
    note: str


@router.get("/people")
def show(request: Request, console: ConsoleOf, person: Lead) -> Response:
    """Show who may use the console."""
    return _page(request, console, said=_DONE.get(request.query_params.get("done", ""), ""))


@router.post("/people/add")
def add(
    request: Request,
    console: ConsoleOf,
    person: Lead,
    name: Text = "",
    password: Text = "",
    role: Text = "",
) -> Response:
    """Add a person."""
    try:
        console.store.people.add(name.strip(), password, _role(role), person.actor)
    except ReviewError as error:
        return _page(request, console, error, form={"name": name, "role": role})
    return RedirectResponse("/people?done=added", 303)


@router.post("/people/role")
def change_role(
    request: Request, console: ConsoleOf, person: Lead, name: Text = "", role: Text = ""
) -> Response:
    """Give a person another role."""

    def work() -> None:
        _check_another(person, name)
        console.store.people.change(name, person.actor, role=_role(role))

    return _settled(request, console, work, "changed")


@router.post("/people/active")
def change_active(
    request: Request, console: ConsoleOf, person: Lead, name: Text = "", active: Text = ""
) -> Response:
    """Let a person sign in, or no more."""

    def work() -> None:
        _check_another(person, name)
        console.store.people.change(name, person.actor, active=active == "yes")

    return _settled(request, console, work, "changed")


@router.post("/people/password")
def set_password(
    request: Request, console: ConsoleOf, person: Lead, name: Text = "", password: Text = ""
) -> Response:
    """Give a person who forgot theirs another password; the trail says who did."""
    people = console.store.people
    work = partial(people.change, name, person.actor, password=password)
    return _settled(request, console, work, "changed")


@router.post("/people/token")
def add_token(
    request: Request, console: ConsoleOf, person: Lead, name: Text = "", role: Text = ""
) -> Response:
    """Add an API token, and show it this once."""
    name = name.strip()
    try:
        token = console.store.people.add_token(name, _role(role), person.actor)
    except ReviewError as error:
        return _page(request, console, error)
    return _page(
        request,
        console,
        secret=Secret(
            f"The token of {name}",
            token,
            "It is shown this once: copy it now. Programs send it as “Authorization: Bearer”.",
        ),
    )


@router.post("/people/revoke")
def revoke(request: Request, console: ConsoleOf, person: Lead, name: Text = "") -> Response:
    """Let an API token count no more."""
    work = partial(console.store.people.revoke_token, name, person.actor)
    return _settled(request, console, work, "revoked")


def _settled(request: Request, console: Console, work: Callable[[], object], said: str) -> Response:
    """Do what a form asks, and show the page of people with what was done, or with why it was not."""
    try:
        work()
    except ReviewError as error:
        return _page(request, console, error)
    return RedirectResponse(f"/people?done={said}", 303)


@router.get("/password")
def show_password(request: Request, person: Signed) -> Response:
    """Show the form to change one's own password."""
    return page(request, "password.html.j2", problem="")


@router.post("/password")
def change_password(
    request: Request,
    console: ConsoleOf,
    person: Signed,
    old: Text = "",
    new: Text = "",
    again: Text = "",
) -> Response:
    """Change one's own password; who stands at a screen left open cannot, without the old one."""

    def problem(status: int, sentence: str) -> Response:
        return page(request, "password.html.j2", status=status, problem=sentence)

    if new != again:
        return problem(400, "The two new passwords are not the same.")
    limits: SignInLimits = request.app.state.sign_in_limits
    wait = limits.names.take(folded_name(person.name))
    if wait > 0:
        return problem(429, f"That was tried too often; try again in {int(wait) + 1} s.")
    with limits.checks:
        known = console.store.people.check_password(person.name, old)
    if known is None:
        return problem(400, "The password now is another one.")
    try:
        console.store.people.change(person.name, person.actor, password=new)
    except ReviewError as error:
        return problem(error.status, str(error))
    response = RedirectResponse("/sign-in", 303)
    forget_session(request, response)
    return response


def _check_another(person: Person, name: str) -> None:
    if folded_name(name) == folded_name(person.name):  # the store takes any case for the same
        raise NotAllowedError("Nobody locks themselves out: another lead changes your role.")


def _role(text: str) -> Role:
    if text not in set(map(str, Role)):
        raise ReviewError(f"There is no such role, expected {', '.join(Role)}.")
    return Role(text)


def _page(
    request: Request,
    console: Console,
    error: ReviewError | None = None,
    *,
    said: str = "",
    secret: Secret | None = None,
    form: dict[str, str] | None = None,
) -> Response:
    people = console.store.people
    return page(
        request,
        "people.html.j2",
        status=200 if error is None else error.status,
        problem="" if error is None else str(error),
        said=said,
        secret=secret,
        people=people.list(),
        tokens=people.tokens(),
        roles=[str(role) for role in Role],
        form={"name": "", "role": str(Role.REVIEWER)} | (form or {}),
    )
