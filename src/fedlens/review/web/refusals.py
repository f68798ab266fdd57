"""What is refused, in one sentence: as a page for people, as JSON for programs."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from fedlens.errors import FedlensError
from fedlens.review.contract import ReviewError
from fedlens.review.web.console import console_of
from fedlens.review.web.rendering import page
from fedlens.review.web.security import secured

_LOG = logging.getLogger(__name__)
_UNEXPECTED = "Something went wrong on our side; nothing was changed. The server's log says more."
_OUR_WORDS = {  # for what the framework says
    "Not Found": "There is nothing here; the address may be mistyped.",
    "Method Not Allowed": "This address does not take such a request.",
    "There was an error parsing the body": "The body is damaged, or not what it says it is.",
}
_CASE = re.compile(r"/cases/([0-9]{1,18})/")
_TITLES = {401: "Sign in first", 403: "Not allowed", 404: "Not found", 409: "Overtaken"}


def refused(
    request: Request, status: int, sentence: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer that refuses ``request`` in one sentence."""
    path = request.url.path
    if path.startswith("/v1/") or path in ("/health", "/metrics"):
        return JSONResponse({"detail": sentence}, status, headers)
    title = _TITLES.get(status, "That did not work" if status < 500 else "Out of order")
    case = _CASE.match(path)
    about = {"title": title, "sentence": sentence, "case": int(case[1]) if case else None}
    try:
        return page(request, "error.html.j2", status=status, headers=headers, **about)
    except FedlensError:  # the store that a page is drawn with may be what is out of order
        return PlainTextResponse(sentence, status, headers)


def in_words(error: Mapping[str, Any]) -> str:
    """Return one error of a validation as a sentence that names the field."""
    where = ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0])
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{where}: {message}."


def refusal_of(request: Request, error: FedlensError | HTTPException) -> Response:
    """Return the answer that says in one sentence what ``error`` says."""
    if isinstance(error, HTTPException):
        sentence = _OUR_WORDS.get(str(error.detail), str(error.detail))
        return refused(request, error.status_code, sentence, error.headers)
    status = error.status if isinstance(error, ReviewError) else 400
    headers = {"Retry-After": "60"} if status == 503 else None
    return refused(request, status, str(error), headers)


def add_refusals(app: FastAPI) -> None:
    """Have ``app`` answer every error in one sentence, and never with a traceback."""

    def expected(request: Request, error: Exception) -> Response:
        assert isinstance(error, FedlensError | HTTPException)
        return refusal_of(request, error)

    def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        in_path = all(each["loc"][0] == "path" for each in error.errors())
        if in_path and not request.url.path.startswith("/v1/"):  # no page has such a number
            return refused(request, 404, _OUR_WORDS["Not Found"])
        sentences = [in_words(each) for each in error.errors()[:3]]
        return refused(request, 422, " ".join(sentences))

    def unexpected(request: Request, error: Exception) -> Response:
        # The route, not the path: that may hold a link that works once.
        route = getattr(request.scope.get("route"), "path", "a request")
        _LOG.error("%s %s failed: %s", request.method, route, type(error).__name__)
        response = JSONResponse({"detail": _UNEXPECTED}, 500)
        # This handler alone runs outside of all middleware.
        secure = console_of(request).policy.secure_cookies
        response.raw_headers = secured(response.raw_headers, request.url.path, secure)
        return response

    app.add_exception_handler(FedlensError, expected)
    app.add_exception_handler(HTTPException, expected)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(Exception, unexpected)
