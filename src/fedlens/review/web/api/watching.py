"""What watches the server: ``/health`` and ``/metrics``."""

from fastapi import FastAPI


def add_watching(app: FastAPI) -> None:
    """Add ``/health`` and ``/metrics`` to ``app``."""
