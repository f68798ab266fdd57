"""A page from its template."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from fedlens.review.web.console import console_of
from fedlens.review.web.security import visitor_of


def moment(time: float | str) -> str:
    """Return seconds since 1970 or a record's time as ``2026-11-25 22:01 UTC``."""
    then = (
        datetime.fromisoformat(time) if isinstance(time, str) else datetime.fromtimestamp(time, UTC)
    )
    return f"{then:%Y-%m-%d %H:%M} UTC"


def percent(share: float, digits: int = 0) -> str:
    """Return a share in [0, 1] as a percentage, such as ``87 %``."""
    return f"{100 * share:.{digits}f} %"


@cache
def static(name: str) -> str:
    """Return the address of a static file, which changes when the file does."""
    content = resources.files("fedlens.review.web").joinpath("static", name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


ENVIRONMENT = Environment(
    loader=PackageLoader("fedlens.review.web"),
    autoescape=select_autoescape(("html.j2", "html"), default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
"""Where all templates are; the pages may add filters of their own."""
ENVIRONMENT.filters.update(moment=moment, percent=percent)
ENVIRONMENT.globals.update(static=static)


def page(
    request: Request,
    template: str,
    /,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """Return the page that ``template`` makes of ``context``.

    Every template is also given ``person`` (a Person, or None before signing in), ``csrf`` (text,
    the token that each form sends back in a field of that name), ``csrf_field`` (that field),
    ``stopped`` (who took the model out of service and why, or None), ``path``, ``policy`` and
    ``subject``. Reads the store: call it from a handler that is not ``async``.

    Args:
        request: what is answered.
        template: name of a file in ``templates``.
        status: HTTP status.
        headers: more HTTP headers.
        context: what the template shows.
    """
    console = console_of(request)
    visitor = visitor_of(request)
    csrf = "" if visitor is None else visitor.csrf
    shared: dict[str, Any] = {
        "person": None if visitor is None else visitor.person,
        "csrf": csrf,
        "csrf_field": Markup('<input type="hidden" name="csrf" value="{}">').format(csrf),
        "stopped": None if visitor is None else console.store.switch.state(),
        "path": request.url.path,
        "policy": console.policy,
        "subject": console.subject,
    }
    content = ENVIRONMENT.get_template(template).render(shared | context)
    return HTMLResponse(content, status, headers)
