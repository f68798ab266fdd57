"""What watches the server: ``/health``, and ``/metrics`` for Prometheus."""

import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedlens.review.contract import Role
from fedlens.review.web.api.models import Health
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.security import visitor_of

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.12, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

router = APIRouter(tags=["watching"])


@router.get("/health")
def health(console: ConsoleOf) -> Health:
    """Say that the console is alive, which takes the store too, and whether the model is stopped."""
    return Health(alive=True, stopped=console.store.switch.state() is not None)


@router.get("/metrics", response_class=PlainTextResponse, include_in_schema=False)
def metrics(request: Request, console: ConsoleOf) -> Response:
    """Answer Prometheus: a lead or an auditor, or without a token what runs on this machine."""
    visitor = visitor_of(request)
    if visitor is None and not _on_this_machine(request, console):
        raise HTTPException(
            401, "This takes the API token of a lead or an auditor.", {"WWW-Authenticate": "Bearer"}
        )
    if visitor is not None and visitor.person.role not in (Role.LEAD, Role.AUDITOR):
        raise HTTPException(403, "This takes the role lead or auditor.")
    content = generate_latest(request.app.state.measures.registry)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


def _on_this_machine(request: Request, console: Console) -> bool:
    """Return whether the request certainly comes from this machine, and through no proxy."""
    if console.policy.secure_cookies or request.client is None:
        return False  # with TLS, whoever connects from here may be a proxy
    near = request.client.host in ("127.0.0.1", "::1")
    return near and not any(name in request.headers for name in _FORWARDED)


class _Queue(Collector):
    """Where the cases stand, asked when Prometheus asks."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def collect(self) -> Iterator[Metric]:
        progress = self.console.store.queue.progress()
        cases = GaugeMetricFamily(
            "fedlens_review_cases", "Queued cases by state.", labels=["state"]
        )
        for state in ("open", "assigned", "deferred", "decided"):
            cases.add_metric([state], getattr(progress, state))
        yield cases
        stopped = self.console.store.switch.state() is not None
        yield GaugeMetricFamily(
            "fedlens_review_stopped", "1 while the model is out of service.", value=int(stopped)
        )


class Measures:
    """What is counted while requests are answered."""

    def __init__(self, console: Console) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fedlens_review_requests",
            "Requests answered, by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "fedlens_review_request_seconds",
            "Time from a request's first line to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Queue(console))


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Measured:
    """ASGI middleware: counts and times every request, by route and never by address."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self.app = app
        self.measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = _route(scope.get("route"))
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.measures.requests.labels(method, route, str(status)).inc()
            self.measures.seconds.labels(route).observe(time.perf_counter() - began)


def _route(route: Any) -> str:
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else "other"


def add_watching(app: FastAPI) -> None:
    """Add ``/health`` and ``/metrics`` to ``app``, and what :class:`Measured` counts."""
    app.state.measures = Measures(app.state.console)
    app.include_router(router)
