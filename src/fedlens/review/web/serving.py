"""Serving the application, on this machine unless it is asked otherwise."""

import asyncio
import ipaddress
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedlens.review.contract import ReviewError

CONNECTIONS = 256
"""Connections at once; what comes beyond is refused with 503."""
HEAD_SECONDS = 30
"""How long a connection may take to send the head of its next request."""
HEAD_BYTES = 16 * 1024
GRACE_SECONDS = 10
SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter: the model's would else make short answers wait 5 ms."""


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
    check_place(host, certificate, key, secure=app.state.console.policy.secure_cookies)
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
        http=_Impatient,
        ws="none",
        lifespan="off",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=HEAD_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        raise ReviewError(
            f"{certificate} and {key} are not a certificate and its key, in PEM and without a "
            "password."
        ) from error
    return uvicorn.Server(config)


def check_place(
    host: str, certificate: Path | None, key: Path | None, *, secure: bool, port: int | None = None
) -> None:
    """Check that the console may be served there, before the long work of getting it ready.

    Args:
        host: name or address to listen on.
        certificate, key: PEM files, for TLS, or None.
        secure: cookies are for TLS alone.
        port: is tried too where it is given; it is free again afterwards.

    Raises:
        ReviewError: see :func:`serve`.
    """
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
    if port is not None:
        listening(host, port).close()


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
        ReviewError: the host is not this machine's loopback and there is no TLS, a file is missing
            or no certificate, or nothing can listen there.
    """
    running = server(app, host, port, certificate, key)
    before = sys.getswitchinterval()
    with listening(host, port) as place:
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            running.run(sockets=[place])
        finally:
            sys.setswitchinterval(before)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to ``host`` and ``port``.

    Raises:
        ReviewError: the host is not this machine's, or the port is in use or reserved.
    """
    name = host.strip("[]")
    place = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        place = socket.socket(family, kind, protocol)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
    except OSError as error:
        if place is not None:
            place.close()
        raise ReviewError(
            f"Nothing can be served at {host}, port {port}: {error.strerror or error}; choose "
            "another port."
        ) from error
    return place


class _Impatient(H11Protocol):
    """HTTP on one connection, which is closed when the head of a request does not come in time.

    uvicorn waits for ever for a head that has begun, or that never begins: 256 silent connections
    would keep everybody else out.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._patience: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self._answering():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answering():
            self._await_head()

    def _answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if not self._answering() and not self.transport.is_closing():
            self.transport.close()
