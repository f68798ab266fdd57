"""The application behind a real socket: what only a server can do wrong."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from starlette.testclient import TestClient

from fedlens.review.contract import Person, ReviewError, Role
from fedlens.review.web.app import create_app
from fedlens.review.web.console import Console, Policy
from fedlens.review.web.serving import is_loopback, listening, serve, server


@contextmanager
def running(app: FastAPI, *certificate: Path) -> Iterator[tuple[str, int]]:
    """Serve on a free port of loopback; yield the address."""
    serving = server(app, "127.0.0.1", 0, *certificate)
    with listening("127.0.0.1", 0) as place:
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [place]})
        thread.start()
        deadline = time.monotonic() + 20
        while not serving.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield place.getsockname()
        finally:
            serving.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def address(console: Console, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr("fedlens.review.web.app.BODY_SECONDS", 0.3)
    monkeypatch.setattr("fedlens.review.web.serving.HEAD_SECONDS", 0.5)
    with running(create_app(console)) as place:
        yield place


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


@pytest.mark.parametrize("parts", [(), (b"GET /health HT",), (b"GET / HTTP/1.1\r\nHost: a\r\n",)])
def test_a_head_that_never_ends_is_cut_off(address: tuple[str, int], parts: tuple[bytes, ...]):
    assert talk(address, *parts) == b""


def test_a_connection_is_kept_while_it_is_used(address: tuple[str, int]):
    with httpx.Client(base_url=f"http://127.0.0.1:{address[1]}") as browser:
        for _ in range(5):
            assert browser.get("/health").status_code == 200
            time.sleep(0.15)  # together longer than a head may take


def certified(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "certificate.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def test_with_a_certificate_it_speaks_tls_alone(
    console: Console,
    client_of: Callable[..., TestClient],
    people: dict[Role, Person],
    password: str,
    tmp_path: Path,
):
    certificate, key = certified(tmp_path)
    app = client_of(console, secure_cookies=True).app
    with running(app, certificate, key) as (_, port):  # type: ignore[arg-type]
        trust = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust) as browser:
            form = {"name": "lead", "password": password}
            answer = browser.post(
                "/sign-in", data=form, headers={"Origin": f"https://127.0.0.1:{port}"}
            )
            assert answer.status_code == 303
            assert answer.headers["Set-Cookie"].startswith(f"__Host-fedlens-{port}=")
            assert "Strict-Transport-Security" in answer.headers
            assert browser.get("/nothing-is-here").status_code == 404
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health")


def test_a_port_that_is_taken_is_said_in_a_sentence(console: Console):
    with listening("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ReviewError, match=f"port {port}: Address already in use; choose"):
            serve(create_app(console), port=port)


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
    with pytest.raises(ReviewError, match="are not a certificate and its key"):
        serve(secure, host="0.0.0.0", certificate=here, key=here)
    with pytest.raises(ReviewError, match=r"no file .*gone\.pem"):
        serve(secure, host="0.0.0.0", certificate=here, key=tmp_path / "gone.pem")


def test_the_policy_is_strict_unless_somebody_asks():
    policy = Policy()
    assert (policy.blind_first, policy.neighbours, policy.api_log) == (True, False, True)
    assert {Role.REVIEWER, Role.LEAD, Role.AUDITOR} == set(Role)


UPGRADES = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def test_a_body_behind_an_upgrade_is_no_second_request(address: tuple[str, int]):
    """A client that would like HTTP/2 sends these; whoever reads past the body is led astray."""
    inner = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n%bContent-Length: %d\r\n\r\n"
    answer = talk(address, head % (UPGRADES, len(inner)), inner)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401"))


def test_the_trailers_of_a_body_end(address: tuple[str, int]):
    head = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    answer = b""
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head)
        sent = 0
        try:
            while sent < 50_000_000:
                connection.sendall(b"a: b\r\n" * 10_000)
                sent += 60_000
            answer = connection.recv(65536)
        except OSError:
            pass
    assert sent < 20_000_000, answer
