from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from fedlens.review.contract import Person, Role
from fedlens.review.store import Store
from fedlens.review.web.console import Console

Make = Callable[..., TestClient]
SignIn = Callable[[TestClient, Role], str]


def attempt(client: TestClient, name: str, password: str, **more: str):
    return client.post("/sign-in", data={"name": name, "password": password, **more})


def test_signing_in_leads_where_one_wanted_to_go(
    client: TestClient, people: dict[Role, Person], password: str
):
    asked = client.get("/cases/3?method=gradient")
    assert asked.headers["Location"] == "/sign-in?next=/cases/3%3Fmethod%3Dgradient"
    form = client.get(asked.headers["Location"])
    assert 'name="next" value="/cases/3?method=gradient"' in form.text
    answer = attempt(client, "lead", password, next="/cases/3?method=gradient")
    assert answer.headers["Location"] == "/cases/3?method=gradient"
    again = client.get("/sign-in", params={"next": "/trail"})
    assert (again.status_code, again.headers["Location"]) == (303, "/trail")


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_it_never_leads_out(
    client: TestClient, people: dict[Role, Person], password: str, path: str
):
    assert attempt(client, "lead", password, next=path).headers["Location"] == "/"


def test_a_wrong_name_and_a_wrong_password_look_the_same(
    client: TestClient, people: dict[Role, Person], password: str
):
    answers = [attempt(client, "lead", password + "x"), attempt(client, "load", password)]
    assert [answer.status_code for answer in answers] == [401, 401]
    texts = [answer.text.replace('value="load"', 'value="lead"') for answer in answers]
    assert texts[0] == texts[1]
    assert "Set-Cookie" not in answers[0].headers
    assert password not in answers[0].text


def test_what_is_typed_comes_back_as_text(client: TestClient):
    answer = attempt(client, '"><script>alert(1)</script>', "x" * 20, next='/"><b>')
    assert answer.status_code == 401
    assert "<script>alert" not in answer.text
    assert "<b>" not in answer.text


def test_whoever_guesses_is_told_to_wait(
    client: TestClient, people: dict[Role, Person], password: str
):
    statuses = [attempt(client, "reviewer", f"guess number {n}").status_code for n in range(10)]
    assert statuses == [401] * 10
    refused = attempt(client, "reviewer", password)  # even with the right one
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 16
    for same in ("REVIEWER", "\uff52eviewer"):  # a letter of another width is the same name
        assert attempt(client, same, password).status_code == 429
    assert attempt(client, "lead", password).status_code == 303  # another name is another matter


def test_one_address_cannot_try_every_name(client: TestClient):
    client.app.state.sign_in_limits.addresses.burst = 5  # type: ignore[attr-defined]
    statuses = [attempt(client, f"name {n}", "guess, guess, guess").status_code for n in range(7)]
    assert statuses == [401] * 5 + [429] * 2


def test_a_session_is_new_each_time_and_ends(
    client: TestClient, people: dict[Role, Person], sign_in: SignIn, password: str
):
    client.cookies.set("fedlens-8000", "chosen-by-somebody-else", domain="127.0.0.1")
    sign_in(client, Role.REVIEWER)
    first = dict(client.cookies)
    csrf = sign_in_again(client, password)
    second = dict(client.cookies)
    assert first != second
    assert "chosen-by-somebody-else" not in second.values()
    old = TestClient(client.app, base_url=str(client.base_url), cookies=first)
    assert old.get("/nothing-is-here", follow_redirects=False).status_code == 303  # was ended
    assert client.post("/sign-out", data={"csrf": csrf}).status_code == 303
    stolen = TestClient(client.app, base_url=str(client.base_url), cookies=second)
    assert stolen.get("/nothing-is-here", follow_redirects=False).status_code == 303


def sign_in_again(client: TestClient, password: str) -> str:
    assert attempt(client, "reviewer", password).status_code == 303
    page = client.get("/nothing-is-here").text
    return page.split('name="csrf" value="')[1].split('"')[0]


def test_a_link_works_once(client: TestClient, people: dict[Role, Person], kept: Store):
    token = kept.people.one_time_link(people[Role.LEAD])
    opened = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = client.get(f"/link/{token}", headers=opened)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert client.get("/nothing-is-here").status_code == 404
    client.cookies.clear()
    assert client.get(f"/link/{token}", headers=opened).status_code == 401
    assert client.get("/nothing-is-here").status_code == 303


def test_what_only_looks_at_a_link_does_not_use_it_up(
    client: TestClient, people: dict[Role, Person], kept: Store
):
    token = kept.people.one_time_link(people[Role.LEAD])
    prefetched = {"Sec-Fetch-Site": "none", "Sec-Purpose": "prefetch"}
    for headers in ({}, prefetched):
        page = client.get(f"/link/{token}", headers=headers)
        assert page.status_code == 200
        assert f'action="/link/{token}"' in page.text
        assert "Set-Cookie" not in page.headers
    answer = client.post(f"/link/{token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


@pytest.mark.parametrize("token", ["x", "x" * 2000, "%22%3E%3Cscript%3E", "é"])
def test_a_link_that_is_none_lets_nobody_in(client: TestClient, token: str):
    assert client.post(f"/link/{token}").status_code == 401
    page = client.get(f"/link/{token}")
    assert "<script>" not in page.text
    assert "Set-Cookie" not in page.headers


def test_who_was_deactivated_is_out_at_once(
    console: Console,
    client_of: Make,
    client: TestClient,
    people: dict[Role, Person],
    sign_in: SignIn,
    password: str,
    kept: Store,
):
    sign_in(client, Role.REVIEWER)
    kept.people.deactivate("reviewer", people[Role.LEAD].actor)
    assert client.get("/nothing-is-here").status_code == 303
    assert attempt(client_of(console), "reviewer", password).status_code == 401


def test_who_sent_something_after_their_session_ended_is_told_that_it_is_lost(client: TestClient):
    for path, back in (
        ("/cases/3/decide", "/cases/3"),
        ("/people/add", "/people"),
        ("/next", None),
        ("/stopping-by", None),
    ):
        where = client.post(path).headers["Location"]
        assert where == "/sign-in?lost=yes" + ("" if back is None else f"&next={back}")
        page = client.get(where).text
        assert "was not recorded" in page
        assert f'name="next" value="{back or "/"}"' in page
    assert "was not recorded" not in client.get("/sign-in").text
