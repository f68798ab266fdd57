"""Who is let in, and what a browser is told not to do.

Everything is refused unless it is named in :data:`PUBLIC`: a page or an endpoint that forgets to ask
who is there is still behind the :class:`Doorman`. What a role may do is asked by ``needs``.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends
from markupsafe import escape
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedlens.review.contract import Person, ReviewError, Role
from fedlens.review.web.console import Console, Policy, console_of

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": a browser would then send "Origin: null" with our own forms too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
Header = tuple[bytes, bytes]
STRICT_TRANSPORT = "max-age=31536000"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PUBLIC = re.compile(r"/sign-in|/link/[^/]*|/static/.*|/health|/metrics")
"""Paths that somebody who is not signed in may ask for; ``/metrics`` asks by itself."""
_PAGE_OF_A_FORM = re.compile(r"/cases/[0-9]{1,18}|/(?:stop|people|trail|password)(?=/|$)")
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
LONGEST_CREDENTIAL = 512
_ONCE_MORE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>fedlens review</title>'
    '<meta http-equiv="refresh" content="0;url={0}"><p><a href="{0}">Go on</a></p></html>'
)


@dataclass(frozen=True)
class Visitor:
    """Who makes a request, and how that is known.

    Attributes:
        person: who it is.
        csrf: what each form of the session has to send back; empty for an API token.
        through: a session of the pages, or an API token.
        secret: the session's or the API token itself; never shown and never written.
    """

    person: Person
    csrf: str
    through: Literal["session", "token"]
    secret: str

    @property
    def key(self) -> str:
        """Return what tells this session or token from others without giving it away."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Visitor({self.person.name!r}, through={self.through!r})"


def visitor_of(request: Request) -> Visitor | None:
    """Return who makes ``request``, or None."""
    visitor: Visitor | None = request.scope.get("state", {}).get("visitor")
    return visitor


async def signed(request: Request) -> Person:
    """Return the person who makes ``request``.

    Raises:
        HTTPException: 401, nobody is signed in.
    """
    visitor = visitor_of(request)
    if visitor is None:
        raise HTTPException(401, "Sign in first.")
    return visitor.person


Signed = Annotated[Person, Depends(signed)]
"""A parameter of a handler: the person who makes the request, of any role."""


def needs(*roles: Role) -> Any:
    """Return a dependency: the person who makes the request, who has one of ``roles``.

    It refuses with 401 who is not signed in, and with 403 who has another role. Used as
    ``person: Annotated[Person, needs(Role.LEAD)]``.
    """

    async def permitted(request: Request) -> Person:
        return allowed_to(request, *roles)

    return Depends(permitted)


def allowed_to(request: Request, *roles: Role) -> Person:
    """Return the person who makes ``request``, who has one of ``roles``.

    Raises:
        HTTPException: 401, nobody is signed in; 403, another role.
    """
    visitor = visitor_of(request)
    if visitor is None:
        raise HTTPException(401, "Sign in first.")
    if visitor.person.role not in roles:
        raise HTTPException(
            403,
            f"This takes the role {' or '.join(roles)}; yours is {visitor.person.role}, ask a lead.",
        )
    return visitor.person


async def check_csrf(request: Request) -> None:
    """Check that a form of the pages was sent by a page of the same session.

    A dependency of every page: it asks nothing of requests that only read.

    Raises:
        HTTPException: 403, the token is missing or another session's.
    """
    visitor = visitor_of(request)
    if request.method in SAFE_METHODS or visitor is None:
        return  # who is not signed in gets no further than the public pages
    sent = request.headers.get(CSRF_HEADER)
    if sent is None:
        field = (await request.form()).get(CSRF_FIELD)
        sent = field if isinstance(field, str) else ""
    if not same(sent, visitor.csrf):
        raise HTTPException(
            403, "This form is of another session; go back, load the page again, and repeat it."
        )


def same(sent: str, expected: str) -> bool:
    """Return whether two secrets are equal, in a time that does not tell where they differ."""
    return bool(expected) and hmac.compare_digest(sent.encode(), expected.encode())


def local_path(path: str) -> str:
    """Return ``path`` if it leads to a page of the console, else ``/``: no redirect leads out."""
    return path if re.fullmatch(r"/(?![/\\])[!-~]*", path) and "\\" not in path else "/"


def cookie_name(policy: Policy, host: str) -> str:
    """Return the name of the session's cookie.

    Browsers share cookies between the ports of a host, so that it names the port: two consoles on
    one machine do not sign each other's people out.
    """
    port = host.rpartition(":")[2]
    name = f"fedlens-{port}" if port.isascii() and port.isdigit() else "fedlens"
    return f"__Host-{name}" if policy.secure_cookies else name


def set_session(request: Request, response: Response, token: str) -> None:
    """Give the browser the session ``token``; it ends with the browser, or earlier in the store."""
    policy = console_of(request).policy
    response.set_cookie(
        cookie_name(policy, request.headers.get("host", "")),
        token,
        path="/",
        secure=policy.secure_cookies,
        httponly=True,
        samesite="strict",
    )


def forget_session(request: Request, response: Response) -> None:
    """Take the session's token from the browser."""
    policy = console_of(request).policy
    response.delete_cookie(
        cookie_name(policy, request.headers.get("host", "")),
        path="/",
        secure=policy.secure_cookies,
        httponly=True,
        samesite="strict",
    )


class SecureHeaders:
    """ASGI middleware: every answer says what a browser may not do with it.

    Args:
        app: whose answers.
        secure: it is reached through TLS alone.
    """

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self.app = app
        self.secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add to the answer's headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                message["headers"] = secured(given, scope["path"], self.secure)
            await send(message)

        await self.app(scope, receive, with_headers)


