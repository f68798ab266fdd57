import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from fastapi import APIRouter
from starlette.testclient import TestClient

from fedlens.review.contract import Actor, Person, Role
from fedlens.review.store import Store, StoreError
from fedlens.review.web.api import asking, reviewing, watching
from fedlens.review.web.console import Console
from fedlens.review.web.pages import routers
from fedlens.review.web.pages import sign_in as signing_in
from fedlens.review.web.security import host_name, local_path

Make = Callable[..., TestClient]
SignIn = Callable[[TestClient, Role], str]
EVIL = "https://evil.example"
FOR_ANYBODY = {"/sign-in", "/link/1", "/health", "/metrics"}


def every_route() -> list[tuple[str, str]]:
    """Return method and path of all that the application answers."""
    found = [("GET", "/v1/openapi.json"), ("GET", "/nothing-is-here"), ("POST", "/nothing")]
    everything: list[APIRouter] = [
        asking.router,
        reviewing.router,
        watching.router,
        signing_in.router,
        *routers,
    ]
    for router in everything:
        for route in router.routes:
            path = re.sub(r"\{[^}]*\}", "1", getattr(route, "path", ""))
            found += [(method, path) for method in sorted(getattr(route, "methods", ()))]
    return found


@pytest.mark.parametrize(
    ("method", "path"), [each for each in every_route() if each[1] not in FOR_ANYBODY]
)
def test_who_has_not_signed_in_gets_nothing(client: TestClient, method: str, path: str):
    answer = client.request(method, path)
    if path.startswith("/v1/"):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "API token" in answer.json()["detail"]
    else:
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/sign-in")
        assert answer.content == b""


@pytest.mark.parametrize("path", ["/", "/v1/model", "/health", "/sign-in", "/static/console.css"])
def test_every_answer_tells_browsers_what_they_may_not_do(client: TestClient, path: str):
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    for rule in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == ("no-cache" if "static" in path else "no-store")
    assert "Strict-Transport-Security" not in headers


def test_even_an_error_of_ours_has_these_headers_and_no_traceback(
    client: TestClient, kept: Store, monkeypatch: pytest.MonkeyPatch
):
    def fail() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(kept.switch, "state", fail)
    answer = client.get("/health")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_when_the_store_is_out_of_order_nobody_is_let_in_and_a_sentence_says_so(
    client: TestClient,
    program: TestClient,
    people: dict[Role, Person],
    sign_in: SignIn,
    kept: Store,
    monkeypatch: pytest.MonkeyPatch,
):
    sign_in(client, Role.LEAD)

    def fail(*_: object) -> None:
        raise StoreError("The store could not be read: the disk is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(kept.switch, "state", fail)
        page = client.get("/nothing-is-here")
        assert page.status_code == 404
        assert page.text == "There is nothing here; the address may be mistyped."
    monkeypatch.setattr(kept.people, "session", fail)
    monkeypatch.setattr(kept.people, "token", fail)
    for answer in (client.get("/trail"), program.get("/v1/model")):
        assert answer.status_code == 503
        assert "the disk is gone" in answer.json()["detail"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:9", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:8000", 421),
        ("127.0.0.1@evil.example", 421),
        ("", 421),
    ],
)
def test_it_answers_to_its_own_names_alone(client: TestClient, host: str, status: int):
    assert client.get("/health", headers={"Host": host}).status_code == status


def test_two_names_at_once_are_none(client: TestClient):
    headers = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert client.get("/health", headers=headers).status_code == 421


def test_a_name_is_what_stands_before_the_port():
    assert [host_name(host) for host in ("a:1", "A", "[::1]:80", "[::1]", "::1")] == [
        "a",
        "a",
        "[::1]",
        "[::1]",
        ":",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Origin": "http://127.0.0.1:8000.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
    ],
)
@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
def test_a_page_of_another_site_can_send_nothing(
    client: TestClient, people: dict[Role, Person], sign_in: SignIn, headers: dict, path: str
):
    csrf = sign_in(client, Role.LEAD)
    assert client.post(path, data={"csrf": csrf}, headers=headers).status_code == 403
    assert client.get("/nothing-is-here").status_code == 404  # still signed in


