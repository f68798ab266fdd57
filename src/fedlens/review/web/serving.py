"""Serving the application, on this machine unless it is asked otherwise."""

import ipaddress
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from fedlens.review.contract import ReviewError

CONNECTIONS = 256
"""Connections at once; what comes beyond is refused with 503."""
GRACE_SECONDS = 10


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def server(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: Path | None = None,
    key: Path | None = None,
) -> uvicorn.Server:
    """Return a server of ``app`` that is not yet running; see :func:`serve`."""
    secure = app.state.console.policy.secure_cookies
    if not is_loopback(host) and not secure:
        raise ReviewError(
            f"{host} is reached from other machines, where passwords and images need TLS: give a "
            "certificate and its key (or serve 127.0.0.1 behind a proxy that has them)."
        )
    if (certificate is None) != (key is None):
        raise ReviewError("TLS takes both a certificate and its key.")
    if certificate is not None and not secure:
        raise ReviewError("A console with a certificate also needs secure cookies.")
    for file in (certificate, key):
        if file is not None and not file.is_file():
            raise ReviewError(f"There is no file {file}.")
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_level="warning",
        access_log=False,  # the paths hold links that work once
        server_header=False,
        proxy_headers=False,  # an address that a client claims is not one to count attempts by
        http="h11",  # which limits how long a header may be
        ws="none",
        lifespan="off",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=16 * 1024,
    )
    return uvicorn.Server(config)


def serve(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Serve ``app`` until the process is told to stop; requests under way are answered first.

    Args:
        app: from :func:`~fedlens.review.web.app.create_app`.
        host: name or address to listen on.
        port: to listen on.
        certificate: PEM file, for TLS.
        key: PEM file of the certificate's key.

    Raises:
        ReviewError: the host is not this machine's loopback and there is no TLS, or a file is
            missing.
    """
    server(app, host, port, certificate, key).run()
