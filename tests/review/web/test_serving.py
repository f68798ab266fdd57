"""The application behind a real socket: what only a server can do wrong."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from fedlens.review.contract import ReviewError, Role
from fedlens.review.web.app import create_app
from fedlens.review.web.console import Console, Policy
from fedlens.review.web.serving import is_loopback, serve, server


@pytest.fixture
def address(console: Console, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr("fedlens.review.web.app.BODY_SECONDS", 0.3)
    running = server(create_app(console), port=0)
    thread = threading.Thread(target=running.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not running.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()
    running.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def talk(address: tuple[str, int], *parts: bytes) -> bytes:
    """Send bytes as they are, and return what comes back until the connection is closed."""
    with socket.create_connection(address, timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_it_answers_on_loopback_and_names_no_software(address: tuple[str, int]):
    answer = httpx.get(f"http://127.0.0.1:{address[1]}/health")
    assert answer.json() == {"alive": True, "stopped": False}
    assert "server" not in answer.headers
    assert address[0] == "127.0.0.1"


def test_a_body_that_never_ends_is_cut_off(address: tuple[str, int]):
    head = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
    answer = talk(address, head + b"Content-Type: application/x-www-form-urlencoded\r\n\r\nname=")
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_chunked_body_is_counted(address: tuple[str, int]):
    head = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    answer = talk(address, head + kind, chunk, chunk, chunk, chunk, chunk)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_two_lengths_are_none(address: tuple[str, int]):
    head = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
    smuggled = b"Content-Length: 50\r\nConnection: close\r\n\r\nname=GET / HTTP/1.1\r\n\r\n"
    assert talk(address, head + smuggled).startswith(b"HTTP/1.1 400 ")


def test_a_header_may_not_be_endless(address: tuple[str, int]):
    head = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "
    answer = talk(address, head, b"x" * 20_000)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_an_address_that_a_client_claims_does_not_count(address: tuple[str, int]):
    claims = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "evil.example"}
    url = f"http://127.0.0.1:{address[1]}"
    assert httpx.get(f"{url}/metrics", headers=claims).status_code == 401


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.evil.example", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, loopback: bool):
    assert is_loopback(host) is loopback


def test_other_machines_are_served_through_tls_alone(
    console: Console, client_of: Callable[..., TestClient], tmp_path: Path
):
    plain = create_app(console)
    with pytest.raises(ReviewError, match="need TLS"):
        serve(plain, host="0.0.0.0")
    here = tmp_path / "certificate.pem"
    here.touch()
    with pytest.raises(ReviewError, match="both"):
        serve(plain, certificate=here)
    with pytest.raises(ReviewError, match="secure cookies"):
        serve(plain, certificate=here, key=here)
    secure = client_of(console, secure_cookies=True).app
    with pytest.raises(ReviewError, match=r"no file .*gone\.pem"):
        serve(secure, host="0.0.0.0", certificate=here, key=tmp_path / "gone.pem")


def test_the_policy_is_strict_unless_somebody_asks():
    policy = Policy()
    assert (policy.blind_first, policy.neighbours, policy.api_log) == (True, False, True)
    assert {Role.REVIEWER, Role.LEAD, Role.AUDITOR} == set(Role)
