"""The API for programs, under ``/v1``, and what watches the server."""

from fastapi import FastAPI

from fedlens.review.web.api import watching


def add_api(app: FastAPI) -> None:
    """Add the endpoints to ``app``."""
    watching.add_watching(app)