def secured(given: Iterable[Header], path: str, secure: bool) -> list[Header]:
    """Return the headers of an answer with what every answer has, which is encoded once.

    Args:
        given: of the answer.
        path: that was asked for; only static files may be kept by a browser.
        secure: the console is reached through TLS alone.
    """
    ours = _ANSWERS[path.startswith("/static/"), secure]
    return [header for header in given if header[0].lower() not in ours] + list(ours.items())


def _ours(static: bool, secure: bool) -> dict[bytes, bytes]:
    headers = dict(HEADERS)
    if not static:
        headers["Cache-Control"] = "no-store"
    if secure:
        headers["Strict-Transport-Security"] = STRICT_TRANSPORT
    return {name.lower().encode(): value.encode() for name, value in headers.items()}


_ANSWERS = {
    (static, secure): _ours(static, secure) for static in (False, True) for secure in (False, True)
}


class Doorman:
    """ASGI middleware: asks each request where it comes from and who makes it.

    In this order: the name it calls the console by (against DNS rebinding); whether another site
    made it (Origin and Fetch Metadata); who makes it (an API token, or a session), which is left
    where :func:`visitor_of` finds it. All of it before a byte of the body is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come in, and answer the rest."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope)
        console = console_of(request)
        refusal = _called_by_a_wrong_name(request, console.policy) or _from_another_site(
            request, console.policy
        )
        if refusal is None:
            try:
                visitor, refusal = await _identified(request, console)
                scope["state"] = {**scope.get("state", {}), "visitor": visitor}
            except ReviewError as error:  # the store is out of order: nobody is let in
                refusal = JSONResponse({"detail": str(error)}, error.status)
        await (self.app if refusal is None else refusal)(scope, receive, send)


def host_name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and not port.endswith("]") else host).lower()


def _called_by_a_wrong_name(request: Request, policy: Policy) -> Response | None:
    hosts = request.headers.getlist("host")
    if len(hosts) == 1 and host_name(hosts[0]) in policy.names:
        return None
    return JSONResponse({"detail": "The console is not reached by this name."}, 421)


def _from_another_site(request: Request, policy: Policy) -> Response | None:
    headers = request.headers
    reads = request.method in SAFE_METHODS
    site = headers.get("sec-fetch-site", "none")
    # A link to the console may stand anywhere; what it answers is embedded nowhere.
    link = (
        reads
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    if site in ("same-origin", "none") or link:
        origin = headers.get("origin")
        if reads or origin is None or origin == _own_origin(request, policy):
            return None
    return JSONResponse({"detail": "Requests from another site are not answered."}, 403)


def _own_origin(request: Request, policy: Policy) -> str:
    scheme = "https" if policy.secure_cookies else request.scope["scheme"]
    return f"{scheme}://{request.headers['host']}"


async def _identified(request: Request, console: Console) -> tuple[Visitor | None, Response | None]:
    """Return who makes the request, and the answer to it if it goes no further."""
    path = request.scope["path"]
    for_programs = path.startswith("/v1/") or path == "/metrics"
    visitor = await _visitor(request, console, tokens=for_programs)
    if visitor is None:
        return None, None if PUBLIC.fullmatch(path) else _not_signed_in(request, for_programs)
    if (
        for_programs
        and visitor.through == "session"
        and request.method not in SAFE_METHODS
        and not same(request.headers.get(CSRF_HEADER, ""), visitor.csrf)
    ):
        refusal = f"With a session, the API asks for its token in the header {CSRF_HEADER}."
        return visitor, JSONResponse({"detail": refusal}, 403)
    return visitor, None


async def _of_token(console: Console, secret: str) -> Person | None:
    """Return whom a token speaks for.

    SQLite answers from its own pages in a tenth of a millisecond, and its readers wait for nobody: a
    change of threads would take longer. PostgreSQL is elsewhere, and is waited for in a thread.
    """
    store = console.store
    if store.database.dialect == "sqlite":
        return store.people.token(secret)
    return await run_in_threadpool(store.people.token, secret)


async def _visitor(request: Request, console: Console, tokens: bool) -> Visitor | None:
    people = console.store.people
    authorization = request.headers.get("authorization") if tokens else None
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(secret) <= LONGEST_CREDENTIAL:
            return None
        person = await _of_token(console, secret)
        return None if person is None else Visitor(person, "", "token", secret)
    secret = request.cookies.get(cookie_name(console.policy, request.headers.get("host", "")), "")
    if not 0 < len(secret) <= LONGEST_CREDENTIAL:
        return None
    found = await run_in_threadpool(people.session, secret)
    return None if found is None else Visitor(found[0], found[1], "session", secret)


def _not_signed_in(request: Request, for_programs: bool) -> Response:
    if for_programs:
        return JSONResponse(
            {"detail": "This takes an API token: Authorization: Bearer <token>."},
            401,
            {"WWW-Authenticate": "Bearer"},
        )
    if request.method not in SAFE_METHODS:
        # What was sent is lost with the session: the page says so, and leads back to where it was.
        page = _PAGE_OF_A_FORM.match(request.url.path)
        if request.url.path == "/sign-out":
            return RedirectResponse("/sign-in", 303)
        back = f"&next={page[0]}" if page else ""
        return RedirectResponse(f"/sign-in?lost=yes{back}", 303)
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        # A link from elsewhere brings no cookie along (SameSite=Strict). What our own page then
        # asks for does, so that whoever is signed in arrives where the link leads.
        return HTMLResponse(_ONCE_MORE.format(escape(quote(local_path(asked), safe="/?&=%"))))
    wanted = "" if asked == "/" else f"?next={quote(asked, safe='/')}"
    return RedirectResponse(f"/sign-in{wanted}", 303)