def test_a_page_of_another_site_can_embed_nothing_but_may_link(client: TestClient):
    def get(site: str, mode: str, kind: str) -> int:
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}
        return client.get("/sign-in", headers=headers).status_code

    assert get("cross-site", "no-cors", "image") == 403
    assert get("same-site", "no-cors", "script") == 403
    assert get("cross-site", "navigate", "iframe") == 403
    assert get("cross-site", "cors", "empty") == 403
    assert get("cross-site", "navigate", "document") == 200
    assert get("same-origin", "cors", "empty") == 200


@pytest.mark.parametrize(
    "path", ["/cases/3", "/cases/3?method=gradient&show=1", "/a%22%3E%3Cscript%3E", "/a?x=\"'><b>;"]
)
def test_a_link_from_elsewhere_is_followed_once_more_from_here(client: TestClient, path: str):
    elsewhere = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    page = client.get(path, headers=elsewhere)
    assert page.status_code == 200
    (target,) = set(re.findall(r'url=([^"]*)"|href="([^"]*)"', page.text)[0]) - {""}
    assert page.text.count("<") == 11  # what was asked for adds no element
    again = client.get(unescape(target), headers={"Sec-Fetch-Site": "same-origin"})
    assert again.status_code == 303
    assert again.headers["Location"].startswith("/sign-in?next=/")
    assert unquote(unescape(target)) == unquote(path)


def test_a_form_without_the_sessions_token_changes_nothing(
    console: Console, client_of: Make, people: dict[Role, Person], sign_in: SignIn
):
    mine, other = client_of(console), client_of(console)
    csrf = sign_in(mine, Role.REVIEWER)
    foreign = sign_in(other, Role.LEAD)
    assert csrf != foreign
    for data in ({}, {"csrf": ""}, {"csrf": foreign}, {"csrf": csrf[:-1]}, {"csrf": "é"}):
        refused = mine.post("/sign-out", data=data)
        assert refused.status_code == 403
        assert "another session" in refused.text
    upload = mine.post("/sign-out", files={"csrf": ("a", csrf.encode())})
    assert upload.status_code == 403  # a file is not a field
    assert mine.get("/nothing-is-here").status_code == 404
    assert mine.post("/sign-out", data={"csrf": csrf}).status_code == 303
    assert mine.get("/nothing-is-here").status_code == 303


def test_the_header_does_as_well_as_the_field(
    client: TestClient, people: dict[Role, Person], sign_in: SignIn
):
    csrf = sign_in(client, Role.REVIEWER)
    assert client.post("/sign-out", headers={"X-CSRF-Token": "x"}).status_code == 403
    assert client.post("/sign-out", headers={"X-CSRF-Token": csrf}).status_code == 303


def test_the_api_takes_a_session_only_with_its_token_in_the_header(
    client: TestClient, people: dict[Role, Person], sign_in: SignIn
):
    csrf = sign_in(client, Role.REVIEWER)
    assert client.get("/v1/model").status_code == 200
    decision = {"case": 1, "choice": "accept"}
    assert client.post("/v1/decisions", json=decision).status_code == 403
    headers = {"X-CSRF-Token": csrf}
    assert client.post("/v1/decisions", json=decision, headers=headers).status_code == 404


def test_pages_take_no_api_token(program: TestClient):
    assert program.get("/v1/model").status_code == 200
    assert program.get("/").status_code == 303


