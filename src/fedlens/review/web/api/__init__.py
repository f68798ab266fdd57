"""The API for programs, under ``/v1``, and what watches the server."""

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from fedlens.review.web.api import asking, reviewing, watching


def add_api(app: FastAPI) -> None:
    """Add the endpoints to ``app``, whose state has the console."""
    asking.add_desk(app.state, app.state.console)
    bearer: Any = Depends(HTTPBearer(auto_error=False, description="An API token."))
    for router in (asking.router, reviewing.router):
        app.include_router(router, dependencies=[bearer])  # for the document: the doorman checks
    watching.add_watching(app)
