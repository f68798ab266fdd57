"""A short way to the endpoints that programs call all day.

FastAPI solves the dependencies of an endpoint anew at every request, and looks through all routes
first: that takes longer than to answer one. What it says of these endpoints in its document holds;
what it would do before them is done here: who may call is asked, and an error is answered.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fedlens.errors import FedlensError
from fedlens.review.contract import Person, Role
from fedlens.review.web.console import Console, console_of
from fedlens.review.web.refusals import refusal_of
from fedlens.review.web.security import allowed_to

Endpoint = Callable[[Request, Console, Person], Awaitable[Response]]


@dataclass(frozen=True)
class Lane:
    """One endpoint.

    Attributes:
        path: that it is called by, with POST.
        endpoint: answers.
        roles: may call it.
    """

    path: str
    endpoint: Endpoint
    roles: tuple[Role, ...]


class Lanes:
    """ASGI middleware, the innermost: calls endpoints by their path, and passes on the rest."""

    def __init__(self, app: ASGIApp, lanes: Mapping[str, Lane]) -> None:
        self.app = app
        self.lanes = lanes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        lane = self.lanes.get(scope["path"]) if scope["type"] == "http" else None
        if lane is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        scope["route"] = lane  # by which it is counted
        request = Request(scope, receive)
        try:
            person = allowed_to(request, *lane.roles)
            response = await lane.endpoint(request, console_of(request), person)
        except (FedlensError, HTTPException) as error:
            response = refusal_of(request, error)
        await response(scope, receive, send)