@pytest.mark.parametrize(
    "authorization",
    ["Bearer", "Bearer ", "Bearer x", "Basic cmV2aWV3ZXI6", "Bearer " + "x" * 5000, "Bearer é"],
)
def test_what_is_no_token_lets_nobody_in(client: TestClient, authorization: str):
    headers = {"Authorization": authorization.encode()}
    answer = client.get("/v1/model", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401


def test_a_revoked_token_ends_at_once(
    console: Console, client_of: Make, tokens: dict[Role, str], kept: Store
):
    program = client_of(console, token=tokens[Role.LEAD])
    assert program.get("/v1/model").status_code == 200
    kept.people.revoke_token("lead-program", Actor("command line", Role.LEAD))
    assert program.get("/v1/model").status_code == 401


def cookie(client: TestClient, password: str) -> str:
    answer = client.post("/sign-in", data={"name": "lead", "password": password})
    assert answer.status_code == 303
    return answer.headers["Set-Cookie"]


def test_the_cookie_is_for_this_console_alone(
    client: TestClient, people: dict[Role, Person], password: str
):
    text = cookie(client, password)
    assert text.startswith("fedlens-8000=")
    attributes = {each.strip().lower() for each in text.split(";")[1:]}
    assert {"httponly", "path=/", "samesite=strict"} <= attributes
    assert not any(each.startswith(("domain", "max-age", "expires")) for each in attributes)


def test_with_tls_the_cookie_never_travels_without(
    console: Console, client_of: Make, people: dict[Role, Person], password: str
):
    client = client_of(console, secure_cookies=True)
    text = cookie(client, password)
    assert text.startswith("__Host-fedlens-8000=")
    attributes = {each.strip().lower() for each in text.split(";")[1:]}
    assert {"secure", "httponly", "path=/", "samesite=strict"} <= attributes
    answer = client.get("/nothing-is-here")
    assert answer.status_code == 404
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


def test_roles(console: Console, client_of: Make, tokens: dict[Role, str], picture: Callable):
    statuses = {}
    for role, token in tokens.items():
        program = client_of(console, token=token)
        statuses[role] = (
            program.get("/v1/model").status_code,
            program.post("/v1/predict", files={"image": picture()}).status_code,
            program.post("/v1/decisions", json={"case": 9, "choice": "accept"}).status_code,
            program.get("/metrics").status_code,
        )
    assert statuses == {
        Role.REVIEWER: (200, 200, 404, 403),
        Role.LEAD: (200, 200, 404, 200),
        Role.AUDITOR: (200, 403, 403, 200),
    }


@pytest.mark.parametrize(
    "path",
    [
        "/static/../console.py",
        "/static/..%2fconsole.py",
        "/static/%2e%2e/%2e%2e/contract.py",
        "/static//etc/passwd",
        "/static/console.css/..%00",
    ],
)
def test_nothing_but_static_files_is_served_from_the_disk(client: TestClient, path: str):
    answer = client.get(path)
    assert answer.status_code in (303, 404)
    assert "import" not in answer.text


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/cases/3?x=1#a", "/cases/3?x=1#a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: a=b", "/"),
        ("/a\tb", "/"),
        ("", "/"),
    ],
)
def test_no_redirect_leads_out(path: str, local: str):
    assert local_path(path) == local


def test_a_stolen_database_tells_no_secret(
    client: TestClient,
    console: Console,
    client_of: Make,
    people: dict[Role, Person],
    tokens: dict[Role, str],
    sign_in: SignIn,
    password: str,
    picture: Callable,
    tmp_path: Path,
):
    csrf = sign_in(client, Role.LEAD)
    session = next(iter(client.cookies.values()))
    program = client_of(console, token=tokens[Role.LEAD])
    upload = picture(seed=7)
    assert program.post("/v1/explain", files={"image": upload}).status_code == 200
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("review.sqlite*"))
    assert b"lead-program" in kept  # the names are there
    for secret in (session, csrf, password, *tokens.values()):
        assert secret.encode() not in kept
    assert upload not in kept
    assert upload[41:120] not in kept  # compressed pixels
